//! The inside of strings: where plain text ends, and what escapes stand for.

use crate::error::{Code, Fault, Faulty};

/// Where the first quote, backslash or control character is, from a place on; the end if there is none.
#[inline]
pub(crate) fn plain_end(bytes: &[u8], from: usize) -> usize {
    let mut rest = bytes.get(from..).unwrap_or_default();
    while let Some((chunk, after)) = rest.split_first_chunk::<WIDTH>() {
        let found = special(chunk);
        if found != 0 {
            return bytes.len() - rest.len() + first(found);
        }
        rest = after;
    }
    let found = rest
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    bytes.len() - rest.len() + found.unwrap_or(rest.len())
}

/// How many bytes are looked at together.
#[cfg(target_arch = "x86_64")]
const WIDTH: usize = 16;

/// A bit for every byte that is a quote, a backslash or a control character.
#[cfg(target_arch = "x86_64")]
#[inline]
fn special(chunk: &[u8; WIDTH]) -> u32 {
    // SAFETY: the function needs SSE2, which every x86-64 processor has.
    unsafe { special_sse2(chunk) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn special_sse2(chunk: &[u8; WIDTH]) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8,
    };
    let number = u128::from_le_bytes(*chunk);
    let block = _mm_set_epi64x((number >> 64) as i64, number as i64);
    let quote = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"' as i8));
    let backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\' as i8));
    let control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
    _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
}

/// The first byte of which there is a bit.
#[cfg(target_arch = "x86_64")]
#[inline]
fn first(found: u32) -> usize {
    found.trailing_zeros() as usize
}

/// How many bytes are looked at together.
#[cfg(not(target_arch = "x86_64"))]
const WIDTH: usize = 8;

/// The high bit of every byte that is a quote, a backslash or a control character; bytes after the first such may be
/// marked wrongly.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn special(chunk: &[u8; WIDTH]) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let word = u64::from_le_bytes(*chunk);
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    (quote.wrapping_sub(ONES) & !quote
        | backslash.wrapping_sub(ONES) & !backslash
        | word.wrapping_sub(ONES * 0x20) & !word)
        & HIGH
}

/// The first byte of which there is a bit.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn first(found: u64) -> usize {
    (found.trailing_zeros() / 8) as usize
}

/// The character of an escape, and where it ends.
pub(super) fn escape(bytes: &[u8], at: usize) -> Faulty<(char, usize)> {
    let character = match bytes.get(at + 1) {
        Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(bytes, at),
        _ => {
            return Err(Fault::new(
                Code::BadJson,
                at,
                "a string holds an unknown escape",
            ));
        }
    };
    Ok((character, at + 2))
}

fn unicode_escape(bytes: &[u8], at: usize) -> Faulty<(char, usize)> {
    let unit = |at: usize| -> Option<u32> {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |value, digit| {
            Some(value << 4 | char::from(*digit).to_digit(16)?)
        })
    };
    let unpaired = || {
        let message = "a string holds half of a surrogate pair";
        Fault::new(Code::UnpairedSurrogate, at, message)
    };
    match unit(at) {
        None => Err(Fault::new(
            Code::BadJson,
            at,
            "\\u is followed by four hexadecimal digits",
        )),
        Some(high @ 0xd800..=0xdbff) => match unit(at + 6) {
            Some(low @ 0xdc00..=0xdfff) => {
                let code = 0x1_0000 + ((high - 0xd800) << 10 | (low - 0xdc00));
                let character = char::from_u32(code).ok_or_else(unpaired)?;
                Ok((character, at + 12))
            }
            _ => Err(unpaired()),
        },
        Some(code) => Ok((char::from_u32(code).ok_or_else(unpaired)?, at + 6)),
    }
}
