//! Bytes without structure: two to a byte where they are few different ones, else as they are or as LZ4.

use super::RATIO_MAX;
use super::ints::{get_count, put_count};
use crate::log::{Malformed, Reader};

const PLAIN: u8 = 0;
/// Digits of hexadecimal numbers, small letters: two to a byte, the first in the upper half.
const HEXADECIMAL: u8 = 1;
/// Up to 16 different bytes, which come first; then the number of each, two to a byte.
const FEW: u8 = 2;
const LZ4: u8 = 3;

const FEW_MAX: usize = 16;
/// Below this, LZ4 does not pay.
const LZ4_FROM: usize = 128;
/// How much is compressed to see whether the rest should be.
const SAMPLE_BYTES: usize = 8 << 10;

/// The form (u8), and the bytes in it; how many there are must be known to who reads them.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_hexadecimal(bytes) {
        out.push(HEXADECIMAL);
        put_hexadecimal(out, bytes);
    } else if let Some(few) = Few::of(bytes) {
        out.push(FEW);
        few.put(out, bytes);
    } else if !put_lz4(out, bytes) {
        out.push(PLAIN);
        out.extend_from_slice(bytes);
    }
}

/// Reads `len` bytes; the caller has seen to the room.
pub(super) fn get(reader: &mut Reader<'_>, len: usize) -> Result<Vec<u8>, Malformed> {
    match reader.u8()? {
        PLAIN => reader.take(len).map(<[u8]>::to_vec),
        HEXADECIMAL => Ok(get_hexadecimal(reader.take(len.div_ceil(2))?, len)),
        FEW => get_few(reader, len),
        LZ4 => {
            let packed_len = get_count(reader)?;
            let packed = reader.take(packed_len)?;
            if len > RATIO_MAX * packed.len() {
                return Err(Malformed);
            }
            let bytes = lz4_flex::block::decompress(packed, len).map_err(|_| Malformed)?;
            if bytes.len() == len {
                Ok(bytes)
            } else {
                Err(Malformed)
            }
        }
        _ => Err(Malformed),
    }
}

fn is_hexadecimal(bytes: &[u8]) -> bool {
    // Without an early end within a piece, so the bytes are looked at many at a time.
    let all = |piece: &[u8]| {
        piece.iter().fold(true, |all, byte| {
            all & ((byte.wrapping_sub(b'0') < 10) | (byte.wrapping_sub(b'a') < 6))
        })
    };
    bytes.chunks(64).all(all)
}

fn put_hexadecimal(out: &mut Vec<u8>, bytes: &[u8]) {
    let half = |digit: u8| (digit & 0xf) + 9 * (digit >> 6);
    let (pairs, rest) = bytes.as_chunks::<2>();
    out.extend(
        pairs
            .iter()
            .map(|[first, second]| half(*first) << 4 | half(*second)),
    );
    out.extend(rest.iter().map(|last| half(*last) << 4));
}

fn get_hexadecimal(packed: &[u8], len: usize) -> Vec<u8> {
    const PAIRS: [[u8; 2]; 256] = {
        let digits = b"0123456789abcdef";
        let mut pairs = [[0; 2]; 256];
        let mut byte = 0;
        while byte < 256 {
            pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
            byte += 1;
        }
        pairs
    };
    let pairs = packed.iter().map(|byte| PAIRS[usize::from(*byte)]);
    let mut bytes: Vec<u8> = pairs.collect::<Vec<_>>().into_flattened();
    bytes.truncate(len);
    bytes
}

/// Which bytes there are, if they are few.
struct Few {
    bytes: [u8; FEW_MAX],
    count: usize,
    number: [u8; 256],
}

impl Few {
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut found = [false; 256];
        for piece in bytes.chunks(512) {
            piece
                .iter()
                .for_each(|byte| found[usize::from(*byte)] = true);
            if found.iter().filter(|found| **found).count() > FEW_MAX {
                return None;
            }
        }
        let mut few = Self {
            bytes: [0; FEW_MAX],
            count: 0,
            number: [0; 256],
        };
        for (byte, _) in (0..=u8::MAX).zip(found).filter(|(_, found)| *found) {
            few.bytes[few.count] = byte;
            few.number[usize::from(byte)] = few.count as u8;
            few.count += 1;
        }
        // They come first, which must pay.
        (few.count + 1 + bytes.len().div_ceil(2) < bytes.len()).then_some(few)
    }

    fn put(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        out.push(self.count as u8);
        out.extend_from_slice(&self.bytes[..self.count]);
        let number = |byte: &u8| self.number[usize::from(*byte)];
        let (pairs, rest) = bytes.as_chunks::<2>();
        out.extend(
            pairs
                .iter()
                .map(|[first, second]| number(first) << 4 | number(second)),
        );
        out.extend(rest.iter().map(|last| number(last) << 4));
    }
}

fn get_few(reader: &mut Reader<'_>, len: usize) -> Result<Vec<u8>, Malformed> {
    let count = usize::from(reader.u8()?);
    if count > FEW_MAX {
        return Err(Malformed);
    }
    let few = reader.take(count)?;
    let packed = reader.take(len.div_ceil(2))?;
    let mut bytes = Vec::with_capacity(len + 1);
    for pair in packed {
        for number in [pair >> 4, pair & 0xf] {
            let byte = few.get(usize::from(number)).ok_or(Malformed)?;
            bytes.push(*byte);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Compressed, if that saves a quarter of a sample.
fn put_lz4(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    if bytes.len() < LZ4_FROM {
        return false;
    }
    let pays = |plain: usize, packed: usize| packed <= plain - plain / 4;
    if bytes.len() > 2 * SAMPLE_BYTES {
        let sample = &bytes[bytes.len() / 2..][..SAMPLE_BYTES];
        if !pays(sample.len(), lz4_flex::block::compress(sample).len()) {
            return false;
        }
    }
    let packed = lz4_flex::block::compress(bytes);
    if !pays(bytes.len(), packed.len()) {
        return false;
    }
    out.push(LZ4);
    put_count(out, packed.len());
    out.extend_from_slice(&packed);
    true
}
