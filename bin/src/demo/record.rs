//! What the demo puts on the record, in the order a team would: the subject, two trainings, the service, the labels.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use modelog_engine::{Clock, SystemClock};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::client::{Client, Created};
use super::digits::{Digit, Digits, SPLIT_SEED, sha256};
use super::network::{Network, Score, argmax};
use super::training::{Epoch, Settings, train};

/// Names on the record.
pub(super) const MODEL: &str = "digits";
pub(super) const DATASET: &str = "digits-8x8";
pub(super) const EXPERIMENT: &str = "handwritten-digits";

/// A version to be trained.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) version: &'static str,
    pub(super) title: &'static str,
    pub(super) settings: Settings,
}

/// The two that compete: a plain baseline, and a network that can learn more.
pub(super) const CANDIDATES: [Candidate; 2] = [
    Candidate {
        version: "v1",
        title: "softmax regression",
        settings: Settings {
            hidden: &[],
            epochs: 30,
            batch: 32,
            learning_rate: 0.01,
            seed: 1,
        },
    },
    Candidate {
        version: "v2",
        title: "network, 128 hidden units",
        settings: Settings {
            hidden: &[128],
            epochs: 20,
            batch: 16,
            learning_rate: 0.003,
            seed: 1,
        },
    },
];

/// A version that was trained, and the run that did it.
#[derive(Debug)]
pub(super) struct Trained {
    pub(super) candidate: &'static Candidate,
    pub(super) network: Network,
    pub(super) run: String,
    pub(super) took: Duration,
    /// The run that made the same weights before, if this directory has seen the demo before.
    pub(super) made_by: Option<String>,
}

/// The pace of predictions and labels.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Service {
    pub(super) predictions: usize,
    pub(super) labels: usize,
    pub(super) calls: usize,
    /// Until the last call was durable, computing included.
    pub(super) took: Duration,
}

/// Announces model, dataset and experiment. They may be there: what is said again is merged.
pub(super) async fn subject(client: &Client, digits: &Digits) -> Result<()> {
    let model = json!({
        "model": MODEL,
        "task_type": "classification",
        "framework": "plain Rust",
        "description": "Which digit does an image of 8×8 pixels show?",
    });
    client.post("/v1/models?on_conflict=merge", &model).await?;
    let dataset = json!({
        "dataset": DATASET,
        "uri": "https://doi.org/10.24432/C50P49",
        "row_count": digits.len(),
        "digest": Digits::digest(),
        "split_info": {
            "train": digits.train.len(),
            "validation": digits.validation.len(),
            "test": digits.test.len(),
            "method": "shuffled, then dealt class by class",
            "seed": SPLIT_SEED,
        },
        "schema": {"pixels": "64 integers from 0 to 16", "class": "0 to 9"},
        "tags": {"license": "CC BY 4.0"},
    });
    client
        .post("/v1/datasets?on_conflict=merge", &dataset)
        .await?;
    let experiment = json!({
        "experiment": EXPERIMENT,
        "description": "Does a hidden layer beat softmax regression?",
    });
    client
        .post("/v1/experiments?on_conflict=merge", &experiment)
        .await?;
    Ok(())
}

/// Trains a version in a run of its own. A run that cannot be completed is marked as failed or killed, as far as that can
/// be said.
pub(super) async fn training(
    client: &Client,
    clock: SystemClock,
    candidate: &'static Candidate,
    digits: &Arc<Digits>,
    data: &Path,
) -> Result<Trained> {
    let run = start_run(client, candidate).await?;
    let started = clock.monotonic();
    let outcome = work(client, candidate, digits, &run, data).await;
    let took = clock.monotonic() - started;
    let finish = format!("/v1/runs/{run}/finish");
    match outcome {
        Ok((network, weights)) => {
            client.end(&finish, &json!({"status": "finished"})).await?;
            let made_by = register(client, candidate, &network, &run, &weights).await?;
            Ok(Trained {
                candidate,
                network,
                run,
                took,
                made_by,
            })
        }
        Err(error) => {
            let status = if client.is_stopped() {
                "killed"
            } else {
                "failed"
            };
            let status = json!({"status": status, "error": format!("{error:#}")});
            // The first error is the one to tell.
            let _ = client.end(&finish, &status).await;
            Err(error)
        }
    }
}

