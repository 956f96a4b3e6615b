//! Cursors: where a list goes on, as text that only this list understands. Every store makes and reads the same ones, so a
//! list that one store began another can go on with.
//!
//! ```text
//! base64url, without padding, of
//!   version  u8    1
//!   list     u64   hash of the list's name and of what selects its items; another list refuses the cursor
//!   key            the sort key of the last item of the page before
//! ```
//!
//! Numbers are little-endian. A text ends the key and has no length of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use super::{PAGE_MAX, Page, PageRequest, ReadError};

const VERSION: u8 = 1;

/// The key by which a list is sorted, as far as cursors are concerned.
pub trait SortKey: Sized {
    /// Appends the key.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads the whole of `bytes`.
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl SortKey for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().map(Self::from_le_bytes).ok()
    }
}

impl SortKey for String {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Self::from_utf8(bytes.to_vec()).ok()
    }
}

impl<K: SortKey> SortKey for (i64, K) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_at_checked(8)?;
        Some((i64::read(number)?, K::read(rest)?))
    }
}

impl<K: SortKey> SortKey for Option<K> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.is_some().into());
        if let Some(key) = self {
            key.write(out);
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(None),
            [1, rest @ ..] => K::read(rest).map(Some),
            _ => None,
        }
    }
}

/// A list, told from all others, and how much of it is asked for.
#[derive(Debug)]
pub struct List {
    hash: u64,
    cursor: Option<String>,
    limit: usize,
}

impl List {
    /// The list of this name; `selection` is what its items were selected by.
    #[must_use]
    pub fn new(name: &str, selection: &str, request: PageRequest) -> Self {
        Self {
            hash: xxh3_64(format!("{name}\0{selection}").as_bytes()),
            cursor: request.cursor,
            limit: request.limit.min(PAGE_MAX) as usize,
        }
    }

    /// How many rows to read: one more than the page has, to know whether it is the last.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.limit as i64 + 1
    }

    /// The key behind which the page starts.
    ///
    /// # Errors
    /// [`ReadError::Cursor`], if the cursor is not one of this list.
    pub fn after<K: SortKey>(&self) -> Result<Option<K>, ReadError> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(cursor)
            .map_err(|_| ReadError::Cursor)?;
        let key = bytes
            .strip_prefix(&[VERSION])
            .and_then(|rest| rest.strip_prefix(&self.hash.to_le_bytes()))
            .and_then(K::read)
            .ok_or(ReadError::Cursor)?;
        Ok(Some(key))
    }

    /// The cursor behind the item with this key.
    pub fn cursor(&self, key: &impl SortKey) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.hash.to_le_bytes());
        key.write(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The page of rows that were read.
    pub fn page<T, K: SortKey>(&self, mut items: Vec<T>, key: impl FnOnce(&T) -> K) -> Page<T> {
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|last| self.cursor(&key(last)));
        Page { items, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, selection: &str, cursor: Option<String>) -> List {
        List::new(name, selection, PageRequest { limit: 2, cursor })
    }

    fn cursor<K: SortKey + Clone>(key: &K) -> String {
        let page = list("things", "a", None).page(vec![1, 2, 3], |last| {
            assert_eq!(*last, 2);
            key.clone()
        });
        assert_eq!(page.items, [1, 2]);
        page.next_cursor.unwrap()
    }

    #[test]
    fn keys_come_back() {
        fn check<K: SortKey + Clone + PartialEq + std::fmt::Debug>(key: K) {
            let cursor = cursor(&key);
            assert_eq!(
                list("things", "a", Some(cursor)).after().unwrap(),
                Some(key)
            );
        }
        check(i64::MIN);
        check((i64::MAX, -1_i64));
        check((7_i64, "é\u{301} ".to_owned()));
        check((0_i64, String::new()));
        check(None::<(i64, i64)>);
        check(Some((1_i64, 2_i64)));
        check((3_i64, None::<i64>));
        assert_eq!(list("things", "a", None).after::<i64>().unwrap(), None);
    }

    #[test]
    fn foreign_cursors_are_refused() {
        let sound = cursor(&(5_i64, 6_i64));
        let refused = |list: List| matches!(list.after::<(i64, i64)>(), Err(ReadError::Cursor));
        assert!(!refused(list("things", "a", Some(sound.clone()))));
        assert!(refused(list("things", "b", Some(sound.clone()))));
        assert!(refused(list("others", "a", Some(sound.clone()))));
        assert!(refused(list("things", "a", Some(cursor(&5_i64)))));
        for broken in [
            String::new(),
            "?".into(),
            "AA".into(),
            sound[..sound.len() - 2].into(),
            format!("{sound}AA"),
            format!("{sound}="),
            format!("AA{}", &sound[2..]),
        ] {
            assert!(
                refused(list("things", "a", Some(broken.clone()))),
                "{broken:?}"
            );
        }
    }

    #[test]
    fn a_page_that_holds_everything_is_the_last() {
        let page = list("things", "a", None).page(vec![1, 2], |_| 0_i64);
        assert_eq!((page.items.len(), page.next_cursor), (2, None));
        let nothing = List::new("things", "a", PageRequest::default());
        assert_eq!(nothing.rows(), 1);
        let page = nothing.page(vec![1], |_| 0_i64);
        assert_eq!((page.items.len(), page.next_cursor), (0, None));
    }
}
