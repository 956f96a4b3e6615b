//! What a crash, a failing disk or a full one does to a log, at every single I/O. `disk` tests the disk itself first.

mod disk;
mod log;
mod retire;
mod support;
