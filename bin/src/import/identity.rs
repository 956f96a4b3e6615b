//! What makes a piece recognisable when it is imported again.
//!
//! A file is read twice: its pieces are calls of a producer that is named after the hash of the whole file, numbered
//! from 0. The log remembers how far each such producer came, so a second import, or one that goes on after a kill,
//! begins where the first ended, whatever happened in between.
//!
//! Parquet files whose rows are merged are one such producer together, named after the hashes of all of them.
//!
//! Stdin can be read only once. Its pieces have keys instead, each the hash of everything up to there: the same input
//! gives the same keys, for as long as the log remembers them.
//!
//! A database changes between two imports, so its pieces stand for themselves: each has a key, the hash of what is in it
//! alone. Where pieces end depends on the events next to the end (`spool`), so a change here leaves the pieces elsewhere
//! as they were; and in a piece that has changed, each event is known by its own id.

use std::sync::Arc;

use modelog_engine::event::Kind;
use modelog_engine::origin::Source;
use sha2::{Digest, Sha256};

use super::chunk::CUTS;
use super::source::InputFormat;

/// The epoch of all producers of imports: they never fence each other.
pub(super) const EPOCH: u32 = 1;

/// What the pieces of one input are recognised by.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    /// A file, by the hash of all of it.
    Producer { id: Arc<str>, digest: [u8; 32] },
    /// The hash of everything so far.
    Keys(Sha256),
    /// The hash of the piece.
    Pieces,
}

impl Identity {
    /// Of a file with this hash.
    pub(super) fn of_file(digest: &[u8; 32], format: InputFormat, kind: Option<Kind>) -> Self {
        let mut hash = start(format, kind);
        hash.update(digest);
        Self::Producer {
            id: name(&hash.finalize().into()),
            digest: *digest,
        }
    }

    /// Of files that are read together, by their hashes; without the records that only an engine writes they are another
    /// input.
    pub(super) fn of_history(digests: &[[u8; 32]], records: bool) -> Self {
        let mut hash = start(InputFormat::Parquet, None);
        hash.update([u8::from(records)]);
        digests.iter().for_each(|digest| hash.update(digest));
        let digest = hash.finalize().into();
        Self::Producer {
            id: name(&digest),
            digest,
        }
    }

    /// Of an input that is read once.
    pub(super) fn of_stream(format: InputFormat, kind: Option<Kind>) -> Self {
        Self::Keys(start(format, kind))
    }

    /// The hash that the input must still have when it has been read to its end.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        match self {
            Self::Producer { digest, .. } => Some(*digest),
            Self::Keys(_) | Self::Pieces => None,
        }
    }

    /// The source of the next piece.
    pub(super) fn source(&mut self, index: u64, bytes: &[u8]) -> Source {
        match self {
            Self::Producer { id, .. } => Source::Producer {
                id: Arc::clone(id),
                epoch: EPOCH,
                sequence: index,
            },
            Self::Keys(hash) => {
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
                Source::Call {
                    key: name(&hash.clone().finalize().into()),
                    // The key says it all.
                    body: 0,
                }
            }
            Self::Pieces => {
                let mut hash = start(InputFormat::Json, None);
                hash.update(bytes);
                Source::Call {
                    key: name(&hash.finalize().into()),
                    body: 0,
                }
            }
        }
    }
}

/// The same bytes mean other events in another format, or as another kind.
fn start(format: InputFormat, kind: Option<Kind>) -> Sha256 {
    let kind = kind.map_or("", Kind::name);
    let mut hash = Sha256::new();
    hash.update(format!("{CUTS}/{}/{kind}/", format.name()));
    hash
}

fn name(digest: &[u8; 32]) -> Arc<str> {
    let mut name = String::from("import:");
    for byte in digest {
        name.push_str(&format!("{byte:02x}"));
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_content_and_meaning() {
        let of = |digest, format, kind| match Identity::of_file(digest, format, kind) {
            Identity::Producer { id, .. } => id,
            Identity::Keys(_) | Identity::Pieces => unreachable!(),
        };
        let json = of(&[1; 32], InputFormat::Json, None);
        assert_eq!(json, of(&[1; 32], InputFormat::Json, None));
        assert_ne!(json, of(&[2; 32], InputFormat::Json, None));
        assert_ne!(json, of(&[1; 32], InputFormat::Cloudevents, None));
        assert_ne!(
            of(&[1; 32], InputFormat::Arrow, Some(Kind::MetricLogged)),
            of(&[1; 32], InputFormat::Arrow, Some(Kind::EventLogged))
        );
        let history = |digests: &[[u8; 32]], records| {
            let identity = Identity::of_history(digests, records);
            match identity {
                Identity::Producer { id, .. } => id,
                Identity::Keys(_) | Identity::Pieces => unreachable!(),
            }
        };
        let one = history(&[[1; 32]], true);
        assert_ne!(one, history(&[[1; 32], [2; 32]], true));
        assert_ne!(one, history(&[[1; 32]], false));
        assert_ne!(one, json);
        assert!(json.len() <= 128, "the API takes no longer names");
    }

    #[test]
    fn keys_depend_on_everything_before() {
        let mut a = Identity::of_stream(InputFormat::Ndjson, None);
        let mut b = a.clone();
        assert_eq!(a.source(0, b"x"), b.source(0, b"x"));
        let mut c = a.clone();
        assert_ne!(a.source(1, b"y"), c.source(1, b"z"));
        assert_ne!(a.source(2, b"w"), c.source(2, b"w"));
    }

    #[test]
    fn pieces_of_a_database_stand_for_themselves() {
        let mut pieces = Identity::Pieces;
        let one = pieces.source(0, b"x");
        assert_ne!(one, pieces.source(1, b"y"));
        assert_eq!(one, pieces.source(2, b"x"));
        assert_ne!(
            one,
            Identity::of_stream(InputFormat::Json, None).source(0, b"x")
        );
    }
}
