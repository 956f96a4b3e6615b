//! What the reader and whoever looks after the source share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use modelog_engine::sources::{SourceState, SourceStatus};

/// Where the source stands, and whether it is to end.
#[derive(Debug)]
pub(crate) struct Shared {
    ending: AtomicBool,
    status: Mutex<SourceStatus>,
}

impl Shared {
    pub(crate) fn new(name: String, topics: Vec<String>) -> Self {
        Self {
            ending: AtomicBool::new(false),
            status: Mutex::new(SourceStatus {
                name,
                state: SourceState::Connecting,
                reason: None,
                cluster: None,
                topics,
                rebalances: 0,
                partitions: Vec::new(),
            }),
        }
    }

    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, SourceStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says in which state it is; in the program's log too, when that changes. A source that failed stays so.
    pub(crate) fn set_state(&self, state: SourceState, reason: Option<String>) {
        let mut status = self.status();
        if status.state == SourceState::Failed && state != SourceState::Stopped {
            return;
        }
        // It begins as one that is connecting; why that lasts is news once.
        let told = status.reason.is_some();
        let news = state == SourceState::Connecting && !told && reason.is_some();
        let before = std::mem::replace(&mut status.state, state);
        status.reason.clone_from(&reason);
        if before == state && !news {
            return;
        }
        let (source, reason) = (status.name.clone(), reason.unwrap_or_default());
        drop(status);
        match state {
            SourceState::Running => tracing::info!(source, "reading"),
            SourceState::Stopped => tracing::info!(source, "ended"),
            SourceState::Connecting => tracing::warn!(source, reason, "waiting for a broker"),
            SourceState::Degraded => tracing::warn!(source, reason, "needs to be looked at"),
            SourceState::Failed => tracing::error!(source, reason, "cannot go on"),
        }
    }
}
