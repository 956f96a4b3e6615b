//! Where an export goes: stdout, or a file that is there whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// Where an export goes.
#[derive(Debug)]
pub(super) enum Output {
    Stdout(BufWriter<StdoutLock<'static>>),
    /// A temporary file beside the one it becomes.
    File {
        written: BufWriter<NamedTempFile>,
        path: PathBuf,
    },
}

impl Output {
    /// Opens stdout for `-`, else a file.
    ///
    /// # Errors
    /// If no file can be made there.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(BufWriter::new(io::stdout().lock())));
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file = NamedTempFile::new_in(parent)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self::File {
            written: BufWriter::new(file),
            path: path.to_path_buf(),
        })
    }

    /// Whether it goes to a file, so that there is something to say when it is done.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Stdout(_) => None,
            Self::File { path, .. } => Some(path),
        }
    }

    /// Writes what is left, and gives the file its name.
    ///
    /// # Errors
    /// If the disk refuses; the file of that name is then as it was.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Stdout(mut out) => Ok(out.flush()?),
            Self::File { written, path } => {
                let failed = || format!("{} cannot be written", path.display());
                let file = written
                    .into_inner()
                    .map_err(io::IntoInnerError::into_error)
                    .with_context(failed)?;
                file.as_file().sync_all().with_context(failed)?;
                file.persist(&path)
                    .map_err(|error| error.error)
                    .with_context(failed)?;
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty());
                File::open(parent.unwrap_or(Path::new(".")))
                    .and_then(|directory| directory.sync_all())
                    .with_context(failed)
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File { written, .. } => written.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File { written, .. } => written.flush(),
        }
    }
}
