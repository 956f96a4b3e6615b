//! Little-endian numbers, strings and checksums, as all of the log's files use them.

use std::sync::Arc;

/// The bytes ended early, or a length points beyond them, or text is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are malformed")]
pub(crate) struct Malformed;

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u128(out: &mut Vec<u8>, value: u128) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A length in 16 bits, then the text.
///
/// # Panics
/// Beyond 65,535 bytes; all names are far shorter.
pub(crate) fn put_str(out: &mut Vec<u8>, value: &str) {
    put_u16(out, u16::try_from(value.len()).expect("names are short"));
    out.extend_from_slice(value.as_bytes());
}

/// Reads what the `put_` functions wrote; every length is checked against what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn str(&mut self) -> Result<Arc<str>, Malformed> {
        let len = self.u16()?;
        let text = self.take(len.into())?;
        std::str::from_utf8(text)
            .map(Arc::from)
            .map_err(|_| Malformed)
    }

    /// Whether nothing is left but zeros.
    pub(crate) fn is_zeros(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// What was read, if that was all there is.
    pub(crate) fn ended<T>(&self, read: T) -> Result<T, Malformed> {
        if self.0.is_empty() {
            Ok(read)
        } else {
            Err(Malformed)
        }
    }

    /// A count of things that take at least `least` bytes each, so that no allocation exceeds the input.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > self.0.len() / least {
            Err(Malformed)
        } else {
            Ok(count)
        }
    }
}

/// Fills up with zeros to a multiple of 8.
pub(crate) fn pad_to_8(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(8), 0);
}
