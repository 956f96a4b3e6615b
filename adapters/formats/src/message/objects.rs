//! The objects in the text of a message: flat events, or envelopes of CloudEvents.

use modelog_engine::batch::EventBatchBuilder;

use super::retry::Retry;
use super::shape::Objects;
use crate::cloud::{CloudReader, Types};
use crate::error::{Fault, Faulty};
use crate::event::{Known, SPEC_VERSION};
use crate::scan::Scanner;
use crate::text::{Here, ReadEvent};

/// Reads the objects of one message.
#[derive(Debug)]
pub(super) struct ObjectReader<'r, 'o> {
    pub(super) cloud: &'r mut CloudReader<'o>,
    pub(super) objects: Objects,
    /// Whether the object before was an envelope, and so this one probably is.
    pub(super) enveloped: &'r mut bool,
    /// What is known if the message is read again.
    pub(super) retry: Option<&'r Retry<'r>>,
}

impl ReadEvent for ObjectReader<'_, '_> {
    #[inline]
    fn read(&mut self, builder: &mut EventBatchBuilder, here: Here<'_>) -> Faulty<usize> {
        let not_enveloped = match self.objects {
            Objects::Flat => false,
            Objects::Either => true,
            Objects::Envelopes(types) => return self.envelope(builder, here, types),
        };
        if not_enveloped && *self.enveloped {
            *self.enveloped = self.is_enveloped(here);
            if *self.enveloped {
                return self.envelope(builder, here, Types::All);
            }
        }
        let known = Known {
            not_enveloped,
            ..Known::default()
        };
        let events = &mut self.cloud.events;
        let read = match self.retry {
            None => events.flat(builder, here, known),
            Some(retry) => retry.flat(events, builder, here, known),
        };
        match read {
            Err(fault) if not_enveloped => self.other(builder, here, fault),
            read => read,
        }
    }
}

impl ObjectReader<'_, '_> {
    fn envelope(
        &mut self,
        builder: &mut EventBatchBuilder,
        here: Here<'_>,
        types: Types,
    ) -> Faulty<usize> {
        self.cloud.types = types;
        self.cloud.read(builder, here)
    }

    fn is_enveloped(&mut self, here: Here<'_>) -> bool {
        let scan = Scanner::new(here.text, here.start, &self.cloud.events.options.limits);
        let version = scan.member(SPEC_VERSION, 1, &mut self.cloud.name);
        matches!(version, Ok(Some(_)))
    }

    /// Something that is no flat event: the envelope of a CloudEvent, or at fault. So that is looked for only now, and flat
    /// events need not be searched.
    #[cold]
    fn other(
        &mut self,
        builder: &mut EventBatchBuilder,
        here: Here<'_>,
        fault: Box<Fault>,
    ) -> Faulty<usize> {
        *self.enveloped = self.is_enveloped(here);
        match *self.enveloped {
            true => self.envelope(builder, here, Types::All),
            false => Err(fault),
        }
    }
}
