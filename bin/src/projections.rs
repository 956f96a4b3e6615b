//! `projections` and `rebuild`: the stores that follow the log, through the server or on the directory itself.
//!
//! On a directory that nobody serves, the store is opened and brought up to date by this very process: what is shown
//! is where it stands then, and a rebuild is done when the command ends. Parquet is shown as it is: to bring it up to
//! date is to write files, which `compact` does.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use modelog_engine::projection::{Projection, ProjectionError};
use modelog_engine::{Engine, NotYet, Offset, ProjectionHandle, ProjectionState};
use modelog_sql::SqlStore;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::client::{Client, ServerError, encoded};
use crate::compact::COMPACTOR;
use crate::config::Settings;
use crate::exit::{Exit, Failed};
use crate::output::{self, Rows, Shape, Tone, thousands};
use crate::place::{self, Opened, Place, Reach};
use crate::progress;

/// How often a rebuild is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a server may take to begin a rebuild.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct ProjectionsArgs {
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The store is cleared and every event of the log applied to it again. Events are taken meanwhile; reads answer from what
is there so far.")]
pub(crate) struct RebuildArgs {
    /// The store: sql. What `parquet` holds is a part of the log itself, and cannot be built again
    projection: String,
    /// Do not wait for a server to finish
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Where a projection stands, as the API tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Status {
    name: String,
    state: String,
    offset: u64,
    lag_events: u64,
    lag_seconds: f64,
    errors: u64,
    last_error: Option<String>,
    last_success: Option<String>,
}

/// The list of them.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    items: Vec<Status>,
}

impl From<&ProjectionHandle> for Status {
    fn from(projection: &ProjectionHandle) -> Self {
        let status = projection.status();
        Self {
            name: status.name,
            state: status.state.name().into(),
            offset: status.offset.0,
            lag_events: status.lag_events,
            lag_seconds: status.lag_seconds,
            errors: status.errors,
            last_error: status.last_error,
            last_success: status.last_success.map(|time| time.to_string()),
        }
    }
}

/// The state of a projection that nothing runs.
const IDLE: &str = "idle";

impl Status {
    /// One that nothing runs.
    fn at_rest(name: &str, at: Offset, engine: &Engine) -> Self {
        Self {
            name: name.into(),
            state: IDLE.into(),
            offset: at.0,
            lag_events: engine.tail().since(at),
            lag_seconds: 0.0,
            errors: 0,
            last_error: None,
            last_success: None,
        }
    }
}

/// Shows them.
///
/// # Errors
/// If the server cannot be asked, or the directory not opened.
pub(crate) async fn list(settings: &Settings, args: &ProjectionsArgs) -> Result<()> {
    let items = match Place::find(&args.reach, settings)? {
        Place::Server(client) => client.get::<Listed>("/v1/projections").await?.items,
        Place::Directory => {
            offline(settings, |opened, stores| async move {
                let Opened { engine, parquet } = opened;
                let mut items = Vec::new();
                for store in stores {
                    let projection = engine.project(store);
                    // One that cannot go on is shown as it is.
                    let _ = catch_up(&engine, &projection, "catching up").await;
                    items.push(Status::from(&projection));
                }
                let at = parquet.status().cold_end;
                items.push(Status::at_rest(COMPACTOR, at, &engine));
                Ok(items)
            })
            .await?
        }
    };
    match args.format {
        Shape::Table => table(&items)?,
        Shape::Json => output::json(&Listed { items })?,
        Shape::Ndjson => output::ndjson(&items)?,
    }
    Ok(())
}

fn table(items: &[Status]) -> Result<()> {
    let mut rows = Rows::new(&[
        "projection",
        "state",
        "offset",
        "behind",
        "seconds",
        "errors",
        "last error",
    ]);
    for status in items {
        let tone = match status.state.as_str() {
            "running" => Tone::Good,
            "stopped" => Tone::Bad,
            IDLE => Tone::Plain,
            _ => Tone::Warning,
        };
        rows.push([
            (status.name.clone(), Tone::Plain),
            (status.state.clone(), tone),
            (status.offset.to_string(), Tone::Plain),
            (thousands(status.lag_events), Tone::Plain),
            (format!("{:.1}", status.lag_seconds), Tone::Plain),
            (thousands(status.errors), Tone::Plain),
            (status.last_error.clone().unwrap_or_default(), Tone::Plain),
        ]);
    }
    Ok(rows.print()?)
}

