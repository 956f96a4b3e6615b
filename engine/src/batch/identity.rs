//! What makes an event recognisable when it is sent again.
//!
//! The identity is (source, kind, id); the content is every other field the producer gave. Both are kept as hashes:
//! 128 bits for the identity, so that no two identities in a log's life are taken for one, 64 for the content. The
//! time counts as content only if the producer gave one: a retry without a time is the same event, received later.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use crate::event::Kind;
use crate::event::schema;

/// Identity and content of one event that has an `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The event's place in its batch.
    pub ord: u32,
    /// Hash of (source, kind, id).
    pub key: u128,
    /// Hash of everything else.
    pub content: u64,
}

impl Identity {
    pub(crate) fn moved_by(&self, base: u32) -> Self {
        Self {
            ord: self.ord + base,
            ..*self
        }
    }
}

/// A row whose values can be had as bytes.
pub(super) trait RowBytes {
    /// The bytes of a column's value; nothing where it is null. Numbers go through `scratch`.
    fn bytes<'s>(&'s self, column: usize, scratch: &'s mut [u8; 8]) -> Option<&'s [u8]>;
}

/// The identity of a row; `ord` is left 0.
pub(super) fn row_identity(kind: Kind, row: &impl RowBytes) -> Identity {
    let mut scratch = [0; 8];
    let mut key = [0_u8; 3 + schema::NAME_BYTES_MAX + schema::ID_BYTES_MAX];
    key[0] = kind.number();
    let mut end = 1;
    for column in [schema::SOURCE, schema::ID] {
        if let Some(part) = row.bytes(column, &mut scratch) {
            key[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        // Names hold no control characters, so a zero byte keeps the parts apart.
        key[end] = 0;
        end += 1;
    }
    let mut content = 0_u64;
    for column in schema::TIME..schema::column_count(kind) {
        if let Some(bytes) = row.bytes(column, &mut scratch) {
            content = content.rotate_left(23) ^ xxh3_64_with_seed(bytes, column as u64);
            content = content.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    Identity {
        ord: 0,
        key: xxh3_128(&key[..end]),
        content,
    }
}
