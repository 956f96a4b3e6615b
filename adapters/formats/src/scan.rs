//! Walks through JSON text once, checking its grammar strictly and copying nothing.
//!
//! A scanner stands between two bytes of valid UTF-8 and only ever stops beside ASCII, so what it cuts out is text.
//!
//! # Why not serde_json
//! Values of JSON fields are kept byte for byte, so most of an event is only checked and passed over; and the fields
//! come in the same order in event after event, which a reader of our own can expect ([`crate::fields`]). Together
//! that is about twice as fast. serde_json is the oracle of the tests: both accept the same texts, save unpaired
//! surrogates, which only we refuse.

mod member;
mod number;
mod string;

use crate::error::{Code, Fault, Faulty};
use crate::fields::Key;
use crate::options::Limits;

pub(crate) use number::Number;
use string::escape;
pub(crate) use string::plain_end;

/// A place in a JSON text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth_max: usize,
}

/// A string as it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Str<'a> {
    /// What lies between the quotes.
    pub(crate) raw: &'a str,
    pub(crate) escaped: bool,
    /// Where `raw` starts.
    pub(crate) at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str, at: usize, limits: &Limits) -> Self {
        Self {
            text,
            at,
            depth_max: limits.depth.min(Limits::DEPTH_MAX),
        }
    }

    /// Bytes before the place.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The text from a place to here.
    #[inline]
    pub(crate) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The next byte.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over blanks, and answers what comes then.
    #[inline]
    pub(crate) fn blanks(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    /// Passes over a byte, if it comes next.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Passes over a byte that must come next, blanks before it aside.
    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, expected: &'static str) -> Faulty<()> {
        if self.take(byte) || (self.blanks() == Some(byte) && self.take(byte)) {
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    /// Passes over a key, if it comes next.
    #[inline]
    pub(crate) fn take_key(&mut self, key: &Key) -> bool {
        let length = key.starts(&self.text.as_bytes()[self.at..]);
        self.at += length.unwrap_or(0);
        length.is_some()
    }

    /// A string, from its opening quote. Always inlined, as are others that answer more than two words: what goes through
    /// memory costs more than the reading.
    #[inline(always)]
    pub(crate) fn string(&mut self, expected: &'static str) -> Faulty<Str<'a>> {
        if !self.take(b'"') {
            return Err(self.unexpected(expected));
        }
        self.string_rest()
    }

    /// A string whose opening quote has been passed.
    #[inline(always)]
    pub(crate) fn string_rest(&mut self) -> Faulty<Str<'a>> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at = plain_end(bytes, start);
        if bytes.get(self.at) == Some(&b'"') {
            let raw = &self.text[start..self.at];
            self.at += 1;
            return Ok(Str {
                raw,
                escaped: false,
                at: start,
            });
        }
        let end = self.escaped_end(start)?;
        self.at = end + 1;
        Ok(Str {
            raw: &self.text[start..end],
            escaped: true,
            at: start,
        })
    }

    /// Where the quote is that ends a string, from its first byte on that is no plain text. By value, so that a scanner
    /// in a loop can stay in registers.
    fn escaped_end(self, start: usize) -> Faulty<usize> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        loop {
            match bytes.get(at) {
                Some(b'"') => return Ok(at),
                Some(b'\\') => {
                    let (_, end) = escape(bytes, at)?;
                    at = plain_end(bytes, end);
                }
                Some(byte) => {
                    let message =
                        format!("a string holds the control character U+{byte:04X}; escape it");
                    return Err(Fault::new(Code::BadJson, at, message));
                }
                None => {
                    return Err(Fault::new(Code::BadJson, start - 1, "a string has no end"));
                }
            }
        }
    }

    /// Any value, checked and passed over; answers its text. `depth` is how many objects and arrays it lies in.
    #[inline]
    pub(crate) fn value(&mut self, depth: usize) -> Faulty<&'a str> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.string("a string")?;
            }
            Some(b'{' | b'[') => self.at = self.nested_end(depth)?,
            _ => self.at = self.scalar_end()?,
        }
        Ok(self.since(start))
    }

    /// Where an object or array ends.
    fn nested_end(mut self, depth: usize) -> Faulty<usize> {
        let mut open = Open::new(depth, self.depth_max);
        loop {
            // A value starts here.
            match self.blanks() {
                Some(b'{') => {
                    open.enter(true, self.at)?;
                    self.at += 1;
                    if self.blanks() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                    self.at += 1;
                    open.leave();
                }
                Some(b'[') => {
                    open.enter(false, self.at)?;
                    self.at += 1;
                    if self.blanks() != Some(b']') {
                        continue;
                    }
                    self.at += 1;
                    open.leave();
                }
                Some(b'"') => {
                    self.at += 1;
                    self.string_rest()?;
                }
                _ => self.at = self.scalar_end()?,
            }
            // A value ended here.
            loop {
                if open.is_done() {
                    return Ok(self.at);
                }
                match (self.blanks(), open.object) {
                    (Some(b','), true) => {
                        self.at += 1;
                        self.blanks();
                        self.key()?;
                        break;
                    }
                    (Some(b','), false) => {
                        self.at += 1;
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        open.leave();
                    }
                    (_, true) => return Err(self.unexpected("`,` or `}`")),
                    (_, false) => return Err(self.unexpected("`,` or `]`")),
                }
            }
        }
    }

    #[inline]
    fn key(&mut self) -> Faulty<()> {
        self.string("a field's name in quotes")?;
        self.expect(b':', "`:`")
    }

    /// Where a number, `true`, `false` or `null` ends.
    #[inline]
    fn scalar_end(mut self) -> Faulty<usize> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => return self.number_end(),
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            _ => return Err(self.unexpected("a value")),
        }
        Ok(self.at)
    }

    /// `true`, `false` or `null`.
    #[inline]
    pub(crate) fn word(&mut self, word: &'static str) -> Faulty<()> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.unexpected("a value"))
        }
    }

    /// Where a number ends.
    #[inline]
    fn number_end(mut self) -> Faulty<usize> {
        self.take(b'-');
        let first = self.at;
        self.skip_digits()?;
        if self.at > first + 1 && self.text.as_bytes()[first] == b'0' {
            return Err(leading_zero(first));
        }
        if self.take(b'.') {
            self.skip_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.exponent()?;
        }
        Ok(self.at)
    }

    #[inline]
    fn skip_digits(&mut self) -> Faulty<()> {
        let first = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == first {
            return Err(self.unexpected("a digit"));
        }
        Ok(())
    }

    /// A number.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Faulty<Number<'a>> {
        /// So many digits fit into 64 bits whatever they are.
        const DIGITS_MAX: usize = 19;
        let start = self.at;
        let negative = self.take(b'-');
        let mut mantissa = 0_u64;
        let first = self.at;
        self.digits(&mut mantissa);
        let mut digits = self.at - first;
        if digits == 0 {
            return Err(self.unexpected("a digit"));
        }
        if digits > 1 && self.text.as_bytes()[first] == b'0' {
            return Err(Fault::new(Code::BadJson, start, "a number has a leading 0"));
        }
        let mut integer = true;
        let mut fraction_digits = 0;
        if self.take(b'.') {
            integer = false;
            let first = self.at;
            self.digits(&mut mantissa);
            fraction_digits = self.at - first;
            if fraction_digits == 0 {
                return Err(self.unexpected("a digit"));
            }
            digits += fraction_digits;
        }
        let mut plain = digits <= DIGITS_MAX;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            (integer, plain) = (false, false);
            self.exponent()?;
        }
        Ok(Number {
            raw: self.since(start),
            integer,
            mantissa: plain.then_some(mantissa),
            fraction_digits,
            negative,
        })
    }

    #[inline]
    fn digits(&mut self, mantissa: &mut u64) {
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            *mantissa = mantissa
                .wrapping_mul(10)
                .wrapping_add(u64::from(byte - b'0'));
            self.at += 1;
        }
    }

    fn exponent(&mut self) -> Faulty<()> {
        self.at += 1;
        if !self.take(b'+') {
            self.take(b'-');
        }
        self.skip_digits()
    }

    /// The fault of what comes next.
    #[cold]
    pub(crate) fn unexpected(self, expected: &str) -> Box<Fault> {
        let rest = &self.text[self.at..];
        let message = match rest.chars().next() {
            None => format!("{expected} is expected, but the text ends"),
            Some(_) if ["NaN", "Infinity", "-Infinity"].iter().any(|word| rest.starts_with(word)) => {
                "numbers that are not finite are written as the strings \"NaN\", \"Infinity\", \"-Infinity\"".to_owned()
            }
            Some(found) => format!("{expected} is expected, not {found:?}"),
        };
        Fault::new(Code::BadJson, self.at, message)
    }
}

