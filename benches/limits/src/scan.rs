//! Reading files from one end to the other with a checksum over all bytes, and nothing else.

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// How much is read at a time.
const READ_BYTES: usize = 1 << 20;

/// Reads all files on one thread, with CRC32C. Answers how many bytes they had.
///
/// # Errors
/// If a file cannot be read.
pub fn scan(files: &[PathBuf]) -> Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    for path in files {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let mut crc = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            crc = crc32c::crc32c_append(crc, &buffer[..read]);
            bytes += read as u64;
        }
        black_box(crc);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_every_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: usize| {
            let path = directory.path().join(name);
            std::fs::write(&path, vec![7; bytes]).unwrap();
            path
        };
        let files = [file("a", READ_BYTES + 1), file("b", 3)];
        assert_eq!(scan(&files).unwrap(), READ_BYTES as u64 + 4);
    }
}
