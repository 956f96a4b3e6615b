//! Replies of the server (RESP2), taken apart where they lie: no value is copied.
//!
//! They are a list of parts in the order they came. A part is a scalar, or says how many scalars behind it are a list; lists
//! of lists are no replies to what is asked here.

use std::io;
use std::string::FromUtf8Error;

/// A piece of replies. Text lies between two places of the bytes.
#[derive(Clone, Copy, Debug)]
enum Part {
    Nil,
    Number(i64),
    Text(usize, usize),
    Refusal(usize, usize),
    List(usize),
}

/// The replies to some commands, in order.
#[derive(Debug)]
pub(super) struct Replies {
    /// As text, if all of it is UTF-8: then it is not looked at again piece by piece.
    bytes: Result<String, Vec<u8>>,
    parts: Vec<Part>,
}

/// A reply, or an element of one that is a list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply<'a> {
    Nil,
    Number(i64),
    /// None is text that is not UTF-8.
    Text(Option<&'a str>),
    /// What the server says to a command that it does not do.
    Refusal(&'a str),
    List(Elements<'a>),
}

/// Elements of a list, or replies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a> {
    bytes: Result<&'a str, &'a [u8]>,
    parts: &'a [Part],
}

impl Replies {
    pub(super) fn iter(&self) -> Elements<'_> {
        Elements {
            bytes: self.bytes.as_deref().map_err(Vec::as_slice),
            parts: &self.parts,
        }
    }

    /// The first of them.
    pub(super) fn first(&self) -> Reply<'_> {
        self.iter().next().unwrap_or(Reply::Nil)
    }
}

impl<'a> Elements<'a> {
    fn text(&self, start: usize, end: usize) -> Option<&'a str> {
        match self.bytes {
            Ok(text) => text.get(start..end),
            Err(bytes) => str::from_utf8(&bytes[start..end]).ok(),
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        let (part, mut rest) = self.parts.split_first()?;
        let reply = match *part {
            Part::Nil => Reply::Nil,
            Part::Number(number) => Reply::Number(number),
            Part::Text(start, end) => Reply::Text(self.text(start, end)),
            Part::Refusal(start, end) => {
                Reply::Refusal(self.text(start, end).unwrap_or("what is not UTF-8"))
            }
            Part::List(length) => {
                let (parts, behind) = rest.split_at(length);
                rest = behind;
                let bytes = self.bytes;
                Reply::List(Elements { bytes, parts })
            }
        };
        self.parts = rest;
        Some(reply)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Of a list there are as many as parts; of replies, fewer.
        (0, Some(self.parts.len()))
    }
}

impl<'a> Reply<'a> {
    /// As text; none if it is nil or something else.
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => text,
            _ => None,
        }
    }

    /// As a number.
    pub(super) fn int(self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(number),
            other => other.text()?.parse().ok(),
        }
    }

    /// Its elements; none if it is no list.
    pub(super) fn list(self) -> Elements<'a> {
        match self {
            Self::List(elements) => elements,
            _ => Elements {
                bytes: Ok(""),
                parts: &[],
            },
        }
    }
}

/// Replies that come.
#[derive(Debug)]
pub(super) struct Reading {
    /// What came. More is appended.
    pub(super) bytes: Vec<u8>,
    parts: Vec<Part>,
    /// Where the next part begins.
    at: usize,
    /// How many scalars are missing of a list.
    missing: usize,
    /// How many replies have not begun.
    to_come: usize,
}

impl Reading {
    /// So many replies are waited for.
    pub(super) fn of(replies: usize) -> Self {
        Self {
            bytes: Vec::new(),
            parts: Vec::new(),
            at: 0,
            missing: 0,
            to_come: replies,
        }
    }

    /// Takes apart what came; answers whether all replies are there.
    ///
    /// # Errors
    /// What came is no reply, or no simple one.
    pub(super) fn go_on(&mut self) -> io::Result<bool> {
        // The length of a value with what is before and behind it, about.
        self.parts.reserve((self.bytes.len() - self.at) / 16);
        while self.missing + self.to_come > 0 {
            let Some((part, end)) = part(&self.bytes, self.at)? else {
                return Ok(false);
            };
            match (part, self.missing) {
                (Part::List(length), 0) => self.missing = length,
                (Part::List(_), _) => return Err(io::Error::other("a list of lists")),
                _ => {}
            }
            if self.missing > 0 && !matches!(part, Part::List(_)) {
                self.missing -= 1;
            } else {
                self.to_come -= 1;
            }
            self.parts.push(part);
            self.at = end;
        }
        Ok(true)
    }

    /// All replies.
    ///
    /// # Errors
    /// More came than was asked for.
    pub(super) fn finish(self) -> io::Result<Replies> {
        if self.at < self.bytes.len() {
            return Err(io::Error::other("more replies than commands"));
        }
        Ok(Replies {
            bytes: String::from_utf8(self.bytes).map_err(FromUtf8Error::into_bytes),
            parts: self.parts,
        })
    }
}