/// What happens between a run's start and its end.
async fn work(
    client: &Client,
    candidate: &'static Candidate,
    digits: &Arc<Digits>,
    run: &str,
    data: &Path,
) -> Result<(Network, Weights)> {
    describe_run(client, candidate, run).await?;
    let network = run_epochs(client, candidate, digits, run).await?;
    let weights = keep_weights(client, candidate, &network, run, data).await?;
    Ok((network, weights))
}

async fn start_run(client: &Client, candidate: &Candidate) -> Result<String> {
    let started = client
        .post(
            "/v1/runs",
            &json!({
                "name": candidate.title,
                "experiment": EXPERIMENT,
                "model": MODEL,
                "version": candidate.version,
                "dataset": DATASET,
                "started_by": "modelog demo",
                "code": concat!("modelog ", env!("CARGO_PKG_VERSION")),
            }),
        )
        .await?;
    let run = started.get("run").and_then(Value::as_str);
    Ok(run
        .context("/v1/runs: the answer does not name the run")?
        .to_owned())
}

/// Logs hyperparameters, and what the run learns from.
async fn describe_run(client: &Client, candidate: &Candidate, run: &str) -> Result<()> {
    let settings = &candidate.settings;
    let params = json!({"params": {
        "hidden": settings.hidden,
        "epochs": settings.epochs,
        "batch": settings.batch,
        "optimizer": "adam",
        "learning_rate": settings.learning_rate,
        "seed": settings.seed,
    }});
    client
        .post(&format!("/v1/runs/{run}/params"), &params)
        .await?;
    let used = ["train", "val"].map(|role| {
        json!({"type": "DatasetUsed", "run": run, "dataset": DATASET, "role": role}).to_string()
    });
    client.append(used.join("\n")).await?;
    Ok(())
}

/// Trains on a thread of its own and logs every epoch with one call, while the next one is computed.
async fn run_epochs(
    client: &Client,
    candidate: &'static Candidate,
    digits: &Arc<Digits>,
    run: &str,
) -> Result<Network> {
    let (report, mut epochs) = mpsc::channel(8);
    let digits = Arc::clone(digits);
    let training = tokio::task::spawn_blocking(move || {
        train(
            &candidate.settings,
            &digits.train,
            &digits.validation,
            // Nobody listens once a call has failed; then training goes no further.
            |epoch| match report.blocking_send(epoch) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
        )
    });
    let path = format!("/v1/runs/{run}/metrics");
    while let Some(epoch) = epochs.recv().await {
        client.post(&path, &points(epoch)).await?;
    }
    training.await.context("the training broke off")
}

/// The four points of an epoch.
fn points(epoch: Epoch) -> Value {
    let split = |split: &str, score: Score| {
        [("loss", score.loss), ("accuracy", score.accuracy)].map(|(name, value)| {
            json!({
                "name": name,
                "value": value,
                "step": epoch.number,
                "epoch": epoch.number,
                "split": split,
            })
        })
    };
    let train = split("train", epoch.train);
    let validation = split("val", epoch.validation);
    [train, validation].concat().into()
}

/// Where the weights lie, below the data directory, and what they are.
#[derive(Debug)]
struct Weights {
    path: String,
    digest: String,
}

/// Writes the weights beside the log and logs that as an artifact of the run.
async fn keep_weights(
    client: &Client,
    candidate: &Candidate,
    network: &Network,
    run: &str,
    data: &Path,
) -> Result<Weights> {
    let bytes = serde_json::to_vec(network).context("the weights cannot be written as JSON")?;
    let digest = sha256(&bytes);
    // Named after its content: nothing that another run refers to is ever overwritten.
    let mark = digest.trim_start_matches("sha256:").get(..12);
    let path = format!(
        "models/{MODEL}-{}-{}.json",
        candidate.version,
        mark.expect("a digest has 64 digits")
    );
    let file = data.join(&path);
    tokio::task::block_in_place(|| write_private(&file, &bytes))
        .with_context(|| format!("{} cannot be written", file.display()))?;
    let artifact = json!({
        "uri": path,
        "name": "weights",
        "media_type": "application/json",
        "size_bytes": bytes.len(),
        "digest": digest,
        "metadata": {"parameters": network.parameters().count()},
    });
    client
        .post(&format!("/v1/runs/{run}/artifacts"), &artifact)
        .await?;
    Ok(Weights { path, digest })
}

