//! The bytes of a simulated file, and what becomes of those that were written and not synced.

use std::ops::Range;
use std::sync::Arc;

/// What a disk reads and writes at a time, and what damage to a block spoils.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// What is written whole or not at all.
const SECTOR_BYTES: u64 = 512;
const ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];

pub(super) type Block = Arc<[u8; BLOCK_BYTES as usize]>;

/// Numbers that follow from a seed (SplitMix64), the same everywhere and forever: a printed seed must replay.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `end`, which must not be 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What is written at once; stretches of zeros take no memory.
#[derive(Clone)]
pub(super) enum Data {
    Zeros(u64),
    Bytes(Arc<[u8]>),
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Zeros(len) => write!(f, "{len} zeros"),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

impl Data {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let zeros = |piece: &[u8]| *piece == ZEROS[..piece.len()];
        if bytes.chunks(ZEROS.len()).all(zeros) {
            Self::Zeros(bytes.len() as u64)
        } else {
            Self::Bytes(bytes.into())
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Zeros(len) => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// The first bytes of it.
    pub(super) fn prefix(&self, len: u64) -> Self {
        match self {
            Self::Zeros(_) => Self::Zeros(len),
            Self::Bytes(bytes) => Self::Bytes(bytes[..len as usize].into()),
        }
    }

    /// A part; none if it is zeros.
    fn part(&self, range: Range<u64>) -> Option<&[u8]> {
        match self {
            Self::Zeros(_) => None,
            Self::Bytes(bytes) => Some(&bytes[range.start as usize..range.end as usize]),
        }
    }
}

/// A change of a file that no sync has followed yet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { position: u64, data: Data },
    SetLen(u64),
}

/// Bytes of a file. Blocks are shared between copies until they are written; those never written are zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    blocks: Vec<Option<Block>>,
    len: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let end = position + buffer.len() as u64;
        let end = end.min(self.len).max(position);
        for (block, within, part) in pieces(position..end) {
            let target = &mut buffer[part.start as usize..part.end as usize];
            match self.blocks.get(block).and_then(Option::as_ref) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + target.len()]),
                None => target.fill(0),
            }
        }
        (end - position) as usize
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { position, data } => self.write(*position, data, 0..data.len()),
            Change::SetLen(len) => self.set_len(*len),
        }
    }

    /// Writes a part of what was to be written at a position, at its place.
    fn write(&mut self, position: u64, data: &Data, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (start, end) = (position + range.start, position + range.end);
        self.set_len(self.len.max(end));
        for (block, within, part) in pieces(start..end) {
            let len = (part.end - part.start) as usize;
            let slot = &mut self.blocks[block];
            let source = data.part(range.start + part.start..range.start + part.end);
            match source {
                None if len == ZEROS.len() => *slot = None,
                None if slot.is_none() => {}
                None => own(slot)[within..within + len].fill(0),
                Some(bytes) => own(slot)[within..within + len].copy_from_slice(bytes),
            }
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.blocks.resize(len.div_ceil(BLOCK_BYTES) as usize, None);
        let rest = (len % BLOCK_BYTES) as usize;
        if len < self.len
            && rest > 0
            && let Some(slot @ Some(_)) = self.blocks.last_mut()
        {
            own(slot)[rest..].fill(0);
        }
        self.len = len;
    }

    pub(super) fn flip(&mut self, position: u64, bit: u8) {
        if let Some(slot) = self.blocks.get_mut((position / BLOCK_BYTES) as usize) {
            own(slot)[(position % BLOCK_BYTES) as usize] ^= 1 << (bit % 8);
        }
    }

    /// Its blocks that are not all zeros.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().flatten()
    }
}

fn own(slot: &mut Option<Block>) -> &mut [u8; BLOCK_BYTES as usize] {
    Arc::make_mut(slot.get_or_insert_with(|| Arc::new(ZEROS)))
}

/// Cuts a range at the borders of blocks: block, place in it, and the part of the range.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (usize, usize, Range<u64>)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let within = at % BLOCK_BYTES;
        let end = range.end.min(at - within + BLOCK_BYTES);
        let part = at - range.start..end - range.start;
        let block = at / BLOCK_BYTES;
        at = end;
        Some((block as usize, within as usize, part))
    })
}