/// The part that begins at a place, and where it ends; none if it is not there as a whole.
fn part(bytes: &[u8], start: usize) -> io::Result<Option<(Part, usize)>> {
    let rest = bytes.get(start..).unwrap_or_default();
    let Some(length) = rest.windows(2).position(|two| two == b"\r\n") else {
        return Ok(None);
    };
    let (kind, line) = rest[..length]
        .split_first()
        .ok_or_else(|| io::Error::other("an empty reply"))?;
    let text = (start + 1, start + length);
    let end = start + length + 2;
    let number = || {
        let number = str::from_utf8(line).ok().and_then(|line| line.parse().ok());
        number.ok_or_else(|| io::Error::other("a reply without its number"))
    };
    Ok(Some(match kind {
        b'$' => match number()? {
            -1 => (Part::Nil, end),
            length => {
                let length: usize = length.try_into().map_err(io::Error::other)?;
                let behind = end.saturating_add(length).saturating_add(2);
                if behind > bytes.len() {
                    return Ok(None);
                }
                (Part::Text(end, end + length), behind)
            }
        },
        b'*' => match number()? {
            -1 => (Part::Nil, end),
            length => (
                Part::List(length.try_into().map_err(io::Error::other)?),
                end,
            ),
        },
        b':' => (Part::Number(number()?), end),
        b'+' => (Part::Text(text.0, text.1), end),
        b'-' => (Part::Refusal(text.0, text.1), end),
        kind => {
            let what = format!("a reply that begins with {:?}", char::from(*kind));
            return Err(io::Error::other(what));
        }
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reply as a test sees it. Text that is not UTF-8 is none.
    #[derive(Clone, Debug, PartialEq)]
    enum Seen {
        Nil,
        Number(i64),
        Text(Vec<u8>),
        Bytes,
        Refusal(String),
        List(Vec<Seen>),
    }

    fn seen(reply: Reply<'_>) -> Seen {
        match reply {
            Reply::Nil => Seen::Nil,
            Reply::Number(number) => Seen::Number(number),
            Reply::Text(Some(text)) => Seen::Text(text.into()),
            Reply::Text(None) => Seen::Bytes,
            Reply::Refusal(text) => Seen::Refusal(text.into()),
            Reply::List(elements) => Seen::List(elements.map(seen).collect()),
        }
    }

    fn write(reply: &Seen, out: &mut Vec<u8>) {
        match reply {
            Seen::Nil => out.extend_from_slice(b"$-1\r\n"),
            Seen::Number(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Seen::Text(text) => {
                out.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Seen::Bytes => out.extend_from_slice(b"$3\r\na\xff\n\r\n"),
            Seen::Refusal(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Seen::List(all) => {
                out.extend_from_slice(format!("*{}\r\n", all.len()).as_bytes());
                all.iter().for_each(|reply| write(reply, out));
            }
        }
    }

    fn scalar() -> impl Strategy<Value = Seen> {
        prop_oneof![
            Just(Seen::Nil),
            any::<i64>().prop_map(Seen::Number),
            ".{0,20}".prop_map(|text| Seen::Text(text.into_bytes())),
            Just(Seen::Bytes),
            Just(Seen::Text(b"\r\n$3\r\n".to_vec())),
            "[A-Z]{1,8} [a-z ]{0,20}".prop_map(Seen::Refusal),
        ]
    }

    fn reply() -> impl Strategy<Value = Seen> {
        let list = prop::collection::vec(scalar(), 0..10).prop_map(Seen::List);
        prop_oneof![scalar(), list]
    }

    proptest! {
        #[test]
        fn replies_are_the_same_however_they_come(
            all in prop::collection::vec(reply(), 1..20),
            sizes in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let mut bytes = Vec::new();
            all.iter().for_each(|reply| write(reply, &mut bytes));
            let mut reading = Reading::of(all.len());
            let mut sizes = sizes.into_iter().cycle();
            let mut rest = &bytes[..];
            while !reading.go_on().unwrap() {
                let some = sizes.next().unwrap().min(rest.len());
                prop_assert!(some > 0, "all came, and something is missing");
                reading.bytes.extend_from_slice(&rest[..some]);
                rest = &rest[some..];
            }
            prop_assert!(rest.is_empty(), "all is there before all came");
            let replies = reading.finish().unwrap();
            prop_assert_eq!(replies.iter().map(seen).collect::<Vec<_>>(), all);
        }

        #[test]
        fn whatever_comes_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), kind in "[$*:+-][0-9-]{0,20}\r\n") {
            let mut reading = Reading::of(3);
            reading.bytes = [kind.as_bytes(), &bytes].concat();
            if let Ok(true) = reading.go_on() {
                let _ = reading.finish();
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for (bytes, said) in [
            ("*1\r\n*1\r\n:1\r\n", "a list of lists"),
            ("$x\r\n", "without its number"),
            ("$-2\r\n", "out of range"),
            ("\r\n", "an empty reply"),
            ("HTTP/1.1 400 Bad Request\r\n", "begins with 'H'"),
            (":1\r\n:2\r\n", "more replies than commands"),
        ] {
            let mut reading = Reading::of(1);
            reading.bytes = bytes.into();
            let error = match reading.go_on() {
                Ok(_) => reading.finish().unwrap_err(),
                Err(error) => error,
            };
            assert!(error.to_string().contains(said), "{bytes:?}: {error}");
        }
    }
}
