//! A portion becomes a batch: every message is read, and every stretch becomes an origin.

use std::sync::Arc;

use modelog_engine::batch::EventBatch;
use modelog_engine::metrics as names;
use modelog_engine::origin::Origin;
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

    /// Reads a portion without the stretches that are `left_out`.
    pub(crate) fn decode(&self, portion: &Portion, left_out: &[bool]) -> EventBatch {
        let Inner {
            format,
            options,
            template,
            ..
        } = &*self.inner;
        let mut reader = MessageReader::new(*format, options, template);
        let mut origins = Vec::with_capacity(portion.stretches.len());
        let mut headers = Vec::new();
        for (stretch, _) in portion
            .stretches
            .iter()
            .zip(left_out)
            .filter(|(_, left_out)| !**left_out)
        {
            origins.push(self.stretch(&mut reader, portion, stretch, &mut headers));
        }
        let mut batch = reader.finish().batch;
        for origin in origins {
            batch.add_origin(origin);
        }
        batch
    }

    fn stretch<'p>(
        &self,
        reader: &mut MessageReader<'_>,
        portion: &'p Portion,
        stretch: &'p Stretch,
        headers: &mut Vec<(&'p str, Option<&'p [u8]>)>,
    ) -> Origin {
        let first_ord = reader.rows();
        let rejected_before = reader.rejected();
        let (mut bytes, mut tombstones) = (0, 0);
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
            if matches!(reader.read(&message), Outcome::Tombstone) {
                tombstones += 1;
            }
        }
        self.count(stretch, bytes, tombstones);
        Origin {
            source: stretch
                .assigned
                .source(stretch.first, stretch.next, stretch.leader_epoch),
            first_ord,
            rows: reader.rows() - first_ord,
            rejected: reader.rejected() - rejected_before,
            duplicates: 0,
        }
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
