//! The engine of Modelog: an append-only log of what machine-learning models do, and what reads it.

// Its unit tests are those of `modelog-engine`, with real threads.
#![cfg(not(all(simulated_threads, test)))]

pub mod batch;
mod checkpoint;
mod clock;
mod cold;
mod config;
mod engine;
pub mod entity;
mod error;
pub mod event;
pub mod live;
mod log;
pub mod metrics;
pub mod names;
mod offset;
pub mod origin;
mod packing;
pub mod projection;
pub mod read;
mod runtime;
pub mod sources;
mod statistician;
pub mod stats;
mod storage;
#[cfg(not(simulated_threads))]
mod threads;
#[cfg(simulated_threads)]
#[path = "../simulation/src/threads.rs"]
pub mod threads;

pub use checkpoint::{Checkpoint, LogId};
pub use clock::{Clock, SystemClock};
pub use cold::{ColdFile, ColdSnapshot, ColdTier};
pub use config::{
    AppendOptions, Appended, Channel, Config, LogConfig, OnBacklog, OnConflict, OnCreate,
};
pub use engine::{Engine, Foundations, Health, LogEventsError};
pub use error::{AppendError, CheckpointError, ErrorKind, LogError, chain};
pub use log::copy::{Brought, bring};
#[cfg(any(test, feature = "fuzzing"))]
pub use log::fuzzing;
pub use log::{ColdHandle, Enqueued, LogReader, Prepared, backup, inspect, restore};
pub use offset::{Offset, TimeError, Timestamp};
pub use runtime::{NotRebuildable, NotYet, ProjectionHandle, ProjectionState, ProjectionStatus};
pub use statistician::SharedStatistics;
#[cfg(feature = "sim")]
pub use storage::sim;
pub use storage::{LocalStorage, LockGuard, Storage, StorageFile};
