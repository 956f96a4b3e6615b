//! The compactor with a real engine, over real directories.

mod closing;
mod directory;
mod failures;
mod files;
mod restarts;
mod support;
