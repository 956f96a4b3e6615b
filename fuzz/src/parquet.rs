//! The list of finished Parquet files.

use std::path::Path;

use modelog_parquet::layout::FileKind;
use modelog_parquet::manifest::Manifest;

use super::{assert_within, memory};

/// A manifest; serde allocates what it reads, and the text of an error.
pub(super) fn manifest(bytes: &[u8]) -> bool {
    let path = Path::new("_manifest.json");
    let (found, peak) = memory::peak(|| Manifest::from_json(bytes, path).ok());
    assert_within(peak, bytes.len(), (16, 64 << 10));
    let Some(found) = found else {
        return false;
    };
    let again = Manifest::from_json(&found.to_json(), path);
    assert_eq!(
        again.expect("P3: what was accepted is read again"),
        found,
        "P3"
    );
    let listed: usize = kinds(&found).map(|kind| found.files_of(kind).len()).sum();
    assert_eq!(
        listed,
        found.files.len(),
        "P3: every file is of a kind, in one piece"
    );
    for kind in kinds(&found) {
        let files = found.files_of(kind);
        assert!(
            files.windows(2).all(|pair| pair[0].end <= pair[1].first),
            "P3: files do not overlap"
        );
        assert!(
            files.iter().all(|file| file.first < file.end),
            "P3: files are not empty"
        );
        assert!(
            files.iter().all(
                |file| file.locate(Path::new("/parquet")).starts_with("/parquet")
                    && !file.path.contains("..")
            ),
            "P3: files lie below the directory"
        );
    }
    let _ = found.bytes();
    true
}

fn kinds(manifest: &Manifest) -> impl Iterator<Item = FileKind> {
    let mut kinds: Vec<FileKind> = manifest.files.iter().map(|file| file.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter()
}
