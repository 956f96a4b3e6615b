//! Writing to a file and syncing it, and nothing else.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::corpus::Body;

/// Writes each body to a new file and syncs it before the next; the file is removed again.
///
/// # Errors
/// If the disk fails.
pub fn write_and_sync(directory: &Path, bodies: &[Body]) -> Result<()> {
    let path = directory.join("limit");
    let mut file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    for body in bodies {
        file.write_all(&body.bytes)?;
        file.sync_data()?;
    }
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(())
}
