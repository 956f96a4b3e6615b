//! JSON texts like the one before: in a column most differ only in the values of their numbers and strings.
//!
//! A text that has been checked is taken apart at its numbers and strings. Another with the same pieces in between, numbers
//! where numbers were, and strings without escapes where such strings were, is valid too, and as deep: that is all the
//! checks ask. Comparing the pieces costs about half of reading structure, keys and all.
//!
//! # Invariants
//! E1. What [`Alike::fits`] accepts, the full check accepts. What it does not accept may be valid all the same.

use crate::scan::plain_end;

/// Texts with more numbers and strings are read in full each time.
const PIECES_MAX: usize = 64;

/// The last text that was taken apart.
#[derive(Debug, Default)]
pub(super) struct Alike {
    text: String,
    pieces: Vec<Piece>,
    /// How many texts in a row were not like it.
    others: u32,
}

/// A piece that is the same, and what follows it.
#[derive(Debug)]
struct Piece {
    from: usize,
    to: usize,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Number,
    /// What is between the quotes, which belong to the pieces.
    String,
    End,
}

impl Alike {
    /// Whether a text is valid because the one before was.
    #[inline]
    pub(super) fn fits(&mut self, text: &str) -> bool {
        let fits = self.compare(text.as_bytes()).is_some();
        self.others = if fits {
            0
        } else {
            self.others.saturating_add(1)
        };
        fits
    }

    fn compare(&self, bytes: &[u8]) -> Option<()> {
        let mut at = 0;
        for piece in &self.pieces {
            let same = &self.text.as_bytes()[piece.from..piece.to];
            if !bytes[at..].starts_with(same) {
                return None;
            }
            at += same.len();
            at = match piece.then {
                Then::Number => number_end(bytes, at)?,
                Then::String => plain_end(bytes, at),
                Then::End => return (at == bytes.len()).then_some(()),
            };
        }
        None
    }

    /// Takes a text that was checked in full as the one to compare with. Where no two are alike that would be for nothing,
    /// so it is done less and less often there.
    pub(super) fn learn(&mut self, text: &str) {
        if !self.others.is_power_of_two() {
            return;
        }
        self.text.clear();
        self.text.push_str(text);
        if take_apart(text.as_bytes(), &mut self.pieces).is_none() {
            self.pieces.clear();
        }
    }
}

/// The pieces of a valid text; nothing if there are too many.
fn take_apart(bytes: &[u8], pieces: &mut Vec<Piece>) -> Option<()> {
    pieces.clear();
    let (mut from, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        let (to, then, next) = match byte {
            b'"' => {
                let end = plain_end(bytes, at + 1);
                if bytes.get(end) != Some(&b'"') {
                    at = escaped_end(bytes, end)? + 1;
                    continue;
                }
                if is_key(bytes, end + 1) {
                    at = end + 1;
                    continue;
                }
                (at + 1, Then::String, end)
            }
            b'-' | b'0'..=b'9' => (at, Then::Number, number_end(bytes, at)?),
            _ => {
                at += 1;
                continue;
            }
        };
        if pieces.len() == PIECES_MAX {
            return None;
        }
        pieces.push(Piece { from, to, then });
        from = next;
        // A string's closing quote is the first byte of the next piece, and opens no other.
        at = next + usize::from(matches!(then, Then::String));
    }
    pieces.push(Piece {
        from,
        to: bytes.len(),
        then: Then::End,
    });
    Some(())
}

