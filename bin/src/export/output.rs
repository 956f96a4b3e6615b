//! Where an export goes: stdout, or a file that is there whole or not at all. A device or a pipe is written to, never
//! replaced by a file; where a link leads is replaced, not the link.

use std::fs::File;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// Where an export goes.
#[derive(Debug)]
pub(super) enum Output {
    Stdout(BufWriter<Stdout>),
    /// A temporary file beside the one it becomes.
    File {
        written: BufWriter<NamedTempFile>,
        path: PathBuf,
    },
    /// Something else that has a name.
    Special {
        written: BufWriter<File>,
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
            return Ok(Self::Stdout(BufWriter::new(io::stdout())));
        }
        let failed = || format!("{} cannot be written", path.display());
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(path);
            return Ok(Self::Special {
                written: BufWriter::new(file.with_context(failed)?),
                path: path.to_path_buf(),
            });
        }
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let file = NamedTempFile::new_in(parent(&path)).with_context(failed)?;
        Ok(Self::File {
            written: BufWriter::new(file),
            path,
        })
    }

    /// Whether it goes to a file, so that there is something to say when it is done.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Stdout(_) => None,
            Self::File { path, .. } | Self::Special { path, .. } => Some(path),
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
                File::open(parent(&path))
                    .and_then(|directory| directory.sync_all())
                    .with_context(failed)
            }
            Self::Special { mut written, path } => written
                .flush()
                .with_context(|| format!("{} cannot be written", path.display())),
        }
    }
}

/// The directory something is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File { written, .. } => written.write(bytes),
            Self::Special { written, .. } => written.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File { written, .. } => written.flush(),
            Self::Special { written, .. } => written.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::process::Command;

    use super::*;

    fn export(path: &Path) {
        let mut output = Output::open(path).unwrap();
        output.write_all(b"new").unwrap();
        output.finish().unwrap();
    }

    #[test]
    fn a_pipe_is_written_to_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        // A reader that is there before the writer and stays, whatever the writer does.
        let reader = File::options().read(true).write(true).open(&pipe).unwrap();
        export(&pipe);
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let mut bytes = [0; 3];
        (&reader).read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"new");
    }

    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "old").unwrap();
        symlink(&file, &link).unwrap();
        export(&link);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
