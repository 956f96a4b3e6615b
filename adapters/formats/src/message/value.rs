//! The value of a message, read as what it is.

use std::collections::BTreeMap;

use super::frame::Framed;
use super::objects::ObjectReader;
use super::recorder::Recorder;
use super::shape::{self, Framing, Shape};
use crate::arrow;
use crate::cloud::{CloudReader, Header};
use crate::error::{Code, Fault};
use crate::gather::Sink as _;
use crate::kserve::ModelTemplate;
use crate::options::{Limits, Options};
use crate::text::Body;

/// A batch of messages is no larger, so that the last of them fits too.
const BATCH_BYTES_MAX: usize = Limits::BATCH_BYTES_MAX / 2;

/// Reads values of messages one after the other.
#[derive(Debug)]
pub(super) struct ValueReader<'o> {
    cloud: CloudReader<'o>,
    /// Whether the last object that could be an envelope was one.
    enveloped: bool,
}

impl<'o> ValueReader<'o> {
    pub(super) fn new(options: &'o Options, template: &'o ModelTemplate) -> Self {
        Self {
            cloud: CloudReader::new(options, template),
            enveloped: false,
        }
    }

    #[inline]
    pub(super) fn limits(&self) -> &'o Limits {
        &self.cloud.events.options.limits
    }

    /// The largest batch there may be before a message, and the largest message.
    #[inline]
    pub(super) fn batch_bytes_max(&self) -> usize {
        self.limits().batch_bytes_max().min(BATCH_BYTES_MAX)
    }

    /// How often each field came that its kind does not have.
    pub(super) fn unknown_fields(self) -> BTreeMap<String, u64> {
        self.cloud.events.unknown_fields
    }

    /// Reads a message, or what is left of one, as what it is.
    #[inline]
    pub(super) fn read(&mut self, shape: Shape, value: &[u8], recorder: &mut Recorder<'_, '_>) {
        if value.len() > self.batch_bytes_max() {
            return recorder.reject(*self.too_large(value.len()), value);
        }
        match shape {
            Shape::Text(objects, layout) => {
                let Some(text) = unframed(value, recorder) else {
                    return;
                };
                // A body may hold nothing, as lines that are not there yet; a message that holds nothing was meant to.
                if text.trim_ascii().is_empty() {
                    return recorder.reject(*empty(), value);
                }
                let limits = self.limits();
                let mut reader = ObjectReader {
                    cloud: &mut self.cloud,
                    objects,
                    enveloped: &mut self.enveloped,
                    retry: recorder.retry,
                };
                Body::new(text, limits, &mut reader, recorder).read(layout);
            }
            Shape::Binary(types, framing) => {
                self.cloud.types = types;
                let data = match framing {
                    Framing::Keep => Some(value),
                    Framing::Open => unframed(value, recorder),
                };
                if let Some(data) = data {
                    self.binary(data, recorder);
                }
            }
            Shape::Arrow => self.arrow(value, recorder),
        }
    }

    /// Reads a CloudEvent in binary mode.
    fn binary(&mut self, data: &[u8], recorder: &mut Recorder<'_, '_>) {
        let message = recorder.message;
        let attributes = message.headers.iter().filter_map(|(name, value)| {
            Some(Header {
                name: shape::attribute(name)?,
                value: (*value)?,
            })
        });
        let content_type = shape::content_type(message);
        let builder = recorder.builder();
        match self.cloud.binary(builder, attributes, content_type, data) {
            Ok(()) => recorder.add(1),
            Err(fault) => recorder.reject(*fault, data),
        }
    }

    fn arrow(&mut self, value: &[u8], recorder: &mut Recorder<'_, '_>) {
        let identity = recorder
            .retry
            .map(|retry| (retry.source, |row| retry.event_id(Some(row))));
        let events = &mut self.cloud.events;
        match arrow::append(value, events, recorder.builder(), identity) {
            Ok(rows) => recorder.add(rows),
            Err(fault) => recorder.reject(*fault, value),
        }
    }

    #[cold]
    fn too_large(&self, bytes: usize) -> Box<Fault> {
        let max = self.batch_bytes_max();
        let message = format!("the message is {bytes} bytes long, at most {max} are read");
        Fault::new(Code::BatchTooLarge, 0, message)
    }
}

/// The text in a value, which may have a frame around it.
#[inline]
fn unframed<'v>(value: &'v [u8], recorder: &mut Recorder<'_, '_>) -> Option<&'v [u8]> {
    let Some(framed) = Framed::open(value) else {
        return Some(value);
    };
    // What was cut out of a message has left its frame behind.
    if recorder.retry.is_some_and(|retry| !retry.is_whole()) {
        return Some(value);
    }
    match framed.json() {
        Ok(text) => {
            recorder.before = Framed::HEAD_BYTES;
            Some(text)
        }
        Err(fault) => {
            recorder.reject(*fault, value);
            None
        }
    }
}

#[cold]
fn empty() -> Box<Fault> {
    let message = "there is nothing in the message; only one without a value is a tombstone";
    Fault::new(Code::BadJson, 0, message)
}
