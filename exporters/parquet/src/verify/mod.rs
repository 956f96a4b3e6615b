//! Reads every byte of a directory of Parquet files and says all that is wrong with it.
//!
//! 1. The manifest against its own checksum.
//! 2. Each file against the manifest: size, SHA-256, footer, the day of its directory.
//! 3. The places of all rows, over all kinds together (`places`): each offset below `cold_end` exactly once, append
//!    times that do not go back; names and origins in order.
//! 4. Row by row against the segments that still exist (`agreement`).
//! 5. What else lies in the directory.
//!
//! Damage is a finding, not an error; what a damaged file hides is not reported a second time as missing. Memory holds
//! a few pieces of each kind.

mod agreement;
mod places;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelog_engine::inspect::{Finding, SegmentReader, Severity};
use modelog_engine::{LogId, Offset, Storage};

use crate::error::ParquetError;
use crate::files::{self, FileError, History, ParquetFile};
use crate::layout::{FileKind, FileName, MANIFEST, date_of, is_unfinished};
use crate::leftovers::LOCK;
use crate::manifest::{FileEntry, Manifest};
use places::Hidden;

/// More findings than this are counted, not listed.
const FINDINGS_MAX: usize = 1000;

/// What was found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Whose history it is; none if there is none.
    pub log: Option<LogId>,
    /// Everything before this offset should be in the files.
    pub cold_end: Offset,
    pub files: u64,
    /// Rows of sound files, names and origins among them.
    pub rows: u64,
    /// Of sound files.
    pub bytes: u64,
    /// Events that were compared with those in segments.
    pub compared: u64,
    pub findings: Vec<Finding>,
}

impl Verification {
    /// Whether something is not as it was written.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let damage = |finding: &Finding| finding.severity != Severity::Notice;
        self.findings.iter().any(damage)
    }
}

/// How far verifying has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes of files that were compared with their checksums.
    Files { bytes: u64, of: u64 },
    /// Offsets whose places were looked at.
    Places { offsets: u64, of: u64 },
    /// Events compared with those in segments.
    Segments { events: u64, of: u64 },
}

/// Verifies the Parquet files of a directory, and that they agree with the segments of their log.
///
/// # Errors
/// If the disk fails, or the manifest is of a newer form. A manifest that is damaged is a finding.
pub fn verify(
    directory: &Path,
    storage: &Arc<dyn Storage>,
    segments: Option<SegmentReader>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verification, ParquetError> {
    let mut verifier = Verifier {
        history: Arc::new(History::new(Arc::clone(storage), directory.to_path_buf())),
        findings: Findings::default(),
        found: Verification {
            log: None,
            cold_end: Offset::ZERO,
            files: 0,
            rows: 0,
            bytes: 0,
            compared: 0,
            findings: Vec::new(),
        },
    };
    let manifest = match Manifest::load(&**storage, directory) {
        Ok(manifest) => manifest,
        Err(ParquetError::Manifest { path, reason }) => {
            verifier.findings.corrupt(&path, None, reason);
            None
        }
        Err(error) => return Err(error),
    };
    if let Some(manifest) = manifest {
        verifier.manifest(manifest, segments, progress)?;
    } else if verifier.findings.list.is_empty() {
        verifier.no_manifest(segments.as_ref())?;
    }
    Ok(verifier.finish())
}

/// What is wrong, up to a bound.
#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
    more: u64,
}

impl Findings {
    fn add(
        &mut self,
        path: &Path,
        position: u64,
        offset: Option<Offset>,
        severity: Severity,
        what: String,
    ) {
        if self.list.len() == FINDINGS_MAX {
            self.more += 1;
            return;
        }
        self.list.push(Finding {
            path: path.to_path_buf(),
            position,
            offset,
            severity,
            what,
        });
    }

    fn corrupt(&mut self, path: &Path, offset: Option<Offset>, what: String) {
        self.add(path, 0, offset, Severity::Corrupt, what);
    }

    fn notice(&mut self, path: &Path, what: impl Into<String>) {
        self.add(path, 0, None, Severity::Notice, what.into());
    }

    /// Notes what is wrong with a file; that the disk fails to read it is damage too.
    fn note(&mut self, error: FileError) {
        match error {
            FileError::Io {
                action,
                path,
                source,
            } => self.corrupt(&path, None, format!("{action} it failed: {source}")),
            FileError::Corrupt {
                path,
                position,
                offset,
                reason,
            } => self.add(&path, position, Some(offset), Severity::Corrupt, reason),
            FileError::Foreign { path, reason } => self.corrupt(&path, None, reason),
        }
    }
}

struct Verifier {
    history: Arc<History>,
    findings: Findings,
    found: Verification,
}

impl Verifier {
    fn finish(self) -> Verification {
        let Findings { mut list, more } = self.findings;
        if more > 0 {
            list.push(Finding {
                path: self.history.directory().to_path_buf(),
                position: 0,
                offset: None,
                severity: Severity::Corrupt,
                what: format!("{more} more findings are not listed"),
            });
        }
        Verification {
            findings: list,
            ..self.found
        }
    }

