//! Flat JSON: the fields of an event beside its `type`, or without it where the kind is known.

use modelog_engine::batch::EventBatchBuilder;

use crate::error::Faulty;
use crate::event::{EventReader, Known, Spot};
use crate::text::{Here, ReadEvent};

/// Reads flat events.
#[derive(Debug)]
pub(crate) struct FlatReader<'o> {
    pub(crate) events: EventReader<'o>,
    pub(crate) known: Known<'o>,
}

impl ReadEvent for FlatReader<'_> {
    #[inline]
    fn read(&mut self, builder: &mut EventBatchBuilder, here: Here<'_>) -> Faulty<usize> {
        self.events.flat(builder, here, self.known)
    }
}

impl EventReader<'_> {
    /// Reads a flat event.
    #[inline]
    pub(crate) fn flat(
        &mut self,
        builder: &mut EventBatchBuilder,
        here: Here<'_>,
        known: Known<'_>,
    ) -> Faulty<usize> {
        self.unknown.truncate(0);
        let spot = Spot {
            text: here.text,
            start: here.start,
            alone: here.alone,
            depth: 1,
        };
        self.event(builder, spot, known)
    }
}
