//! Messages as they come: found to be of a partition of ours, and copied into the portion that is being filled.

use std::sync::Arc;
use std::time::Duration;

use modelog_engine::Clock;
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::native;
use crate::partition::Reading;
use crate::portion::{Portion, Raw};

/// A portion is sent when it has this many bytes,
const PORTION_BYTES: usize = 1 << 20;
/// or messages,
const PORTION_MESSAGES: usize = 8192;
/// or when its first message has waited for this long.
const PORTION_TIME: Duration = Duration::from_millis(5);

/// The partitions that are being read, and the portion that is being filled.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) partitions: Vec<Reading>,
    /// The topic's handle, the number and the place in `partitions` of the last message: most messages are of the same
    /// partition as the one before.
    latest: Option<(usize, i32, usize)>,
    portion: Portion,
    /// When the portion was begun.
    begun: Duration,
    clock: Arc<dyn Clock>,
}

impl Intake {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            partitions: Vec::new(),
            latest: None,
            portion: Portion::with_capacity(PORTION_BYTES),
            begun: clock.monotonic(),
            clock,
        }
    }

    /// The place of a partition of ours.
    pub(crate) fn find(&self, topic: &str, partition: i32) -> Option<usize> {
        self.partitions
            .iter()
            .position(|reading| reading.is(topic, partition))
    }

    /// A partition is read from now on.
    pub(crate) fn give(&mut self, reading: Reading) {
        self.latest = None;
        self.partitions.push(reading);
    }

    /// A partition is no longer read. The portion must not have anything of it.
    pub(crate) fn take_away(&mut self, place: usize) -> Reading {
        self.latest = None;
        let reading = self.partitions.swap_remove(place);
        debug_assert!(reading.stretch.is_none(), "the portion was sent before");
        reading
    }

    /// Copies a message, unless it was read before or is of no partition of ours.
    pub(crate) fn take(&mut self, message: &BorrowedMessage<'_>) {
        let Some(place) = self.place_of(message) else {
            return;
        };
        let (position, reading) = (message.offset(), &self.partitions[place]);
        if position < reading.next || reading.halted.is_some() || reading.assigned.is_lost() {
            return;
        }
        let stretch = self.stretch(place);
        native::for_each_header(message, |name, value| self.portion.add_header(name, value));
        self.portion.add(
            stretch,
            Raw {
                position,
                leader_epoch: native::leader_epoch(message),
                value: message.payload(),
                key: message.key(),
            },
        );
        self.partitions[place].advance(position + 1);
    }

    /// Notes that a partition holds nothing for a reader up to a position.
    pub(crate) fn pass_over(&mut self, place: usize, next: i64) {
        let stretch = self.stretch(place);
        self.portion.stretches[stretch].next = next;
        self.partitions[place].advance(next);
    }

    fn place_of(&mut self, message: &BorrowedMessage<'_>) -> Option<usize> {
        let (topic, partition) = (message.topic_ptr() as usize, message.partition());
        match self.latest {
            Some((of, number, place)) if (of, number) == (topic, partition) => Some(place),
            _ => {
                let place = self.find(message.topic(), partition)?;
                self.latest = Some((topic, partition, place));
                Some(place)
            }
        }
    }

    /// How long the portion may wait for more; as long as it likes while it is empty.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let left =
            || PORTION_TIME.saturating_sub(self.clock.monotonic().saturating_sub(self.begun));
        (!self.portion.is_empty()).then(left)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.portion.bytes() >= PORTION_BYTES || self.portion.messages() >= PORTION_MESSAGES
    }

    /// The portion, if it holds anything; another one is begun.
    pub(crate) fn cut(&mut self) -> Option<Portion> {
        if self.portion.is_empty() {
            return None;
        }
        for reading in &mut self.partitions {
            reading.stretch = None;
        }
        Some(std::mem::replace(
            &mut self.portion,
            Portion::with_capacity(PORTION_BYTES),
        ))
    }

    /// The stretch of a partition in the portion.
    fn stretch(&mut self, place: usize) -> usize {
        if self.portion.is_empty() {
            self.begun = self.clock.monotonic();
        }
        let reading = &mut self.partitions[place];
        *reading
            .stretch
            .get_or_insert_with(|| self.portion.begin(&reading.assigned, reading.next))
    }
}
