//! The one fold behind every count, rate and quantile.

/// Statistics of a log, up to an offset.
#[derive(Debug, Default)]
pub struct Statistics {}
