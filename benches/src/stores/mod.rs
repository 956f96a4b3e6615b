//! Rows about one store that follows the log: how fast it is filled, beside the same work sent by a bare client.
//!
//! They need a server, so each is measured only when it is asked for, and nothing else is.

mod redis;
mod sql;

use anyhow::{Result, bail};

use crate::report::Row;
use crate::{Options, Size};

/// Measures the store that a URL names.
pub(crate) fn measure(
    options: &Options,
    url: &str,
    size: Size,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    options.make_directory()?;
    match url.split(':').next() {
        Some("sqlite") => sql::sqlite(options, size, progress),
        Some("postgres" | "postgresql") => sql::postgres(options, url, size, progress),
        Some("mysql" | "mariadb") => sql::mysql(options, url, size, progress),
        Some("redis") => redis::measure(options, url, size, progress),
        _ => bail!("this is no store that can be measured: sqlite:, postgres:, mysql:, redis:"),
    }
}
