//! The files of the log: frames, segments, MANIFEST, snapshots.

use modelog_engine::fuzzing;

use super::mend::SLOT_INPUT_BYTES;
use super::{assert_within, memory, seeds};

/// Where the second slot of a MANIFEST lies in its file.
const SLOT_BYTES: usize = 256 << 10;

/// A frame. LZ4 makes up to 255 bytes of one, and arrays that are not aligned are copied once more.
pub(super) fn frame(bytes: &[u8]) -> bool {
    let (frame, peak) = memory::peak(|| fuzzing::frame(bytes));
    assert_within(peak, bytes.len(), (3 * 255, 64 << 10));
    frame.inspect(|frame| frame.check()).is_some()
}

/// A segment. It is read in pieces of 1 MiB, and only ends that may be the proven one are kept.
pub(super) fn segment(bytes: &[u8]) -> bool {
    let (segment, peak) = memory::peak(|| fuzzing::segment(bytes));
    assert_within(peak, bytes.len(), (4, 4 << 20));
    segment.inspect(|segment| segment.check()).is_some()
}

/// A MANIFEST, without what lies between its slots.
pub(super) fn manifest(bytes: &[u8]) -> bool {
    let (first, second) = bytes.split_at(bytes.len().min(SLOT_INPUT_BYTES));
    let mut file = first.to_vec();
    if !second.is_empty() {
        file.resize(SLOT_BYTES, 0);
        file.extend_from_slice(second);
    }
    let (manifest, peak) = memory::peak(|| fuzzing::manifest(&file));
    assert_within(peak, bytes.len(), (8, 5 * SLOT_BYTES));
    manifest.inspect(|manifest| manifest.check()).is_some()
}

/// A snapshot. Names, identities and sources lie in tables with room to grow.
pub(super) fn snapshot(bytes: &[u8]) -> bool {
    let (snapshot, peak) = memory::peak(|| fuzzing::snapshot(bytes));
    assert_within(peak, bytes.len(), (64, 64 << 10));
    snapshot
        .map(|snapshot| snapshot.check(seeds::batch_at))
        .is_some()
}
