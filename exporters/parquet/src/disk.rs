//! Small things done to a disk in more than one place, in the order that makes them durable.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use modelog_engine::{Storage, StorageFile};

use crate::error::ParquetError;

/// Reads a range that must exist.
pub(crate) fn read_exact(
    file: &dyn StorageFile,
    path: &Path,
    buffer: &mut [u8],
    position: u64,
) -> Result<(), ParquetError> {
    let mut done = 0;
    while done < buffer.len() {
        let read = file
            .read_at(&mut buffer[done..], position + done as u64)
            .map_err(ParquetError::io("reading", path))?;
        if read == 0 {
            return Err(ParquetError::Damaged {
                path: path.to_path_buf(),
                reason: format!("it ends before byte {}", position + buffer.len() as u64),
            });
        }
        done += read;
    }
    Ok(())
}

/// The content of a small file; none if there is no such file.
pub(crate) fn read_all(
    storage: &dyn Storage,
    path: &Path,
) -> Result<Option<Vec<u8>>, ParquetError> {
    let file = match storage.open(path, false) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(ParquetError::io("opening", path))?,
    };
    let len = file.len().map_err(ParquetError::io("reading", path))?;
    let mut content = vec![0; len as usize];
    read_exact(&*file, path, &mut content, 0)?;
    Ok(Some(content))
}

/// Puts a file in place of another one, if there is one, so that a crash leaves one of the two.
pub(crate) fn replace(
    storage: &dyn Storage,
    directory: &Path,
    name: &str,
    content: &[u8],
) -> Result<(), ParquetError> {
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}.{}", crate::layout::UNFINISHED));
    let io = |action| ParquetError::io(action, &temporary);
    // What a crash left there is worth nothing.
    if storage.exists(&temporary).map_err(io("looking for"))? {
        storage.remove(&temporary).map_err(io("removing"))?;
    }
    let file = storage.create(&temporary).map_err(io("creating"))?;
    file.write_at(&[IoSlice::new(content)], 0)
        .map_err(io("writing"))?;
    file.sync_data().map_err(io("syncing"))?;
    storage.rename(&temporary, &path).map_err(io("renaming"))?;
    sync_dir(storage, directory)
}

pub(crate) fn sync_dir(storage: &dyn Storage, path: &Path) -> Result<(), ParquetError> {
    storage
        .sync_dir(path)
        .map_err(ParquetError::io("syncing", path))
}

/// Creates `root/below`. When it returns, `root` and every directory below it on the way are durable in their parents,
/// whoever created them: a process that died before this may not have got as far as that.
pub(crate) fn create_dirs(
    storage: &dyn Storage,
    root: &Path,
    below: &Path,
) -> Result<PathBuf, ParquetError> {
    let full = root.join(below);
    let is_dir = |path: &Path| {
        storage
            .is_dir(path)
            .map_err(ParquetError::io("looking for", path))
    };
    let mut unsure = Vec::new();
    let mut missing = false;
    for directory in full.ancestors() {
        if directory.as_os_str().is_empty() {
            break;
        }
        let there = is_dir(directory)?;
        if there && !directory.starts_with(root) {
            break;
        }
        missing |= !there;
        unsure.push(directory);
    }
    if missing {
        storage
            .create_dir_all(&full)
            .map_err(ParquetError::io("creating", &full))?;
    }
    for directory in unsure.into_iter().rev() {
        match directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_dir(storage, parent)?,
            _ => sync_dir(storage, Path::new("."))?,
        }
    }
    Ok(full)
}