#[cold]
fn leading_zero(at: usize) -> Box<Fault> {
    Fault::new(Code::BadJson, at, "a number has a leading 0")
}

impl Str<'_> {
    /// Appends the string without its escapes.
    pub(crate) fn unescape_into(self, out: &mut String) {
        let bytes = self.raw.as_bytes();
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
            out.push_str(&self.raw[at..at + found]);
            let (character, end) =
                escape(bytes, at + found).expect("the escapes were checked by the scanner");
            out.push(character);
            at = end;
        }
        out.push_str(&self.raw[at..]);
    }
}

/// Which objects and arrays are open, as one bit each.
struct Open {
    /// Whether the innermost is an object.
    object: bool,
    level: usize,
    base: usize,
    max: usize,
    bits: [u64; Limits::DEPTH_MAX / 64],
}

impl Open {
    fn new(depth: usize, max: usize) -> Self {
        Self {
            object: false,
            level: depth,
            base: depth,
            max,
            bits: [0; Limits::DEPTH_MAX / 64],
        }
    }

    #[inline]
    fn enter(&mut self, object: bool, at: usize) -> Faulty<()> {
        if self.level >= self.max {
            let message = format!(
                "objects and arrays lie in each other more than {} deep",
                self.max
            );
            return Err(Fault::new(Code::TooDeep, at, message));
        }
        let (word, bit) = (self.level / 64, self.level % 64);
        self.bits[word] = self.bits[word] & !(1 << bit) | u64::from(object) << bit;
        self.level += 1;
        self.object = object;
        Ok(())
    }

    #[inline]
    fn leave(&mut self) {
        self.level -= 1;
        if self.level > self.base {
            let outer = self.level - 1;
            self.object = self.bits[outer / 64] >> (outer % 64) & 1 == 1;
        }
    }

    #[inline]
    fn is_done(&self) -> bool {
        self.level == self.base
    }
}

/// Where an object, array or other value that is not sound JSON ends, judging by brackets and quotes alone.
pub(crate) fn rough_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut level = 0_usize;
    let mut at = start;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at += 1;
                loop {
                    at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
                    if bytes[at] == b'"' {
                        break;
                    }
                    at += 2;
                }
            }
            b'{' | b'[' => level += 1,
            b'}' | b']' if level > 0 => level -= 1,
            b',' | b'}' | b']' if level == 0 => return Some(at),
            _ => {}
        }
        at += 1;
        if level == 0 && matches!(bytes[at - 1], b'}' | b']') {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests;
