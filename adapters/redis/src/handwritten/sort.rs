//! Sorting more than memory holds: by parts, which go to files without a name and are merged.
//!
//! The files lie where temporary ones do (`TMPDIR`), and are gone with the process, however it ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek as _, Write};

/// How much is sorted in memory.
const MEMORY_BYTES: usize = 16 << 20;
/// How many files are merged at a time, at most.
const FILES_MAX: usize = 16;
/// What a record takes beside its bytes, about.
const OVERHEAD: usize = 64;

/// What is sorted: by its key, then in the order it came in.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// Takes records in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    records: Vec<Record>,
    bytes: usize,
    memory: usize,
    /// Sorted files; those of a level were merged as often, and the oldest stand first.
    levels: Vec<Vec<File>>,
}

/// Gives them out in order.
#[derive(Debug)]
pub(super) struct Sorted {
    sources: Vec<Source>,
    /// The next record of each source.
    heads: BinaryHeap<Reverse<Head>>,
}

/// A record between those of other sources: its key, its source, its value.
type Head = (Vec<u8>, usize, Vec<u8>);

#[derive(Debug)]
enum Source {
    Memory(std::vec::IntoIter<Record>),
    File(BufReader<File>),
}

impl Sorter {
    pub(super) fn new() -> Self {
        Self::within(MEMORY_BYTES)
    }

    fn within(memory: usize) -> Self {
        Self {
            records: Vec::new(),
            bytes: 0,
            memory,
            levels: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> io::Result<()> {
        self.bytes += key.len() + value.len() + OVERHEAD;
        self.records.push((key, value));
        if self.bytes >= self.memory {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = write(Source::Memory(self.take()).alone()?)?;
        self.keep(file, 0)
    }

    fn take(&mut self) -> std::vec::IntoIter<Record> {
        self.bytes = 0;
        let mut records = std::mem::take(&mut self.records);
        records.sort_by(|one, other| one.0.cmp(&other.0));
        records.into_iter()
    }

    /// Keeps a sorted file, and merges those of its level once there are many.
    fn keep(&mut self, file: File, level: usize) -> io::Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        let files = &mut self.levels[level];
        files.push(file);
        if files.len() < FILES_MAX {
            return Ok(());
        }
        let merged = write(Sorted::of(sources(std::mem::take(files)))?)?;
        self.keep(merged, level + 1)
    }

    /// Everything, in order.
    pub(super) fn finish(mut self) -> io::Result<Sorted> {
        let last = self.take();
        // What was merged more often came before.
        let files = self.levels.into_iter().rev().flatten().collect();
        let mut sources = sources(files);
        sources.push(Source::Memory(last));
        Sorted::of(sources)
    }
}

fn sources(files: Vec<File>) -> Vec<Source> {
    let open = |file| Source::File(BufReader::new(file));
    files.into_iter().map(open).collect()
}

fn write(mut sorted: Sorted) -> io::Result<File> {
    let mut out = BufWriter::new(tempfile::tempfile()?);
    while let Some((key, value)) = sorted.next()? {
        for part in [&key, &value] {
            out.write_all(&(part.len() as u64).to_le_bytes())?;
            out.write_all(part)?;
        }
    }
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

impl Source {
    fn alone(self) -> io::Result<Sorted> {
        Sorted::of(vec![self])
    }

    fn next(&mut self) -> io::Result<Option<Record>> {
        match self {
            Self::Memory(records) => Ok(records.next()),
            Self::File(file) => match part(file)? {
                None => Ok(None),
                Some(key) => {
                    let value = part(file)?.ok_or(ErrorKind::UnexpectedEof)?;
                    Ok(Some((key, value)))
                }
            },
        }
    }
}

/// A part of a record; none at the end of the file.
fn part(file: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match file.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

impl Sorted {
    fn of(sources: Vec<Source>) -> io::Result<Self> {
        let mut sorted = Self {
            heads: BinaryHeap::with_capacity(sources.len()),
            sources,
        };
        for at in 0..sorted.sources.len() {
            sorted.advance(at)?;
        }
        Ok(sorted)
    }

    fn advance(&mut self, at: usize) -> io::Result<()> {
        if let Some((key, value)) = self.sources[at].next()? {
            self.heads.push(Reverse((key, at, value)));
        }
        Ok(())
    }

    /// The next record; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        let Some(Reverse((key, at, value))) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(at)?;
        Ok(Some((key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sorts_as_a_vector_does() {
        for (count, memory) in [(0_u64, 1), (1, 1), (1000, 1 << 20), (5000, 1000), (600, 1)] {
            let mut sorter = Sorter::within(memory);
            let mut expected = Vec::new();
            for at in 0..count {
                // Some keys come several times: their order stays.
                let key = (at.wrapping_mul(2_654_435_761) % 997)
                    .to_be_bytes()
                    .to_vec();
                let value = at.to_le_bytes()[..(at % 9) as usize].to_vec();
                expected.push((key.clone(), value.clone()));
                sorter.push(key, value).unwrap();
            }
            expected.sort_by(|one, other| one.0.cmp(&other.0));
            let mut sorted = sorter.finish().unwrap();
            let mut found = Vec::new();
            while let Some(record) = sorted.next().unwrap() {
                found.push(record);
            }
            assert_eq!(found, expected, "{count} within {memory}");
        }
    }
}
