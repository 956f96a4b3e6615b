//! Where a command does its work: through the server that holds the data directory, or on the directory itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use modelog_engine::{Engine, Foundations, LogError};
use modelog_parquet::ParquetStore;
use modelog_redis::RedisStore;

use crate::client::Client;
use crate::config::Settings;
use crate::exit::{Exit, Failed};

/// The variable a token is taken from, so that it shows in no list of processes.
const TOKEN: &str = "MODELOG_TOKEN";

/// The file that marks a data directory as half restored.
pub(crate) const RESTORING: &str = "RESTORING";

/// Which server to use, if not the one on the data directory.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Reach {
    /// A server elsewhere, instead of a data directory. Its token comes from --token-file or MODELOG_TOKEN
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub(crate) url: Option<String>,
    /// A file that holds the token for --url
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) token_file: Option<PathBuf>,
}

/// Where the work is done.
#[derive(Debug)]
pub(crate) enum Place {
    Server(Client),
    /// Nobody serves the data directory.
    Directory,
}

impl Place {
    /// Finds out.
    ///
    /// # Errors
    /// If the token cannot be read, or the control socket may not be used.
    pub(crate) fn find(reach: &Reach, settings: &Settings) -> Result<Self> {
        if let Some(url) = &reach.url {
            return Ok(Self::Server(Client::at_url(url, token(reach)?)?));
        }
        let client = Client::of_directory(&settings.data).with_context(|| {
            format!(
                "the server that holds {} cannot be asked",
                settings.data.display()
            )
        })?;
        Ok(client.map_or(Self::Directory, Self::Server))
    }
}

fn token(reach: &Reach) -> Result<Option<String>> {
    let text = match &reach.token_file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("the token file {} cannot be read", path.display()))
            .context(Failed::new(Exit::Config, "there is no token"))?,
        None => match std::env::var(TOKEN) {
            Ok(token) => token,
            Err(_) => return Ok(None),
        },
    };
    Ok(Some(text.trim().to_owned()))
}

/// The Redis store, if one is set.
///
/// # Errors
/// If the settings name none that can be used.
pub(crate) fn redis(settings: &Settings) -> Result<Option<RedisStore>> {
    let redis = Some(&settings.redis).filter(|redis| !redis.url.is_empty());
    Ok(redis.cloned().map(RedisStore::new).transpose()?)
}

/// An engine, with the Parquet files in which its older history lies.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) parquet: ParquetStore,
}

/// Opens the engine on a data directory that may be new.
///
/// # Errors
/// As [`open_whole`].
pub(crate) async fn open(settings: &Settings) -> Result<Engine> {
    Ok(open_whole(settings).await?.engine)
}

/// Opens the engine on a data directory that must be there.
///
/// # Errors
/// As [`open_whole`], or that there is no log.
pub(crate) async fn open_existing(settings: &Settings) -> Result<Engine> {
    must_exist(&settings.data)?;
    open(settings).await
}

/// Opens everything that holds events, on a data directory that may be new. Every command that opens an engine comes
/// through here: history that only Parquet holds is read by each of them.
///
/// # Errors
/// [`modelog_engine::LogError`], [`modelog_parquet::ParquetError`].
pub(crate) async fn open_whole(settings: &Settings) -> Result<Opened> {
    let (config, parquet) = (settings.engine(), settings.parquet.clone());
    let open = move || -> Result<Opened> {
        let foundations = Foundations::default();
        let (storage, clock) = (&foundations.storage, &foundations.clock);
        let parquet = ParquetStore::open(parquet, Arc::clone(storage), Arc::clone(clock))?;
        let foundations = Foundations {
            cold: Some(parquet.cold()),
            ..foundations
        };
        let engine = Engine::open_on(config, foundations).map_err(|error| {
            let about_parquet = matches!(
                error,
                LogError::ColdLost { .. } | LogError::ForeignCold { .. } | LogError::Missing { .. }
            );
            let error = anyhow::Error::new(error);
            if !about_parquet {
                return error;
            }
            let path = parquet.path().display();
            error.context(format!(
                "older events are looked for in {path} (`parquet.path`)"
            ))
        })?;
        Ok(Opened { engine, parquet })
    };
    tokio::task::spawn_blocking(open).await?
}

/// Refuses a directory whose restore was not finished.
///
/// # Errors
/// That it is one, or the disk's own.
pub(crate) fn must_be_restored(data: &Path) -> Result<()> {
    if !is_there(data, RESTORING)? {
        return Ok(());
    }
    Err(LogError::Restoring {
        path: data.to_owned(),
    }
    .into())
}

/// Refuses a directory without a log, so that a misspelt path does not become a new one.
///
/// # Errors
/// That there is no log, that it is half restored, or the disk's own.
pub(crate) fn must_exist(data: &Path) -> Result<()> {
    // The log's manifest comes last: there is hardly ever one yet.
    must_be_restored(data)?;
    if is_there(data, "log/MANIFEST")? {
        return Ok(());
    }
    Err(Failed::new(
        Exit::Io,
        format!(
            "there is no log in {}: name the data directory with --data",
            data.display()
        ),
    )
    .into())
}

fn is_there(data: &Path, name: &str) -> Result<bool> {
    let path = data.join(name);
    path.try_exists()
        .with_context(|| format!("{} cannot be looked at", data.display()))
}
