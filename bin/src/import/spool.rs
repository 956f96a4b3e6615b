//! What was read of a database, in pieces on disk: it is checked to its end before anything is appended, and a database
//! cannot be read twice to the same effect.
//!
//! The file has no name and is compressed. It lies where temporary files do (`TMPDIR`), and is gone with the process.
//!
//! A piece ends behind an event whose hash says so, once it is of some size, or when it is full. So where pieces end
//! depends on the events nearby alone: where others come or go, the pieces before are the same, and those behind are so
//! again after one or two.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek as _, Write};

use modelog_formats::Format;

use super::chunk::{CHUNK_BYTES, Chunk, Places};

/// The least a piece holds, but for the last.
const PIECE_BYTES_MIN: usize = 256 << 10;
/// One event in so many ends a piece.
const ENDS_ONE_IN: u64 = 2048;
/// What is fast, and makes JSON a tenth.
const COMPRESSION: i32 = 1;

/// Events on their way to disk.
pub(super) struct Spool {
    out: zstd::Encoder<'static, BufWriter<File>>,
    piece: Vec<u8>,
    keys: Vec<(u64, String)>,
    /// How many events the piece has.
    events: u64,
    index: u64,
    total: u64,
}

/// Events on disk.
pub(super) struct Spooled {
    pieces: zstd::Decoder<'static, BufReader<File>>,
    index: u64,
    /// How many events there are.
    pub(super) events: u64,
}

impl Spool {
    pub(super) fn new() -> io::Result<Self> {
        let out = BufWriter::new(tempfile::tempfile()?);
        Ok(Self {
            out: zstd::Encoder::new(out, COMPRESSION)?,
            piece: vec![b'['],
            keys: Vec::new(),
            events: 0,
            index: 0,
            total: 0,
        })
    }

    /// Adds an event; answers with a piece that it ends, which is on disk then.
    pub(super) fn push(&mut self, key: &str, json: &str, digest: u64) -> io::Result<Option<Chunk>> {
        if self.events > 0 {
            self.piece.push(b',');
        }
        self.piece.extend_from_slice(json.as_bytes());
        if self.keys.last().is_none_or(|(_, last)| last != key) {
            self.keys.push((self.events, key.to_owned()));
        }
        self.events += 1;
        let bytes = self.piece.len();
        let ends =
            bytes >= CHUNK_BYTES || bytes >= PIECE_BYTES_MIN && digest.is_multiple_of(ENDS_ONE_IN);
        if ends { self.end().map(Some) } else { Ok(None) }
    }

    /// Ends the piece, and writes it.
    fn end(&mut self) -> io::Result<Chunk> {
        self.piece.push(b']');
        let bytes = std::mem::replace(&mut self.piece, vec![b'[']);
        let keys = std::mem::take(&mut self.keys);
        let header = serde_json::to_vec(&(self.events, &keys))?;
        for part in [&header, &bytes] {
            self.out.write_all(&(part.len() as u64).to_le_bytes())?;
            self.out.write_all(part)?;
        }
        let chunk = chunk(self.index, self.events, keys, bytes);
        self.total += self.events;
        self.index += 1;
        self.events = 0;
        Ok(chunk)
    }

    /// The last piece, if something is left, and all of them.
    pub(super) fn finish(mut self) -> io::Result<(Option<Chunk>, Spooled)> {
        let last = if self.events > 0 {
            Some(self.end()?)
        } else {
            None
        };
        let file = self.out.finish()?.into_inner();
        let mut file = file.map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let spooled = Spooled {
            pieces: zstd::Decoder::new(file)?,
            index: 0,
            events: self.total,
        };
        Ok((last, spooled))
    }
}

fn chunk(index: u64, events: u64, keys: Vec<(u64, String)>, bytes: Vec<u8>) -> Chunk {
    Chunk {
        index,
        bytes,
        format: Format::Json,
        events,
        places: Places::Keys(keys),
    }
}

impl Spooled {
    /// The next piece; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Chunk>> {
        let Some(header) = self.part()? else {
            return Ok(None);
        };
        let (events, keys) = serde_json::from_slice(&header)?;
        let bytes = self.part()?.ok_or(ErrorKind::UnexpectedEof)?;
        self.index += 1;
        Ok(Some(chunk(self.index - 1, events, keys, bytes)))
    }

    fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 8];
        match self.pieces.read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        self.pieces.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The pieces of events, by their bytes.
    fn pieces(events: impl Iterator<Item = u64>) -> Vec<Vec<u8>> {
        let mut spool = Spool::new().unwrap();
        let mut given = Vec::new();
        for event in events {
            let json = format!("{{\"at\":{event},\"text\":\"{}\"}}", "x".repeat(200));
            let digest = event.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17;
            given.extend(
                spool
                    .push(&format!("k:{}", event / 100), &json, digest)
                    .unwrap(),
            );
        }
        let (last, mut spooled) = spool.finish().unwrap();
        given.extend(last);
        let mut read = Vec::new();
        while let Some(chunk) = spooled.next().unwrap() {
            read.push(chunk);
        }
        assert_eq!(format!("{given:?}"), format!("{read:?}"));
        read.into_iter().map(|chunk| chunk.bytes).collect()
    }

    #[test]
    fn a_change_leaves_pieces_elsewhere_as_they_were() {
        let whole = pieces(0..40_000);
        assert!(whole.len() > 8, "{}", whole.len());
        assert!(whole.iter().all(|piece| piece.len() <= CHUNK_BYTES + 300));
        let known: HashSet<_> = whole.iter().collect();
        let new = |changed: Vec<Vec<u8>>| {
            changed
                .iter()
                .filter(|piece| !known.contains(piece))
                .count()
        };
        let added = (0..20_000).chain([1 << 40]).chain(20_000..40_000);
        assert!(new(pieces(added)) <= 3);
        assert!(new(pieces(7..40_000)) <= 3);
        let removed = (0..40_000).filter(|event| *event != 1_000);
        assert!(new(pieces(removed)) <= 3);
        assert_eq!(new(pieces(0..40_100)), 1);
    }

    #[test]
    fn nothing_is_no_piece() {
        assert_eq!(pieces(0..0), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn events_are_found_by_their_keys() {
        let mut spool = Spool::new().unwrap();
        for (key, json) in [("a", "1"), ("a", "2"), ("b\n", "3")] {
            spool.push(key, json, 1).unwrap();
        }
        let chunk = spool.finish().unwrap().0.unwrap();
        assert_eq!(chunk.bytes, b"[1,2,3]");
        let at = |event| {
            let event = Some(event);
            chunk.locate(&crate::import::chunk::Spot {
                event,
                ..Default::default()
            })
        };
        assert_eq!((at(1), at(2)), (": a: ".to_owned(), ": b\\n: ".to_owned()));
    }
}
