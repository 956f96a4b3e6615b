//! `config check` and `config show`.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use crate::config::{Loaded, Origin, Shown};
use crate::output::{self, Shape};

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Say where each value comes from
    #[arg(long)]
    pub(crate) origin: bool,
    /// Print TOML (table), or JSON
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Shape,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    setting: &'a str,
    /// As written in TOML; null if not set.
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

/// The configuration was loaded, so nothing is wrong with it.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn check(loaded: &Loaded) -> Result<()> {
    let set = loaded
        .shown
        .iter()
        .filter(|shown| shown.origin != Origin::Default)
        .count();
    let given = output::counted(set as u64, "setting");
    output::line(&format!(
        "the configuration is sound: {given} given, the rest are defaults"
    ))?;
    Ok(())
}

/// Prints every setting.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn show(loaded: &Loaded, args: &ShowArgs) -> Result<()> {
    let lines = loaded
        .shown
        .iter()
        .map(|shown| Line::new(shown, args.origin));
    match args.format {
        Shape::Table => toml(loaded, args.origin)?,
        Shape::Json => output::json(&lines.collect::<Vec<_>>())?,
        Shape::Ndjson => output::ndjson(lines)?,
    }
    Ok(())
}

impl<'a> Line<'a> {
    fn new(shown: &'a Shown, origin: bool) -> Self {
        Self {
            setting: &shown.setting,
            value: shown.value.as_deref(),
            origin: origin.then(|| shown.origin.to_string()),
        }
    }
}

/// TOML that can be used as a configuration file; passwords are left out of it.
fn toml(loaded: &Loaded, origin: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut section = "";
    for shown in &loaded.shown {
        let (of, name) = shown
            .setting
            .rsplit_once('.')
            .unwrap_or(("", &shown.setting));
        if of != section {
            writeln!(out, "\n[{of}]")?;
            section = of;
        }
        match &shown.value {
            Some(value) => write!(out, "{name} = {value}")?,
            None => write!(out, "# {name} is not set")?,
        }
        if origin {
            write!(out, "  # {}", shown.origin)?;
        }
        writeln!(out)?;
    }
    out.flush()
}
