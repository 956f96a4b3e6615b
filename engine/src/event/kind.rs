//! The kinds of events, and of the entities they name.

use std::fmt;
use std::str::FromStr;

/// An event's type. The numbers are part of the log's format: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    ModelCreated = 0,
    ModelVersionCreated = 1,
    ModelVersionAliased = 2,
    DatasetRegistered = 3,
    DatasetUsed = 4,
    ExperimentCreated = 5,
    RunStarted = 6,
    HyperparametersLogged = 7,
    MetricLogged = 8,
    ArtifactLogged = 9,
    RunFinished = 10,
    PredictionLogged = 11,
    FeedbackLogged = 12,
    TagsSet = 13,
    EntityDeleted = 14,
    EntityRestored = 15,
    EventLogged = 16,
    EntityNamed = 17,
    EventRejected = 18,
    SourceGapRecorded = 19,
}

impl Kind {
    /// All kinds, at the index of their number.
    pub const ALL: [Self; 20] = [
        Self::ModelCreated,
        Self::ModelVersionCreated,
        Self::ModelVersionAliased,
        Self::DatasetRegistered,
        Self::DatasetUsed,
        Self::ExperimentCreated,
        Self::RunStarted,
        Self::HyperparametersLogged,
        Self::MetricLogged,
        Self::ArtifactLogged,
        Self::RunFinished,
        Self::PredictionLogged,
        Self::FeedbackLogged,
        Self::TagsSet,
        Self::EntityDeleted,
        Self::EntityRestored,
        Self::EventLogged,
        Self::EntityNamed,
        Self::EventRejected,
        Self::SourceGapRecorded,
    ];

    /// The name as we write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ModelCreated => "ModelCreated",
            Self::ModelVersionCreated => "ModelVersionCreated",
            Self::ModelVersionAliased => "ModelVersionAliased",
            Self::DatasetRegistered => "DatasetRegistered",
            Self::DatasetUsed => "DatasetUsed",
            Self::ExperimentCreated => "ExperimentCreated",
            Self::RunStarted => "RunStarted",
            Self::HyperparametersLogged => "HyperparametersLogged",
            Self::MetricLogged => "MetricLogged",
            Self::ArtifactLogged => "ArtifactLogged",
            Self::RunFinished => "RunFinished",
            Self::PredictionLogged => "PredictionLogged",
            Self::FeedbackLogged => "FeedbackLogged",
            Self::TagsSet => "TagsSet",
            Self::EntityDeleted => "EntityDeleted",
            Self::EntityRestored => "EntityRestored",
            Self::EventLogged => "EventLogged",
            Self::EntityNamed => "EntityNamed",
            Self::EventRejected => "EventRejected",
            Self::SourceGapRecorded => "SourceGapRecorded",
        }
    }

    /// The kind with this number, as read from a log.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number written to the log.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether only the engine itself may write events of this kind.
    #[must_use]
    pub const fn is_internal(self) -> bool {
        matches!(
            self,
            Self::EntityNamed | Self::EventRejected | Self::SourceGapRecorded
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no kind of event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no kind of event is called {0:?}")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    /// `ModelCreated`, `model_created` and `model.created` are the same.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let spelled = |name: &str| {
            let mut given = text.bytes().filter(|byte| !matches!(byte, b'_' | b'.'));
            name.bytes().all(|expected| {
                given
                    .next()
                    .is_some_and(|byte| byte.eq_ignore_ascii_case(&expected))
            }) && given.next().is_none()
        };
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .or_else(|| Self::ALL.into_iter().find(|kind| spelled(kind.name())))
            .ok_or_else(|| UnknownKind(text.chars().take(64).collect()))
    }
}

/// What a name can stand for. The numbers are part of the log's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntityKind {
    Model = 0,
    /// A version of a model; its name is unique within the model.
    Version = 1,
    Dataset = 2,
    Experiment = 3,
    Run = 4,
}

impl EntityKind {
    /// All of them, at the index of their number.
    pub const ALL: [Self; 5] = [
        Self::Model,
        Self::Version,
        Self::Dataset,
        Self::Experiment,
        Self::Run,
    ];

    /// The word used in keys, paths and references.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Version => "version",
            Self::Dataset => "dataset",
            Self::Experiment => "experiment",
            Self::Run => "run",
        }
    }

    /// The kind with this number, as read from a log.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_in_three_spellings() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), Some(kind));
            let mut snake = String::new();
            for (at, letter) in kind.name().char_indices() {
                if letter.is_uppercase() && at > 0 {
                    snake.push('_');
                }
                snake.extend(letter.to_lowercase());
            }
            for spelling in [
                kind.name().to_owned(),
                snake.clone(),
                snake.replace('_', "."),
            ] {
                assert_eq!(spelling.parse(), Ok(kind), "{spelling}");
            }
        }
        assert!("Model".parse::<Kind>().is_err());
        assert!("ModelCreatedX".parse::<Kind>().is_err());
        assert_eq!(Kind::from_number(20), None);
    }
}
