//! Flat JSON: the fields of an event beside its `type`, or without it where the kind is known.

use std::collections::BTreeMap;

use modelog_engine::batch::EventBatchBuilder;

use crate::error::Faulty;
use crate::event::{EventReader, Known, Spot};
use crate::text::ReadEvent;

/// Reads flat events.
#[derive(Debug)]
pub(crate) struct FlatReader<'o> {
    pub(crate) events: EventReader<'o>,
    pub(crate) known: Known<'o>,
}

impl ReadEvent for FlatReader<'_> {
    #[inline]
    fn read(
        &mut self,
        builder: &mut EventBatchBuilder,
        text: &str,
        start: usize,
        alone: bool,
    ) -> Faulty<usize> {
        self.events.unknown.truncate(0);
        let spot = Spot {
            text,
            start,
            alone,
            depth: 1,
        };
        self.events.event(builder, spot, self.known)
    }

    fn unknown_fields(self) -> BTreeMap<String, u64> {
        self.events.unknown_fields
    }
}
