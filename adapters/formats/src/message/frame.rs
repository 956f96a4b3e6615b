//! The framing of schema registries: a zero byte, the number of the schema in four bytes, then the content.
//!
//! Confluent's serializers write it whatever the content is. JSON needs no schema to be read, so the frame is passed over;
//! Avro and Protobuf cannot be read without their schema, which `schema_id` would find.

use crate::error::{Code, Fault, Faulty};

/// A value in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    pub(super) schema_id: u32,
    pub(super) content: &'a [u8],
}

impl<'a> Framed<'a> {
    pub(super) const HEAD_BYTES: usize = 5;

    /// Takes a value out of its frame. No JSON text starts with a zero byte, and no Arrow stream either.
    #[inline]
    pub(super) fn open(value: &'a [u8]) -> Option<Self> {
        if value.first() != Some(&0) {
            return None;
        }
        let ([_, a, b, c, d], content) = value.split_first_chunk::<5>()?;
        Some(Self {
            schema_id: u32::from_be_bytes([*a, *b, *c, *d]),
            content,
        })
    }

    /// The content, if it is JSON: an object or array in UTF-8.
    #[cold]
    pub(super) fn json(self) -> Faulty<&'a [u8]> {
        let first = self.content.trim_ascii_start().first();
        if matches!(first, Some(b'{' | b'[')) && simdutf8::basic::from_utf8(self.content).is_ok() {
            return Ok(self.content);
        }
        let message = format!(
            "the value is framed for schema {} of a registry, and what follows is not JSON but Avro, Protobuf or the like",
            self.schema_id
        );
        Err(Fault::new(Code::NeedsSchema, 0, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart() {
        let framed = Framed::open(b"\0\0\x01\0\x02 {}").expect("a frame");
        assert_eq!((framed.schema_id, framed.content), (65_538, &b" {}"[..]));
        assert_eq!(framed.json().expect("JSON"), b" {}");
        for value in [&b""[..], b"\0", b"\0\0\0\0", b"{}", b"\x01\0\0\0\0{}"] {
            assert_eq!(Framed::open(value), None, "{value:?}");
        }
        for value in [
            &b"\0\0\0\0\x07"[..],
            b"\0\0\0\0\x07\0\x02{}",
            b"\0\0\0\0\x07{\"a\":\"\xff\"}",
        ] {
            let framed = Framed::open(value).expect("a frame");
            let fault = framed.json().expect_err("not JSON");
            assert_eq!(fault.code, Code::NeedsSchema);
            assert!(fault.message.contains("schema 7"), "{}", fault.message);
        }
    }
}
