//! What the program says about its work: to stderr, as text or as a JSON object a line.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{LogFormat, Logging};

/// Levels by module, such as `info,modelog_sql=debug`.
pub(crate) fn parse_filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(text)
}

/// Installs the subscriber of this process, with a filter in place of the configured one if given.
///
/// # Errors
/// If the filter is not one, or a subscriber is installed already.
pub(crate) fn start(logging: &Logging, filter: Option<&str>) -> Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter.unwrap_or(&logging.filter))?)
        .with_writer(std::io::stderr);
    let started = match logging.format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && crate::output::colour_allowed();
            builder.with_ansi(colour).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started
        .map_err(anyhow::Error::from_boxed)
        .context("the log of this program cannot be started")
}
