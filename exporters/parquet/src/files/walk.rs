//! Which files a directory holds.

use std::path::{Path, PathBuf};

use modelog_engine::Storage;

use super::error::FileError;

/// Directories below each other; more of them are no layout of ours, and may be a circle.
const DEPTH_MAX: usize = 6;

/// Every file below a directory, by path; of what lies too deep, the directory.
pub(crate) fn walk(storage: &dyn Storage, directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    descend(storage, directory, DEPTH_MAX, &mut files)?;
    files.sort_unstable();
    Ok(files)
}

fn descend(
    storage: &dyn Storage,
    directory: &Path,
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> Result<(), FileError> {
    if depth == 0 {
        files.push(directory.to_path_buf());
        return Ok(());
    }
    let names = storage
        .list(directory)
        .map_err(FileError::io("listing", directory))?;
    for path in names {
        if storage
            .is_dir(&path)
            .map_err(FileError::io("looking at", &path))?
        {
            descend(storage, &path, depth - 1, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
