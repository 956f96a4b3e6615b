//! Floats. Most were written by people or printed by programs: decimal fractions of a few digits, which are integers
//! once they are multiplied (the method of ALP: Afroozeh, Kuffó, Boncz, *ALP: Adaptive Lossless floating-Point
//! Compression*, SIGMOD 2024, without its exceptions). Those of models are often of single precision.

use super::ints;
use crate::log::{Malformed, Reader};

/// As integers: the bits themselves.
const BITS: u8 = 0;
/// As integers that a power of ten divides; the exponent follows.
const DECIMAL: u8 = 1;
/// As f32, which they are.
const SINGLE: u8 = 2;
/// Up to here a power of ten is exact, and dividing by it gives the nearest float to the decimal fraction.
const POWERS: [f64; 16] = [
    1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];
/// Adding it to a number below 2⁵¹ leaves the number rounded in the lowest bits.
const ROUNDING: f64 = 6_755_399_441_055_744.0;
const ROUNDED_MAX: f64 = 2_251_799_813_685_248.0;

/// The form (u8), and the values in it.
pub(super) fn put(out: &mut Vec<u8>, values: &[f64]) {
    if let Some((exponent, whole)) = decimals(values) {
        out.extend_from_slice(&[DECIMAL, exponent as u8]);
        ints::put(out, &whole);
    } else if values.iter().all(|value| is_single(*value)) {
        out.push(SINGLE);
        for value in values {
            out.extend_from_slice(&(*value as f32).to_le_bytes());
        }
    } else {
        out.push(BITS);
        let bits: Vec<i64> = values.iter().map(|value| value.to_bits() as i64).collect();
        ints::put(out, &bits);
    }
}

/// Reads `count` values; the caller has seen to the room.
pub(super) fn get(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Malformed> {
    Ok(match reader.u8()? {
        BITS => {
            let bits = ints::get(reader, count)?.into_iter();
            bits.map(|bits| f64::from_bits(bits as u64)).collect()
        }
        DECIMAL => {
            let power = *POWERS.get(usize::from(reader.u8()?)).ok_or(Malformed)?;
            let whole = ints::get(reader, count)?.into_iter();
            whole.map(|whole| whole as f64 / power).collect()
        }
        SINGLE => {
            let bytes = reader.take(count.checked_mul(4).ok_or(Malformed)?)?;
            let (singles, _) = bytes.as_chunks::<4>();
            let singles = singles.iter();
            singles
                .map(|single| f32::from_le_bytes(*single).into())
                .collect()
        }
        _ => return Err(Malformed),
    })
}

/// All values as integers, and the exponent of the power of ten that divides them.
fn decimals(values: &[f64]) -> Option<(usize, Vec<i64>)> {
    let mut exponent = 0;
    // A value that needs more digits than those before it starts again, so a few are asked first.
    for value in values.iter().step_by(values.len() / 16 + 1) {
        exponent = digits(*value, exponent)?;
    }
    let mut whole = Vec::with_capacity(values.len());
    while whole.len() < values.len() {
        whole.clear();
        let power = POWERS[exponent];
        for value in values {
            let Some(scaled) = scaled(*value, power) else {
                exponent = digits(*value, exponent + 1)?;
                break;
            };
            whole.push(scaled);
        }
    }
    Some((exponent, whole))
}

/// The least exponent, of those from one on, with which a value is whole.
fn digits(value: f64, from: usize) -> Option<usize> {
    (from..POWERS.len()).find(|exponent| scaled(value, POWERS[*exponent]).is_some())
}

/// The integer that, divided by the power, is the value to the bit.
#[inline]
fn scaled(value: f64, power: f64) -> Option<i64> {
    let product = value * power;
    let rounded = product + ROUNDING;
    let whole = (rounded.to_bits() as i64).wrapping_sub(ROUNDING.to_bits() as i64);
    let same = (whole as f64 / power).to_bits() == value.to_bits();
    (same && product.abs() < ROUNDED_MAX).then_some(whole)
}

fn is_single(value: f64) -> bool {
    f64::from(value as f32).to_bits() == value.to_bits()
}
