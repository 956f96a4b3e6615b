//! `modelog demo`: the main job on real input, with no server but our own.
//!
//! ```text
//! digits ─▶ training ─▶ record ─▶ HTTP ─▶ the server, in this process ─▶ log, SQLite
//!            network                                                       │
//!                      report ◀─ readback ◀─ HTTP ◀────────────────────────┘
//! ```
//!
//! Two classifiers are trained, epoch by epoch on the record; both classify images they have not seen, which is logged
//! with the time it took; then the true labels arrive. All of this goes over a loopback socket, as it would from a
//! user's program, and everything printed at the end was read back the same way.
//!
//! # A second time
//! The directory may hold an earlier demo. Model, dataset and experiment are merged into what is there. Runs are new.
//! Training gives the same weights, so the versions exist already and stay as they are; their predictions have ids of
//! their own run and add up. The comparison covers what this demo served.

mod client;
mod digits;
mod figures;
mod network;
mod outlook;
mod readback;
mod record;
mod report;
mod training;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, Result};
use modelog_engine::{Clock, SystemClock};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Settings;
use crate::output::thousands;
use crate::serve::Running;
use client::Client;
use digits::Digits;
use outlook::Whereabouts;
use record::{CANDIDATES, MODEL};
use report::{heading, say};

/// What the demo is told.
#[derive(Clone, Debug)]
pub(crate) struct DemoOptions {
    /// The data directory; it may hold an earlier demo.
    pub(crate) data: PathBuf,
    /// Go on serving until a signal.
    pub(crate) serve: bool,
    /// Where to listen; else on a free port of loopback.
    pub(crate) listen: Option<SocketAddr>,
}

/// Runs the demo.
///
/// # Errors
/// Why the server could not start, what a call was answered, or that a signal came.
pub(crate) async fn run(options: DemoOptions) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stopped = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let running = Running::start(&settings(&options)).await?;
    let client = Client::new(running.address())?;
    let told = {
        let mut telling = pin!(tell(&options, &client));
        tokio::select! {
            told = &mut telling => told,
            () = stopped() => {
                client.stop();
                telling.await
            }
        }
    };
    if told.is_ok() && options.serve {
        stopped().await;
    }
    let closed = running.stop().await;
    told.and(closed)
}

/// Everything by default, in a directory of its own.
fn settings(options: &DemoOptions) -> Settings {
    let mut settings = Settings {
        data: options.data.clone(),
        ..Settings::default()
    };
    settings.settle();
    settings.http.listen = options
        .listen
        .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    settings
}

/// From the images to the last printed line.
async fn tell(options: &DemoOptions, client: &Client) -> Result<()> {
    let clock = SystemClock::new();
    let digits = Arc::new(Digits::shipped());
    open(&digits, client, options)?;
    if readback::totals(client).await?.events > 0 {
        say("          holds events already: this demo adds to them")?;
    }
    record::subject(client, &digits).await?;

    heading("Training, every epoch on the record")?;
    let mut trained = Vec::new();
    for candidate in &CANDIDATES {
        let one = record::training(client, clock, candidate, &digits, &options.data).await?;
        report::trained(&one)?;
        trained.push(one);
    }

    heading("Serving images that neither version has seen, then telling the true labels")?;
    let since = clock.now();
    let service = record::service(client, clock, &trained, &digits.test).await?;
    report::served(&service, digits.test.len())?;

    report::runs(&readback::runs(client).await?)?;
    let path = readback::comparison_path(since);
    let comparison = readback::comparison(client, &path).await?;
    report::comparison(&comparison)?;
    crown(client, comparison.winner()).await?;
    report::totals(&readback::totals(client).await?)?;
    // What is suggested reads files: they are to hold everything that was shown.
    client.post("/v1/compact", &json!({})).await?;
    close(options, client, &path, &trained)
}

fn open(digits: &Digits, client: &Client, options: &DemoOptions) -> Result<()> {
    say("Modelog demo: two classifiers of handwritten digits, from training to comparison\n")?;
    say(format_args!(
        "  images  {} of 8×8 pixels: {} to train on, {} to validate, {} to test",
        thousands(digits.len() as u64),
        digits.train.len(),
        digits.validation.len(),
        digits.test.len(),
    ))?;
    say("          (UCI Optical Recognition of Handwritten Digits, CC BY 4.0)")?;
    say(format_args!("  server  {}", client.base()))?;
    say(format_args!("  data    {}", options.data.display()))?;
    Ok(())
}

/// Gives the winner an alias, so that those who serve need not know its number.
async fn crown(client: &Client, winner: Option<&str>) -> Result<()> {
    let Some(version) = winner else {
        return Ok(());
    };
    let path = format!("/v1/models/{MODEL}/aliases/champion");
    client.put(&path, &json!({"version": version})).await?;
    say(format_args!("  {MODEL}@champion names {version}."))?;
    Ok(())
}

fn close(
    options: &DemoOptions,
    client: &Client,
    comparison: &str,
    trained: &[record::Trained],
) -> Result<()> {
    let newest = trained.last().context("two versions were trained")?;
    // Without an address of our choice, the API comes back where `serve` puts it.
    let listen = options.listen.filter(|listen| listen.port() != 0);
    let base = match listen {
        _ if options.serve => client.base().to_owned(),
        Some(listen) => format!("http://{listen}"),
        None => format!("http://{}", Settings::default().http.listen),
    };
    outlook::suggest(&Whereabouts {
        data: &options.data,
        base: &base,
        listen: listen.map(|listen| listen.to_string()),
        serving: options.serve,
        comparison,
        run: &newest.run,
        version: newest.candidate.version,
    })?;
    if options.serve {
        say(format_args!("\nServing {} until Ctrl-C", client.base()))?;
    }
    Ok(())
}