    fn manifest(
        &mut self,
        manifest: Manifest,
        segments: Option<SegmentReader>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ParquetError> {
        self.found.log = Some(manifest.log);
        self.found.cold_end = manifest.cold_end;
        self.found.files = manifest.files.len() as u64;
        let of = manifest.bytes();
        let mut bytes = 0;
        let mut sound = Vec::new();
        let mut hidden = Hidden::default();
        for entry in &manifest.files {
            match self.file(manifest.log, entry) {
                Ok(()) => sound.push(entry.clone()),
                Err(error) => {
                    self.findings.note(error);
                    hidden.add(entry);
                }
            }
            bytes += entry.bytes;
            progress(Progress::Files { bytes, of });
        }
        self.found.rows = sound.iter().map(|entry| entry.rows).sum();
        self.found.bytes = sound.iter().map(|entry| entry.bytes).sum();
        self.others(&manifest);
        let sound = Arc::new(Manifest {
            files: sound,
            ..manifest
        });
        let of = sound.cold_end.0;
        let mut tell = |offsets: u64| {
            let offsets = offsets.min(of);
            progress(Progress::Places { offsets, of });
        };
        places::check(&self.history, &sound, hidden, &mut self.findings, &mut tell)?;
        if let Some(segments) = segments {
            let of = sound.cold_end.since(segments.first());
            let mut tell = |events| progress(Progress::Segments { events, of });
            self.found.compared = agreement::check(
                &self.history,
                &sound,
                segments,
                &mut self.findings,
                &mut tell,
            );
        }
        Ok(())
    }

    /// A directory that never had a manifest has no history either, unless files or the log say otherwise.
    fn no_manifest(&mut self, segments: Option<&SegmentReader>) -> Result<(), ParquetError> {
        let directory = self.history.directory().to_path_buf();
        let path = directory.join(MANIFEST);
        let handed_over = segments.map(SegmentReader::cold_end);
        if let Some(end) = handed_over.filter(|end| *end > Offset::ZERO) {
            let what = format!(
                "the file is missing, though the log has handed over everything before {end}"
            );
            self.findings.corrupt(&path, Some(Offset::ZERO), what);
            return Ok(());
        }
        let storage = self.history.storage();
        let exists = storage
            .is_dir(&directory)
            .map_err(ParquetError::io("looking for", &directory))?;
        if !exists {
            return Ok(());
        }
        let files = files::walk(storage, &directory)?;
        let below = |path: &PathBuf| path.strip_prefix(&directory).ok().and_then(FileName::parse);
        let listed = files.iter().filter_map(below).count();
        match handed_over {
            _ if listed == 0 => {}
            // A crash came before the first manifest.
            Some(_) => {
                let what = format!(
                    "{listed} files are in no manifest; the next start of the server removes them"
                );
                self.findings.notice(&directory, what);
            }
            None => {
                let what = format!(
                    "the file is missing, and {listed} files that it should list are there"
                );
                self.findings.corrupt(&path, None, what);
            }
        }
        Ok(())
    }

    /// One file against what the manifest says.
    fn file(&mut self, log: LogId, entry: &FileEntry) -> Result<(), FileError> {
        let file = self.history.open(log, entry)?;
        let corrupt =
            |reason: String| Err(files::Place::start(file.path(), entry.first).corrupt(reason));
        let date = FileName::parse(Path::new(&entry.path)).map(|name| name.date);
        for time in [entry.min_append_time, entry.max_append_time] {
            if date.is_some_and(|date| date != date_of(time)) {
                return corrupt(format!("it holds events of {time}, another day"));
            }
        }
        if let Some((first, last)) = file.offsets()
            && (first, last.advance(1)) != (entry.first, entry.end)
        {
            return corrupt(format!("its footer says events {first} to {last}"));
        }
        Ok(())
    }

    /// What lies in the directory without being in the manifest.
    fn others(&mut self, manifest: &Manifest) {
        let directory = self.history.directory().to_path_buf();
        let known: std::collections::HashSet<PathBuf> = manifest
            .files
            .iter()
            .map(|entry| entry.locate(&directory))
            .chain([MANIFEST, LOCK].map(|name| directory.join(name)))
            .collect();
        let found = match files::walk(self.history.storage(), &directory) {
            Ok(found) => found,
            Err(error) => {
                self.findings.note(error);
                return;
            }
        };
        for path in found {
            if known.contains(&path) {
                continue;
            }
            let below = path.strip_prefix(&directory).unwrap_or(&path);
            let what = self.other(manifest, &path, below);
            self.findings.notice(&path, what);
        }
    }

    fn other(&self, manifest: &Manifest, path: &Path, below: &Path) -> &'static str {
        if is_unfinished(below) || below == Path::new(&format!("{MANIFEST}.tmp")) {
            return "an unfinished file: being written, or left by a crash; the next start of the server removes it then";
        }
        let Some(name) = FileName::parse(below) else {
            return match below.extension() {
                Some(end) if end == "parquet" => {
                    "not a file of ours; programs that read the whole directory will read it too"
                }
                _ => "not a file of ours; it is left alone",
            };
        };
        let opened = ParquetFile::open_at(self.history.storage(), path, name.first);
        match opened {
            Ok(file) if file.log() != Some(manifest.log) => {
                "of another log; programs that read the whole directory will read it too"
            }
            Ok(_) if name.first >= manifest.cold_end.max(manifest.published_end(name.kind)) => {
                "not in the manifest: a crash left it there; the next start of the server removes it"
            }
            Ok(_) => {
                "not in the manifest, yet of this log: programs that read the whole directory see its events twice"
            }
            Err(_) => "not in the manifest, and no sound Parquet file",
        }
    }
}

/// Whether files of a kind hold events, each once; the others repeat their offsets.
fn event_kinds() -> impl Iterator<Item = FileKind> {
    FileKind::all().filter(|kind| kind.is_events())
}

#[cfg(test)]
mod tests;