/// Clears a store and builds it again.
///
/// # Errors
/// If there is no such store, or it cannot be built.
pub(crate) async fn rebuild(settings: &Settings, args: &RebuildArgs) -> Result<()> {
    let name = args.projection.as_str();
    if name == COMPACTOR {
        return Err(Failed::usage(format!(
            "{name} holds a part of the log itself, so there is nothing to build it from: `modelog verify` checks it, \
             and what is damaged in it comes back from a backup"
        )));
    }
    match Place::find(&args.reach, settings)? {
        Place::Server(client) => rebuild_there(&client, name, args.no_wait).await?,
        Place::Directory => {
            offline(settings, |opened, stores| async move {
                let engine = opened.engine;
                let names: Vec<_> = stores.iter().map(|store| store.name().to_owned()).collect();
                let found = stores.into_iter().find(|store| store.name() == name);
                let mut projection = found.ok_or_else(|| {
                    let names = names.join(" and ");
                    Failed::usage(format!("there is no projection {name}: there is {names}"))
                })?;
                // Whatever is wrong with what it holds, it is about to be cleared.
                let _ = projection.open().await;
                projection.clear().await.map_err(unable)?;
                let handle = engine.project(projection);
                catch_up(&engine, &handle, "rebuilding").await
            })
            .await?;
        }
    }
    if args.no_wait {
        eprintln!("{name} is being rebuilt");
    } else {
        eprintln!("{name} is rebuilt");
    }
    Ok(())
}

fn unable(error: ProjectionError) -> anyhow::Error {
    let exit = match &error {
        ProjectionError::Unavailable(_) => Exit::Unavailable,
        ProjectionError::Stopped { .. } => Exit::Failure,
    };
    anyhow::Error::new(error).context(Failed::new(exit, "the store cannot be cleared"))
}

/// Works on the directory itself, and closes everything whatever came of it.
async fn offline<T, F>(
    settings: &Settings,
    work: impl FnOnce(Opened, Vec<Box<dyn Projection>>) -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    place::must_exist(&settings.data)?;
    let opened = place::open_whole(settings).await?;
    let engine = opened.engine.clone();
    let made = SqlStore::new(settings.sql.clone())
        .map_err(Into::into)
        .and_then(|store| Ok((store, place::redis(settings)?)));
    let (store, redis) = match made {
        Ok(stores) => stores,
        Err(error) => {
            engine.close().await?;
            return Err(error);
        }
    };
    let mut stores: Vec<Box<dyn Projection>> = vec![Box::new(store.projection())];
    if let Some(redis) = redis {
        stores.push(Box::new(redis.projection()));
    }
    let outcome = work(opened, stores).await;
    let closed = engine.close().await;
    store.close().await;
    let value = outcome?;
    closed?;
    Ok(value)
}

/// Waits until a projection has applied everything that is in the log now.
async fn catch_up(engine: &Engine, projection: &ProjectionHandle, what: &str) -> Result<()> {
    let tail = engine.tail();
    let bar = progress::events(tail.0, what);
    loop {
        match projection.wait_for(tail, LOOK).await {
            Ok(_) => break,
            Err(NotYet::Stopped { reason, .. }) => {
                bar.finish_and_clear();
                bail!(Failed::new(Exit::Failure, reason));
            }
            Err(NotYet::Behind { at, .. }) => show(&bar, at.0, &projection.status().last_error),
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Progress, with what holds it up.
fn show(bar: &ProgressBar, at: u64, error: &Option<String>) {
    bar.set_position(at);
    if let Some(error) = error {
        bar.println(format!("warning: {error}; trying again"));
    }
}

async fn rebuild_there(client: &Client, name: &str, no_wait: bool) -> Result<()> {
    let before = status_of(client, name).await?;
    let path = format!("/v1/projections/{}/rebuild", encoded(name));
    client.send(client.request(Method::POST, &path)).await?;
    if no_wait {
        return Ok(());
    }
    let target = before.offset + before.lag_events;
    let bar = progress::events(target, "rebuilding");
    let mut begun = target == 0;
    let mut waited = Duration::ZERO;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = status_of(client, name).await?;
        // It has begun once it stands before where it stood, or has applied something since, or failed again.
        begun |= now.state == ProjectionState::Clearing.name()
            || now.offset < before.offset
            || now.last_success != before.last_success
            || now.errors != before.errors;
        if now.state == ProjectionState::Stopped.name() && begun {
            bar.finish_and_clear();
            bail!(Failed::new(
                Exit::Failure,
                now.last_error.unwrap_or_else(|| format!("{name} stopped"))
            ));
        }
        if begun && now.offset >= target {
            break;
        }
        if !begun && waited >= BEGINS_WITHIN {
            bail!(Failed::new(
                Exit::Unavailable,
                format!("{} does not begin to rebuild {name}", client.what())
            ));
        }
        bar.set_position(now.offset);
        waited += LOOK;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Where a server's log ended when it was asked.
///
/// # Errors
/// If it cannot be asked.
pub(crate) async fn tail_of(client: &Client) -> Result<Offset, ServerError> {
    let listed: Listed = client.get("/v1/projections").await?;
    let end = |status: &Status| status.offset + status.lag_events;
    Ok(Offset(
        listed.items.iter().map(end).max().unwrap_or_default(),
    ))
}

async fn status_of(client: &Client, name: &str) -> Result<Status> {
    let listed: Listed = client.get("/v1/projections").await?;
    let names: Vec<_> = listed
        .items
        .iter()
        .map(|status| status.name.clone())
        .collect();
    listed
        .items
        .into_iter()
        .find(|status| status.name == name)
        .ok_or_else(|| {
            Failed::usage(format!(
                "there is no projection {name}: there is {}",
                names.join(", ")
            ))
        })
}
