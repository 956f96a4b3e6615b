//! Numbers of a fixed count of bits, one after the other: the lowest bit first, in bytes from the first on.

use crate::log::{Malformed, Reader};

/// Appends values, of which only the lowest `width` bits, at most 64, may be set.
pub(super) fn put(out: &mut Vec<u8>, values: impl Iterator<Item = u64>, width: u32) {
    if width == 0 {
        return;
    }
    let (mut gathered, mut used) = (0_u64, 0);
    for value in values {
        gathered |= value << used;
        used += width;
        if used >= 64 {
            out.extend_from_slice(&gathered.to_le_bytes());
            used -= 64;
            gathered = if used == 0 {
                0
            } else {
                value >> (width - used)
            };
        }
    }
    let rest = used.div_ceil(8) as usize;
    out.extend_from_slice(&gathered.to_le_bytes()[..rest]);
}

/// Reads `count` values and gives each, with its place, to `take`.
pub(super) fn get(
    reader: &mut Reader<'_>,
    count: usize,
    width: u32,
    mut take: impl FnMut(u64),
) -> Result<(), Malformed> {
    if width > 64 {
        return Err(Malformed);
    }
    let bits = count.checked_mul(width as usize).ok_or(Malformed)?;
    let bytes = reader.take(bits.div_ceil(8))?;
    if width == 0 {
        (0..count).for_each(|_| take(0));
        return Ok(());
    }
    let mask = u64::MAX >> (64 - width);
    let mut bit = 0;
    for _ in 0..count {
        let (at, shift) = (bit / 8, (bit % 8) as u32);
        let value = match bytes.get(at..at + 8).and_then(|eight| eight.first_chunk()) {
            Some(eight) if shift + width <= 64 => u64::from_le_bytes(*eight) >> shift,
            _ => spanning(&bytes[at..], shift),
        };
        take(value & mask);
        bit += width as usize;
    }
    Ok(())
}

/// A value of which up to 9 bytes hold a part, or that lies at the end.
#[cold]
fn spanning(bytes: &[u8], shift: u32) -> u64 {
    let mut sixteen = [0; 16];
    let there = bytes.len().min(16);
    sixteen[..there].copy_from_slice(&bytes[..there]);
    (u128::from_le_bytes(sixteen) >> shift) as u64
}
