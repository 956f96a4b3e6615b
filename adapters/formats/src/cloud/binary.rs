//! Binary mode: attributes in headers, data as the body.
//!
//! The headers are spelled out as JSON first, sorted by name; from there on nothing tells the event from a structured one.
//!
//! They are sorted because whoever sends an event again may send its headers in another order, and it must be the same
//! event, `extra` included.

use std::ops::Range;

use modelog_engine::batch::EventBatchBuilder;

use super::{Attribute, CloudReader, Data, Envelope, Value};
use crate::error::{Code, Fault, Faulty, OUTSIDE};
use crate::event::check_size;
use crate::json::push_string;
use crate::scan::Str;

/// Whether a content type is that of a structured CloudEvent, or of several.
pub(crate) fn is_structured(content_type: &[u8]) -> bool {
    const PREFIX: &[u8] = b"application/cloudevents";
    let start = content_type.get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// A header that holds an attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'a> {
    /// The attribute's name, in any case.
    pub(crate) name: &'a str,
    pub(crate) value: &'a [u8],
}

/// Attributes of headers, as an envelope has them. The buffers are used again for the next event.
#[derive(Debug, Default)]
pub(super) struct Spelled {
    texts: String,
    attributes: Vec<Span>,
}

/// Where the name and the value of an attribute lie in the texts.
#[derive(Debug)]
struct Span {
    name: Range<usize>,
    json: Range<usize>,
}

impl Spelled {
    fn fill<'h>(
        &mut self,
        headers: impl Iterator<Item = Header<'h>>,
        content_type: Option<&[u8]>,
    ) -> Faulty<()> {
        const CONTENT_TYPE: &str = Attribute::DataContentType.name();
        self.texts.clear();
        self.attributes.clear();
        for Header { name, value } in headers {
            let named = |attribute: Attribute| name.eq_ignore_ascii_case(attribute.name());
            if named(Attribute::Data) || named(Attribute::DataBase64) {
                let message = "in binary mode the data is the body, not a header";
                return Err(Fault::new(Code::BadCloudEvent, OUTSIDE, message).in_field(name));
            }
            // The header of the body says the same with more right.
            if content_type.is_none() || !named(Attribute::DataContentType) {
                self.push(name, value)?;
            }
        }
        if let Some(value) = content_type {
            self.push(CONTENT_TYPE, value)?;
        }
        let texts = &self.texts;
        let name = |span: &Span| &texts[span.name.clone()];
        self.attributes
            .sort_unstable_by(|one, other| name(one).cmp(name(other)));
        Ok(())
    }

    fn push(&mut self, name: &str, value: &[u8]) -> Faulty<()> {
        let text = simdutf8::basic::from_utf8(value).map_err(|_| {
            let message = "the value of a header is not UTF-8";
            Fault::new(Code::InvalidUtf8, OUTSIDE, message).in_field(name)
        })?;
        let start = self.texts.len();
        self.texts.push_str(name);
        self.texts[start..].make_ascii_lowercase();
        let end = self.texts.len();
        push_string(text, &mut self.texts);
        self.attributes.push(Span {
            name: start..end,
            json: end..self.texts.len(),
        });
        Ok(())
    }
}

impl CloudReader<'_> {
    /// Reads an event in binary mode. After a fault the batch is as before.
    pub(crate) fn binary<'h>(
        &mut self,
        builder: &mut EventBatchBuilder,
        headers: impl Iterator<Item = Header<'h>>,
        content_type: Option<&[u8]>,
        data: &[u8],
    ) -> Faulty<()> {
        self.events.unknown.truncate(0);
        check_size(data.len(), self.events.options.limits.event_bytes, 0)?;
        let mut spelled = std::mem::take(&mut self.headers);
        let read = spelled
            .fill(headers, content_type)
            .and_then(|()| self.spelled(builder, &spelled, data));
        self.headers = spelled;
        read
    }

    fn spelled(
        &mut self,
        builder: &mut EventBatchBuilder,
        spelled: &Spelled,
        data: &[u8],
    ) -> Faulty<()> {
        let mut envelope = Envelope::new(OUTSIDE);
        for Span { name, json } in &spelled.attributes {
            let key = Str {
                raw: &spelled.texts[name.clone()],
                escaped: false,
                at: OUTSIDE,
            };
            let value = Value {
                json: &spelled.texts[json.clone()],
                at: OUTSIDE,
            };
            envelope.note(key, value, &mut self.events, &mut self.name)?;
        }
        let data = match data {
            [] => Data::Nothing,
            bytes => Data::Bytes { bytes, at: None },
        };
        self.content(builder, &envelope, data)
    }
}