/// Writes a file that is only ours to read, as everything in the data directory is.
fn write_private(file: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

    let directory = file.parent().expect("the file lies in a directory");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?
        .write_all(bytes)
}

/// Announces the version. If it is there, with the same weights, it stays as it is; says which run made it.
async fn register(
    client: &Client,
    candidate: &Candidate,
    network: &Network,
    run: &str,
    weights: &Weights,
) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Registered {
        digest: Option<String>,
        run: Option<String>,
    }

    let versions = format!("/v1/models/{MODEL}/versions");
    let body = json!({
        "version": candidate.version,
        "description": candidate.title,
        "checkpoint_path": weights.path,
        "digest": weights.digest,
        "config": {
            "hidden": candidate.settings.hidden,
            "parameters": network.parameters().count(),
        },
        "signature": {"inputs": "64 integers from 0 to 16", "outputs": "10 probabilities"},
        "run": run,
    });
    if client.create(&versions, &body).await? == Created::Yes {
        return Ok(None);
    }
    let version = candidate.version;
    let before: Registered = client.get(&format!("{versions}/{version}")).await?;
    ensure!(
        before.digest.as_deref() == Some(&weights.digest),
        "version {version} of model {MODEL} is there with other weights, made by another release of this program; \
         choose another directory with --data, or remove this one"
    );
    Ok(Some(before.run.unwrap_or_default()))
}

/// Classifies every image with every version and logs inputs, outputs and times; then what the images really show.
pub(super) async fn service(
    client: &Client,
    clock: SystemClock,
    trained: &[Trained],
    images: &[Digit],
) -> Result<Service> {
    /// Images whose predictions go into one call.
    const IMAGES: usize = 250;

    let started = clock.monotonic();
    let mut service = Service::default();
    for (at, images) in images.chunks(IMAGES).enumerate() {
        let (mut events, mut labels) = (Vec::new(), Vec::new());
        for (nth, digit) in (at * IMAGES..).zip(images) {
            // Versions take turns, so that neither has the warmer caches.
            for trained in trained {
                let id = format!("{}-{nth:04}", trained.run);
                labels.push(label(trained, digit, &id));
                events.push(prediction(clock, trained, digit, id).to_string());
            }
        }
        service.predictions += events.len();
        service.labels += labels.len();
        service.calls += 2;
        client.append(events.join("\n")).await?;
        client.post("/v1/feedback", &labels.into()).await?;
    }
    service.took = clock.monotonic() - started;
    Ok(service)
}

/// Classifies an image, with the time that took.
fn prediction(clock: SystemClock, trained: &Trained, digit: &Digit, id: String) -> Value {
    let time = clock.now();
    let started = clock.monotonic();
    let probabilities = trained.network.probabilities(&digit.input());
    let class = argmax(&probabilities);
    let took = clock.monotonic() - started;
    // Six places are more than a probability of such a model means.
    let short = |probability: f64| (probability * 1e6).round() / 1e6;
    let confidence = short(probabilities[class]);
    let probabilities: Vec<f64> = probabilities.into_iter().map(short).collect();
    json!({
        "type": "PredictionLogged",
        "model": MODEL,
        "version": trained.candidate.version,
        "prediction_id": id,
        "time": time,
        "input": {"pixels": digit.pixels.as_slice()},
        "output": {"probabilities": probabilities},
        "predicted_class": class.to_string(),
        "confidence": confidence,
        "inference_time_ms": took.as_secs_f64() * 1e3,
        "environment": "demo",
    })
}

fn label(trained: &Trained, digit: &Digit, id: &str) -> Value {
    json!({
        "prediction_id": id,
        "model": MODEL,
        "version": trained.candidate.version,
        "true_class": digit.class.to_string(),
        "feedback_source": "labels of the dataset",
    })
}