/// What the power going does to changes that were not synced.
#[derive(Debug)]
pub(super) struct Fate<'a> {
    pub(super) chance: Chance,
    /// A write may spoil the rest of the blocks it touches, too.
    pub(super) torn_blocks: bool,
    /// Blocks of this disk, whose old bytes may turn up elsewhere.
    pub(super) blocks: &'a [Block],
}

impl Fate<'_> {
    /// Lets changes reach the disk, or parts of them, or something else.
    pub(super) fn land(&mut self, content: &mut Content, changes: &[Change]) {
        for change in changes {
            match change {
                Change::SetLen(len) => {
                    if self.chance.one_in(2) {
                        content.set_len(*len);
                    }
                }
                Change::Write { position, data } => self.land_write(content, *position, data),
            }
        }
    }

    fn land_write(&mut self, content: &mut Content, position: u64, data: &Data) {
        let before = content.len();
        let end = position + data.len();
        match self.chance.below(8) {
            0..=2 => content.write(position, data, 0..data.len()),
            // Dropped; the file may have grown all the same.
            3..=4 => {
                if end > before && self.chance.one_in(4) {
                    content.set_len(end);
                }
            }
            5..=6 => self.land_partly(content, position, data),
            _ => {
                content.write(position, data, 0..data.len());
                self.garble(content, position..end);
            }
        }
        // The length is not the data: it may have come to the disk earlier, and cut off what was added since.
        if content.len() > before && self.chance.one_in(6) {
            let grown = content.len() - before;
            content.set_len(before + self.chance.below(grown + 1));
        }
    }

    /// Some sectors of a write: the first ones, the last ones, or any.
    fn land_partly(&mut self, content: &mut Content, position: u64, data: &Data) {
        let sectors: Vec<_> = sectors(position..position + data.len()).collect();
        let cut = self.chance.below(sectors.len() as u64 + 1) as usize;
        let sort = self.chance.below(3);
        for (number, sector) in sectors.into_iter().enumerate() {
            let lands = match sort {
                0 => number < cut,
                1 => number >= cut,
                _ => self.chance.one_in(2),
            };
            if lands {
                content.write(
                    position,
                    data,
                    sector.start - position..sector.end - position,
                );
            }
        }
    }

    /// Spoils some of the sectors in a range, or one of the blocks at its borders whole.
    fn garble(&mut self, content: &mut Content, range: Range<u64>) {
        if self.torn_blocks && self.chance.one_in(2) {
            let at = if self.chance.one_in(2) {
                range.start
            } else {
                range.end - 1
            };
            let start = at - at % BLOCK_BYTES;
            self.fill(content, start..(start + BLOCK_BYTES).min(content.len()));
            return;
        }
        let sectors: Vec<_> = sectors(range).collect();
        for _ in 0..=self.chance.below(3) {
            let chosen = self.chance.below(sectors.len() as u64) as usize;
            self.fill(content, sectors[chosen].clone());
        }
    }

    /// Fills a range with noise, ones, or what stands elsewhere on the disk.
    fn fill(&mut self, content: &mut Content, range: Range<u64>) {
        let len = (range.end - range.start) as usize;
        let mut bytes = vec![0xff; len];
        match self.chance.below(3) {
            0 => {}
            1 if !self.blocks.is_empty() => {
                let block = &self.blocks[self.chance.below(self.blocks.len() as u64) as usize];
                let within = (range.start % BLOCK_BYTES) as usize;
                let same_place = self.chance.one_in(2);
                let from = if same_place { within } else { 0 };
                let len = len.min(block.len() - from);
                bytes[..len].copy_from_slice(&block[from..from + len]);
            }
            _ => {
                for piece in bytes.chunks_mut(8) {
                    piece.copy_from_slice(&self.chance.number().to_le_bytes()[..piece.len()]);
                }
            }
        }
        let data = Data::new(bytes);
        content.write(range.start, &data, 0..data.len());
    }
}

fn sectors(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let end = range.end.min(at - at % SECTOR_BYTES + SECTOR_BYTES);
        let sector = at..end;
        at = end;
        Some(sector)
    })
}
