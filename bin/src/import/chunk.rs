//! A file in pieces: each a body of its own, cut between events, appended as one call.
//!
//! How a file is cut depends on its bytes alone, not on how they arrived, so that a repeated import cuts it again in the
//! same places; only a pause of stdin cuts where it happened. [`CUTS`] numbers these rules: with other rules a file
//! counts as another one.

use std::io;

use modelog_formats::Format;

use crate::exit::Exit;

/// The version of the rules by which files are cut.
pub(super) const CUTS: u32 = 1;
/// How large a piece becomes, about.
pub(super) const CHUNK_BYTES: usize = 2 << 20;
/// The longest event. One that is longer than this ends the import: nothing can be said about where it ends.
pub(super) const EVENT_BYTES_MAX: usize = 16 << 20;

/// A piece of an input.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Which piece it is, from 0.
    pub(super) index: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) format: Format,
    pub(super) events: u64,
    pub(super) places: Places,
}

/// Where the events of a piece stand in the input.
#[derive(Debug)]
pub(super) enum Places {
    /// The piece is a stretch of the input, which starts here.
    Stretch { line: u64, byte: u64 },
    /// Events were put together anew.
    Events(Vec<EventPlace>),
    /// Rows from this one on.
    Rows { first: u64 },
    /// Events of another log, by their offsets there.
    Offsets(Vec<u64>),
    /// What keys of a database hold: each key with the first of its events in the piece.
    Keys(Vec<(u64, String)>),
}

/// Where an event starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventPlace {
    /// In the piece.
    pub(super) at: u64,
    /// In the input.
    pub(super) byte: u64,
    /// In the input, from 1.
    pub(super) line: u64,
}

/// Where something is wrong, in a piece: as the formats and the API tell it.
#[derive(Clone, Debug, Default)]
pub(super) struct Spot {
    pub(super) event: Option<u64>,
    pub(super) line: Option<u64>,
    pub(super) byte: Option<u64>,
}

impl Chunk {
    /// The same spot in the input, for a person: `:17: byte 1234: `.
    pub(super) fn locate(&self, spot: &Spot) -> String {
        match &self.places {
            Places::Stretch { line, byte } => match (spot.line, spot.byte) {
                (Some(in_chunk), Some(at)) => {
                    format!(":{}: byte {}: ", line + in_chunk - 1, byte + at)
                }
                _ => format!(":{line}: "),
            },
            Places::Events(places) => {
                let Some(place) = spot
                    .event
                    .and_then(|event| places.get(usize::try_from(event).ok()?))
                else {
                    return ": ".into();
                };
                let at = spot
                    .byte
                    .filter(|byte| *byte >= place.at)
                    .unwrap_or(place.at);
                let (start, end) = (place.at as usize, (at as usize).min(self.bytes.len()));
                let lines = memchr::memchr_iter(b'\n', &self.bytes[start..end]).count() as u64;
                format!(
                    ":{}: byte {}: ",
                    place.line + lines,
                    place.byte + (at - place.at)
                )
            }
            Places::Rows { first } => match spot.event {
                Some(event) => format!(": row {}: ", first + event),
                None => ": ".into(),
            },
            Places::Offsets(offsets) => {
                let offset = spot
                    .event
                    .and_then(|event| offsets.get(usize::try_from(event).ok()?));
                offset.map_or_else(|| ": ".into(), |offset| format!(": event {offset}: "))
            }
            Places::Keys(keys) => {
                let of = |event| {
                    keys.partition_point(|(first, _)| *first <= event)
                        .checked_sub(1)
                };
                let key = spot.event.and_then(of).map(|at| &keys[at].1);
                key.map_or_else(|| ": ".into(), |key| format!(": {}: ", key.escape_debug()))
            }
        }
    }
}

/// Why an input cannot be cut, or read, any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutError {
    #[error("{name} cannot be read")]
    Io {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("{name}:{line}: byte {byte}: {message}")]
    Text {
        name: String,
        line: u64,
        byte: u64,
        message: String,
    },
    #[error("{name}: {message}")]
    Arrow { name: String, message: String },
}

impl CutError {
    /// How the program ends because of it.
    pub(super) fn exit(&self) -> Exit {
        match self {
            // A decompressor's complaint is about the data, not about the disk.
            Self::Io { source, .. }
                if !matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::Other
                ) =>
            {
                Exit::Io
            }
            _ => Exit::BadData,
        }
    }
}

/// Cuts an input into pieces.
pub(super) trait Cut: Send {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// If the input cannot be read, or its events not be told apart.
    fn next(&mut self) -> Result<Option<Chunk>, CutError>;

    /// The SHA-256 of the whole input, once the end was reached, if it was asked for.
    ///
    /// # Errors
    /// If the rest of the input cannot be read.
    fn digest(&mut self) -> Result<Option<[u8; 32]>, CutError>;
}
