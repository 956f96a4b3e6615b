//! Looking for one member of an object.

use super::{Scanner, Str};
use crate::error::Faulty;
use crate::value::unescaped;

impl<'a> Scanner<'a> {
    /// From the start of an object, moves to the value of its first member of a name; answers whether there is one. The
    /// members lie in `depth` objects and arrays, this one included.
    pub(crate) fn find_member(
        &mut self,
        name: &str,
        depth: usize,
        scratch: &mut String,
    ) -> Faulty<bool> {
        self.take(b'{');
        if self.blanks() == Some(b'}') {
            return Ok(false);
        }
        loop {
            let key: Str<'a> = self.string("a field's name in quotes")?;
            self.expect(b':', "`:`")?;
            self.blanks();
            if unescaped(key, scratch) == name {
                return Ok(true);
            }
            self.value(depth)?;
            match self.blanks() {
                Some(b',') => self.take(b','),
                Some(b'}') => return Ok(false),
                _ => return Err(self.unexpected("`,` or `}`")),
            };
            self.blanks();
        }
    }

    /// The value of an object's first member of a name, unless it is null. The scanner stands before the object.
    pub(crate) fn member(
        mut self,
        name: &str,
        depth: usize,
        scratch: &mut String,
    ) -> Faulty<Option<&'a str>> {
        if self.peek() != Some(b'{') || !self.find_member(name, depth, scratch)? {
            return Ok(None);
        }
        let value = self.value(depth)?;
        Ok((value != "null").then_some(value))
    }
}