/// Whether a string that ended here names a member.
fn is_key(bytes: &[u8], end: usize) -> bool {
    let mut behind = bytes[end..].iter();
    behind.find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

/// Where the quote is that ends a string with escapes.
fn escaped_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where a number ends; nothing if there is none.
#[inline]
fn number_end(bytes: &[u8], from: usize) -> Option<usize> {
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(from + count)
    };
    let first = from + usize::from(bytes.get(from) == Some(&b'-'));
    let mut at = digits(first)?;
    if at > first + 1 && bytes[first] == b'0' {
        return None;
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let signed = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        at = digits(at + 1 + usize::from(signed))?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alike(first: &str) -> Alike {
        let mut alike = Alike::default();
        assert!(!alike.fits(first), "nothing is known yet");
        alike.learn(first);
        alike
    }

    #[test]
    fn texts_that_differ_in_values_fit() {
        for (first, others) in [
            (
                r#"{"class":7,"scores":[0.25,-1e-3], "name" : "a","ok":true}"#,
                &[
                    r#"{"class":123,"scores":[0,10.5E+7], "name" : "äö {1}","ok":true}"#,
                    r#"{"class":0,"scores":[1,2], "name" : "","ok":true}"#,
                ][..],
            ),
            ("1.5", &["0", "-2e9"]),
            (r#""""#, &[r#""text""#]),
            (r#"{"a\"b":1,"c":"\n"}"#, &[r#"{"a\"b":22,"c":"\n"}"#]),
            ("[]", &["[]"]),
        ] {
            let mut alike = alike(first);
            for other in others {
                assert!(alike.fits(other), "{other}");
            }
            assert!(alike.fits(first), "{first}");
        }
    }

    #[test]
    fn what_is_no_json_does_not_fit() {
        for (first, others) in [
            (
                r#"{"n":1,"s":"a"}"#,
                &[
                    r#"{"n":01,"s":"a"}"#,
                    r#"{"n":,"s":"a"}"#,
                    r#"{"n":-,"s":"a"}"#,
                    r#"{"n":1.,"s":"a"}"#,
                    r#"{"n":1e,"s":"a"}"#,
                    r#"{"n":.5,"s":"a"}"#,
                    r#"{"n":+1,"s":"a"}"#,
                    r#"{"n":1 2,"s":"a"}"#,
                    r#"{"n":1,"s":"a"#,
                    r#"{"n":1,"s":"a"} "#,
                    "{\"n\":1,\"s\":\"a\u{1}\"}",
                    r#"{"n":1,"s":"\ud800"}"#,
                    r#"{"n":1,"s":"\x"}"#,
                    r#"{"n":1,"s":"a"b"}"#,
                    "",
                ][..],
            ),
            ("1", &["", "-", "1 ", "1]"]),
        ] {
            let mut alike = alike(first);
            for other in others {
                assert!(!alike.fits(other), "{other}");
            }
        }
    }

    #[test]
    fn texts_that_are_never_alike_are_hardly_taken_apart() {
        let mut alike = Alike::default();
        let mut taken = 0;
        for length in 0..1_000 {
            let text = format!("[{}]", "true,".repeat(length) + "null");
            assert!(!alike.fits(&text));
            alike.learn(&text);
            taken += usize::from(alike.text == text);
        }
        assert_eq!(taken, 10);
    }

    /// JSON, or something near it.
    fn texts() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\"a\"", "\"a\":", "1", "0", "-", ".5", "e",
            "E+1", "true", "null", " ", "\\u00", "\\\"", "é", "\u{1}",
        ]);
        let near = prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat());
        let leaf = prop_oneof![
            any::<i32>().prop_map(|number| number.to_string()),
            any::<f64>()
                .prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(|number| number.to_string()),
            "\"[a-c]{0,3}\"",
            Just(r#""\n""#.to_owned()),
            Just("true".to_owned()),
        ];
        let valid = leaf.prop_recursive(3, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec(inner, 0..3).prop_map(|items| {
                    let members = items.iter().map(|item| format!("\"k\":{item}"));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
                }),
            ]
        });
        prop_oneof![near, valid]
    }

    proptest! {
        /// E1, against serde_json: of a text that fits, and of one in which some bytes were changed.
        #[test]
        fn what_fits_is_json(
            first in texts(),
            other in texts(),
            at in any::<prop::sample::Index>(),
            put in prop::sample::select(vec!["", "0", "1", "\"", "\\", "-", ".", "e", ",", "]", " ", "\u{2}", "x"]),
        ) {
            let is_json = |text: &str| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
            prop_assume!(is_json(&first));
            let mut alike = alike(&first);
            prop_assert!(alike.fits(&first) || alike.pieces.is_empty());
            let places: Vec<usize> = first.char_indices().map(|(at, _)| at).collect();
            let place = places[at.index(places.len())];
            let changed = format!("{}{put}{}", &first[..place], &first[place..]);
            let cut = first.chars().next().map_or(0, char::len_utf8);
            for text in [&other[..], &changed, &first[cut..]] {
                if alike.fits(text) {
                    prop_assert!(is_json(text), "{first:?} {text:?}");
                }
            }
        }
    }
}
