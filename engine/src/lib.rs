//! The engine of Modelog: an append-only log of what machine-learning models do, and what reads it.

pub mod batch;
mod checkpoint;
mod clock;
mod engine;
mod error;
pub mod event;
pub mod names;
mod offset;
pub mod origin;
pub mod projection;
pub mod read;
pub mod stats;
mod storage;

pub use checkpoint::{Checkpoint, LogId};
pub use clock::{Clock, SystemClock};
pub use engine::{
    AppendOptions, Appended, Channel, Config, Engine, Health, LogConfig, LogEventsError, LogReader,
    NotYet, OnBacklog, OnConflict, OnCreate, ProjectionHandle, ProjectionState, ProjectionStatus,
};
pub use error::{AppendError, CheckpointError, ErrorKind, LogError};
pub use offset::{Offset, TimeError, Timestamp};
pub use storage::{LocalStorage, Storage, StorageFile};
