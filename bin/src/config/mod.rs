//! The configuration: flags over environment over a TOML file over defaults, checked as a whole before anything starts.
//!
//! ```text
//! modelog.toml ─▶ tree ─┐
//! MODELOG_…    ─▶ tree ─┼─ overlay ─▶ fields (settings.rs) ─▶ Settings: the configs of engine and adapters
//! flags        ─▶ tree ─┘                  └─▶ report: every setting with its origin, every problem with its place
//! ```
//!
//! Loading touches nothing but the file. Defaults are those of the configs themselves, so each is stated once;
//! `config/modelog.toml` repeats them for people, and a test compares.
//!
//! # Why not a crate for layers
//! Those there are stop at the first problem, or forget the line a value came from. With a few lines for each layer
//! every setting is one line here, and all problems are told at once.

mod fields;
mod human;
mod layers;
mod problem;
mod settings;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fields::Report;
pub(crate) use fields::Shown;
pub(crate) use human::parse_duration;
pub(crate) use layers::{Flag, Origin};
pub(crate) use problem::ConfigError;
pub(crate) use settings::{
    BackupConfig, CONTROL_SOCKET, LogFormat, Logging, OUTSIDE_OF_DATA, ReadFrom, Settings, within,
};

/// A configuration, and where each part of it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    /// Every setting in effect, in the order of `config/modelog.toml`.
    pub(crate) shown: Vec<Shown>,
}

/// Loads the configuration of this process.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub(crate) fn load(file: Option<&Path>, flags: Vec<Flag>) -> Result<Loaded, ConfigError> {
    let text = match file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                path: path.to_path_buf(),
                source,
            })?;
            Some((path.to_path_buf(), text))
        }
    };
    build(text, std::env::vars_os(), flags)
}

/// Builds a configuration from its layers, without touching anything.
fn build(
    file: Option<(PathBuf, String)>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    flags: Vec<Flag>,
) -> Result<Loaded, ConfigError> {
    let mut report = Report::default();
    let mut tree = layers::Tree::new();
    let mut lay = |layer: Result<layers::Tree, Vec<problem::Problem>>| match layer {
        Ok(layer) => layers::overlay(&mut tree, layer),
        Err(problems) => report.problems.extend(problems),
    };
    if let Some((path, text)) = &file {
        lay(layers::file(path, text));
    }
    lay(layers::environment(environment, settings::OUTSIDE));
    lay(Ok(layers::flags(flags)));
    let mut settings = Settings::default();
    fields::read(tree, &mut report, |fields| settings.read(fields));
    let Report {
        settings: shown,
        problems,
    } = report;
    if problems.is_empty() {
        Ok(Loaded { settings, shown })
    } else {
        Err(ConfigError::Problems(problems))
    }
}
