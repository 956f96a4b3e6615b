//! Makes checksums right, so that a decoder looks behind them. Written from `engine/FORMAT.md`, not from the code that it
//! tests.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

const FRAME_HEADER_BYTES: usize = 56;
const SEGMENT_HEADER_BYTES: usize = 4096;
/// Where the second slot of a MANIFEST lies in the input of its target, which leaves out what lies between.
pub(super) const SLOT_INPUT_BYTES: usize = 1024;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let (number, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*number))
}

fn put_u32(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// A frame that is all there is: its body is what follows the header, up to a multiple of 8.
pub(super) fn frame(mut bytes: Vec<u8>) -> Vec<u8> {
    let Some(body_len) = bytes.len().checked_sub(FRAME_HEADER_BYTES) else {
        return bytes;
    };
    let body_len = body_len - body_len % 8;
    bytes.truncate(FRAME_HEADER_BYTES + body_len);
    put_u32(&mut bytes, 8, body_len as u32);
    frame_sums(&mut bytes, crc32c::crc32c(&[0; 32]));
    bytes
}

/// The magic and both checksums of a frame, whose header's is seeded; answers the latter.
fn frame_sums(bytes: &mut [u8], seed: u32) -> u32 {
    bytes[..4].copy_from_slice(b"MLFR");
    let body = crc32c::crc32c(&bytes[FRAME_HEADER_BYTES..]);
    put_u32(bytes, 12, body);
    let header = crc32c::crc32c_append(seed, &bytes[8..FRAME_HEADER_BYTES]);
    put_u32(bytes, 4, header);
    header
}

/// A segment: its header, and every frame from the first one on, as long as their lengths lead to a next one.
pub(super) fn segment(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < SEGMENT_HEADER_BYTES {
        return bytes;
    }
    bytes[..8].copy_from_slice(b"MODELOGS");
    let crc = crc32c::crc32c(&bytes[..SEGMENT_HEADER_BYTES - 4]);
    put_u32(&mut bytes, SEGMENT_HEADER_BYTES - 4, crc);
    // The log's uuid and the segment's number, followed by the frame's position.
    let mut place = [0; 32];
    place[..24].copy_from_slice(&bytes[16..40]);
    let (mut at, mut chain) = (SEGMENT_HEADER_BYTES, 0);
    while let Some(body_len) = u32_at(&bytes, at + 8) {
        let end = at + FRAME_HEADER_BYTES + body_len as usize;
        if body_len % 8 != 0 || end > bytes.len() || bytes[at..at + 4] != *b"MLFR" {
            break;
        }
        put_u32(&mut bytes, at + 48, chain);
        place[24..].copy_from_slice(&(at as u64).to_le_bytes());
        chain = frame_sums(&mut bytes[at..end], crc32c::crc32c(&place));
        at = end;
    }
    bytes
}

/// Both slots of a MANIFEST, as far as their lengths allow.
pub(super) fn manifest(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len().min(SLOT_INPUT_BYTES);
    let (first, second) = bytes.split_at_mut(middle);
    for slot in [first, second] {
        let Some(len) = u32_at(slot, 16) else {
            continue;
        };
        let Some(end) = (len as usize)
            .checked_add(24)
            .filter(|end| *end <= slot.len())
        else {
            continue;
        };
        slot[..8].copy_from_slice(b"MODELOGM");
        let crc = crc32c::crc32c(&slot[..20]);
        let crc = crc32c::crc32c_append(crc, &slot[24..end]);
        put_u32(slot, 20, crc);
    }
    bytes
}

/// A snapshot of any sort, which its first eight bytes tell.
pub(super) fn snapshot(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(at) = bytes.len().checked_sub(4) {
        let crc = crc32c::crc32c(&bytes[..at]);
        put_u32(&mut bytes, at, crc);
    }
    bytes
}

/// The manifest of the Parquet files: the checksum of what its `manifest` is.
pub(super) fn parquet_manifest(bytes: Vec<u8>) -> Vec<u8> {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Envelope<'a> {
        format: u32,
        sha256: String,
        #[serde(borrow)]
        manifest: &'a RawValue,
    }
    let Ok(mut envelope) = serde_json::from_slice::<Envelope<'_>>(&bytes) else {
        return bytes;
    };
    let digest = Sha256::digest(envelope.manifest.get().as_bytes());
    envelope.sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::to_vec(&envelope).expect("what was read as JSON can be written")
}
