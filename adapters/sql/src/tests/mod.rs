//! The projection against real files.
