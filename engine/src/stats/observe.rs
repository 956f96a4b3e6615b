//! Telling others what the fold counts, in the moment it counts it.
//!
//! Metrics of models are rates: they want each prediction and label once, as the fold recognises them, and never those
//! of a replay. An observer is told exactly that, so nobody joins feedback with predictions a second time.

use std::fmt;

use super::version::{LabelFacts, PredictionFacts};
use crate::names::EntityId;
use crate::{Offset, Timestamp};

/// Who wants to know what the fold counts.
///
/// It is called on the fold's thread, which waits for it: be quick, and do not look at the statistics meanwhile.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Something was counted.
    fn observe(&self, observation: &Observation);
}

/// Something the fold counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The version it was counted for.
    pub version: EntityId,
    /// The event that brought it.
    pub offset: Offset,
    /// When that event happened.
    pub time: Timestamp,
    /// When the log took it.
    pub append_time: Timestamp,
    pub fact: Fact,
}

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fact {
    /// A prediction, when its output or error arrived.
    Prediction(PredictionFacts),
    /// What the latest feedback says of a prediction, when that became known or changed.
    Label {
        label: LabelFacts,
        /// What was known before, of the same prediction.
        replaced: Option<LabelFacts>,
    },
}
