//! Integers: how far each is from the least of them, or, where that takes fewer bits, how its step from the one before
//! differs from the least step.

use super::{bits, get_number, get_signed, put_signed};
use crate::log::{Malformed, Reader};

/// Set in the width where steps are written.
const STEPS: u8 = 0x80;

/// Width (u8), the first or least value, the least step where it is steps, the distances as bits.
pub(super) fn put(out: &mut Vec<u8>, values: &[i64]) {
    let (least, width) = spread(values.iter().copied());
    let steps = || {
        let pairs = values.windows(2);
        pairs.map(|pair| pair[1].wrapping_sub(pair[0]))
    };
    if width > 1 {
        let (least_step, steps_width) = spread(steps());
        if steps_width < width {
            out.push(STEPS | steps_width as u8);
            put_signed(out, values[0]);
            put_signed(out, least_step);
            let distances = steps().map(|step| step.wrapping_sub(least_step) as u64);
            bits::put(out, distances, steps_width);
            return;
        }
    }
    out.push(width as u8);
    put_signed(out, least);
    let distances = values.iter().map(|value| value.wrapping_sub(least) as u64);
    bits::put(out, distances, width);
}

/// The least value, and how many bits the distances from it take.
fn spread(values: impl Iterator<Item = i64>) -> (i64, u32) {
    let ends = values.fold(None, |ends: Option<(i64, i64)>, value| {
        let (least, most) = ends.unwrap_or((value, value));
        Some((least.min(value), most.max(value)))
    });
    let (least, most) = ends.unwrap_or_default();
    // In 64 bits without a sign even the widest distance has room.
    (
        least,
        u64::BITS - (most.wrapping_sub(least) as u64).leading_zeros(),
    )
}

/// Reads `count` values; the caller has seen to the room.
pub(super) fn get(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    let width = reader.u8()?;
    let first = get_signed(reader)?;
    let mut values = Vec::with_capacity(count);
    if width & STEPS == 0 {
        bits::get(reader, count, width.into(), |distance| {
            values.push(first.wrapping_add(distance as i64));
        })?;
        return Ok(values);
    }
    let least_step = get_signed(reader)?;
    let mut value = first;
    if count > 0 {
        values.push(value);
    }
    let steps = count.saturating_sub(1);
    bits::get(reader, steps, (width & !STEPS).into(), |distance| {
        value = value.wrapping_add(least_step).wrapping_add(distance as i64);
        values.push(value);
    })?;
    Ok(values)
}

/// Appends a count.
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    super::put_number(out, count as u64);
}

pub(super) fn get_count(reader: &mut Reader<'_>) -> Result<usize, Malformed> {
    usize::try_from(get_number(reader)?).map_err(|_| Malformed)
}
