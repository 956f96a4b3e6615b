//! How to read, and how much.

use modelog_engine::event::{Kind, VALUE_BYTES_MAX};

/// How bytes are read. The default takes whole bodies of known and unknown fields, or refuses them.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Refuse fields the kind does not have, instead of keeping them in `extra`.
    pub strict: bool,
    /// What to do about events that cannot be understood.
    pub on_error: OnError,
    /// The kind of events in an Arrow stream whose schema does not name one.
    pub kind: Option<Kind>,
    pub limits: Limits,
}

/// What becomes of a body in which some events cannot be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The body is refused.
    #[default]
    Refuse,
    /// They become `EventRejected` events, in their place in the batch.
    Record,
}

/// How much is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest value of one field. The engine takes [`VALUE_BYTES_MAX`] at most, whatever is said here.
    pub value_bytes: usize,
    /// The longest event, as it was sent.
    pub event_bytes: usize,
    /// How deeply objects and arrays may lie in each other; an event itself counts as 1. At most
    /// [`Limits::DEPTH_MAX`].
    pub depth: usize,
    /// How many errors are described; all are counted.
    pub errors: usize,
    /// How many bytes all values of one body may take: a few bytes of Arrow can stand for many.
    pub batch_bytes: usize,
    /// How many bytes of a rejected event are kept; of longer ones also their length and SHA-256.
    pub raw_bytes: usize,
    /// How many unknown fields are counted by name; the others are counted together, as `…`.
    pub unknown_fields: usize,
}

impl Limits {
    /// The deepest nesting that can be allowed.
    pub const DEPTH_MAX: usize = 1024;
    /// The largest batch that can be allowed: arrays of text have 32-bit offsets.
    pub const BATCH_BYTES_MAX: usize = 1 << 30;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: VALUE_BYTES_MAX,
            event_bytes: 4 << 20,
            depth: 128,
            errors: 100,
            batch_bytes: 256 << 20,
            raw_bytes: 16 << 20,
            unknown_fields: 1000,
        }
    }
}
