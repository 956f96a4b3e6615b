//! Resident anonymous memory of a process: what it allocated, without the files it maps or the page cache it fills.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(5);

/// A process by its place in `/proc`.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    status: PathBuf,
}

impl Process {
    pub(crate) fn this() -> Self {
        Self {
            status: "/proc/self/status".into(),
        }
    }

    pub(crate) fn of(id: u32) -> Self {
        Self {
            status: format!("/proc/{id}/status").into(),
        }
    }

    /// Bytes of anonymous memory now.
    pub(crate) fn anonymous_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(&self.status)
            .with_context(|| format!("reading {}", self.status.display()))?;
        anonymous_bytes(&status).with_context(|| format!("{}: no RssAnon", self.status.display()))
    }
}

fn anonymous_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// Looks at a process until it is asked for the highest it has seen.
#[derive(Debug)]
pub(crate) struct Watch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(process: Process) -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (peak, stop) = (Arc::clone(&peak), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    // A process that has ended uses nothing.
                    let bytes = process.anonymous_bytes().unwrap_or(0);
                    peak.fetch_max(bytes, Ordering::Relaxed);
                    std::thread::sleep(EVERY);
                }
            }
        });
        Self {
            peak,
            stop,
            thread: Some(thread),
        }
    }

    /// The highest seen so far, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

/// The highest over several rows.
#[derive(Debug, Default)]
pub(crate) struct Peaks(u64);

impl Peaks {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.0 = self.0.max(bytes);
    }

    /// In bytes.
    pub(crate) fn highest(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_seen() {
        assert_eq!(
            anonymous_bytes("VmRSS:\t 9 kB\nRssAnon:\t    1234 kB\n"),
            Some(1234 << 10)
        );
        assert_eq!(anonymous_bytes("VmRSS:\t 9 kB\n"), None);
        let before = Process::this().anonymous_bytes().unwrap();
        let watch = Watch::start(Process::this());
        let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
        while watch.peak() < before + (32 << 20) {
            std::thread::sleep(EVERY);
        }
        drop(memory);
    }
}
