//! Text written as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::scan::plain_end;

/// Appends a text as a JSON string.
pub(crate) fn push_string(text: &str, out: &mut String) {
    out.push('"');
    push_inside(text, out);
    out.push('"');
}

/// Appends a text as it stands between the quotes of a JSON string.
pub(crate) fn push_inside(text: &str, out: &mut String) {
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_end(rest.as_bytes(), 0));
        out.push_str(plain);
        let Some(byte) = special.bytes().next() else {
            return;
        };
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(control >> 4)]));
                out.push(char::from(HEX[usize::from(control & 15)]));
            }
        }
        rest = &special[1..];
    }
}

/// Appends bytes that are no text as the object `{"base64":"…"}`.
pub(crate) fn push_bytes(bytes: &[u8], out: &mut String) {
    out.push_str("{\"base64\":\"");
    STANDARD.encode_string(bytes, out);
    out.push_str("\"}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_are_read_as_they_were(text in any::<String>(), mixed in "[\\x00-\\x7f]{0,80}") {
            for text in [text, mixed] {
                let mut json = String::new();
                push_string(&text, &mut json);
                prop_assert_eq!(serde_json::from_str::<String>(&json).ok(), Some(text));
            }
        }
    }

    #[test]
    fn bytes_are_an_object() {
        let mut json = String::new();
        push_bytes(b"\xff\x00", &mut json);
        assert_eq!(json, r#"{"base64":"/wA="}"#);
    }
}
