//! A portion becomes a batch: every message is read, and every stretch becomes an origin.

use std::ops::Range;
use std::sync::Arc;

use modelog_engine::batch::EventBatch;
use modelog_engine::metrics as names;
use modelog_engine::origin::{Origin, kafka_source};
use modelog_formats::{
    Message, MessageFormat, MessageReader, ModelTemplate, Options, Outcome, Place,
};

use crate::config::Format;
use crate::portion::{Portion, Stretch};

/// Reads portions. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    format: MessageFormat,
    options: Options,
    template: ModelTemplate,
    group: Arc<str>,
}

impl From<Format> for MessageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Auto => Self::Auto,
            Format::Json => Self::Json,
            Format::CloudEvents => Self::CloudEvents,
            Format::KServe => Self::KServe,
        }
    }
}

impl Decoder {
    pub(crate) fn new(
        format: Format,
        options: Options,
        template: ModelTemplate,
        group: Arc<str>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                format: format.into(),
                options,
                template,
                group,
            }),
        }
    }

    /// Reads a portion without the stretches that are `left_out`. It is one batch, unless its messages say much more than
    /// their length.
    pub(crate) fn decode(&self, portion: &Portion, left_out: &[bool]) -> Vec<EventBatch> {
        // All partitions are of one cluster.
        let cluster = portion
            .stretches
            .first()
            .map(|stretch| &stretch.assigned.cluster);
        let source = cluster.and_then(|cluster| kafka_source(cluster));
        let mut batches = Batches {
            decoder: &self.inner,
            source: source.as_deref(),
            done: Vec::new(),
            reader: self.inner.reader(source.as_deref()),
            origins: Vec::with_capacity(portion.stretches.len()),
        };
        let mut headers = Vec::new();
        let read = portion.stretches.iter().zip(left_out);
        for (stretch, _) in read.filter(|(_, left_out)| !**left_out) {
            let (bytes, tombstones) = batches.stretch(portion, stretch, &mut headers);
            self.count(stretch, bytes, tombstones);
        }
        batches.finish()
    }

    fn count(&self, stretch: &Stretch, bytes: usize, tombstones: u64) {
        let labels = || {
            [
                ("group", self.inner.group.to_string()),
                ("topic", stretch.assigned.topic.to_string()),
            ]
        };
        let messages = stretch.entries.len() as u64;
        metrics::counter!(names::KAFKA_MESSAGES, &labels()).increment(messages);
        metrics::counter!(names::KAFKA_BYTES, &labels()).increment(bytes as u64);
        if tombstones > 0 {
            metrics::counter!(names::KAFKA_TOMBSTONES, &labels()).increment(tombstones);
        }
    }
}

impl Inner {
    fn reader<'d>(&'d self, source: Option<&'d str>) -> MessageReader<'d> {
        let reader = MessageReader::new(self.format, &self.options, &self.template);
        match source {
            None => reader,
            Some(source) => reader
                .with_source(source)
                .expect("a name of a cluster is only taken if events can carry it"),
        }
    }
}

/// The batches that a portion becomes.
struct Batches<'d> {
    decoder: &'d Inner,
    source: Option<&'d str>,
    done: Vec<EventBatch>,
    reader: MessageReader<'d>,
    /// Of the batch that grows.
    origins: Vec<Origin>,
}

impl<'d> Batches<'d> {
    /// Reads a stretch; answers the bytes of its messages, and how many of them said nothing.
    fn stretch<'p>(
        &mut self,
        portion: &'p Portion,
        stretch: &'p Stretch,
        headers: &mut Vec<(&'p str, Option<&'p [u8]>)>,
    ) -> (usize, u64) {
        let (mut bytes, mut tombstones) = (0, 0);
        let mut from = stretch.first;
        let (mut first_ord, mut rejected_rows) = (self.reader.rows(), 0);
        for entry in &stretch.entries {
            headers.clear();
            headers.extend(portion.headers(entry));
            let message = Message {
                place: Place {
                    topic: &stretch.assigned.topic,
                    partition: stretch.assigned.partition,
                    position: entry.position,
                },
                value: portion.value(entry),
                key: portion.key(entry),
                headers,
            };
            bytes += message.value.map_or(0, <[u8]>::len) + message.key.map_or(0, <[u8]>::len);
            let mut outcome = self.reader.read(&message);
            if outcome == Outcome::Full {
                self.origin(stretch, from..entry.position, first_ord, rejected_rows);
                self.cut();
                (from, first_ord, rejected_rows) = (entry.position, 0, 0);
                outcome = self.reader.read(&message);
            }
            match outcome {
                Outcome::Events(_) => {}
                Outcome::Rejected { rejected, .. } => rejected_rows += rejected,
                Outcome::Tombstone => tombstones += 1,
                Outcome::Full => unreachable!("an empty batch takes every message"),
            }
        }
        self.origin(stretch, from..stretch.next, first_ord, rejected_rows);
        (bytes, tombstones)
    }

    fn origin(&mut self, stretch: &Stretch, positions: Range<i64>, first_ord: u32, rejected: u32) {
        let Range { start, end } = positions;
        // No positions would mean something else.
        if start < end {
            self.origins.push(Origin {
                source: stretch.assigned.source(start, end, stretch.leader_epoch),
                first_ord,
                rows: self.reader.rows() - first_ord,
                rejected,
                duplicates: 0,
            });
        }
    }

    /// Ends a batch and begins another one.
    fn cut(&mut self) {
        let reader = std::mem::replace(&mut self.reader, self.decoder.reader(self.source));
        let mut batch = reader.finish().batch;
        for origin in self.origins.drain(..) {
            batch.add_origin(origin);
        }
        self.done.push(batch);
    }

    fn finish(mut self) -> Vec<EventBatch> {
        self.cut();
        self.done
    }
}
