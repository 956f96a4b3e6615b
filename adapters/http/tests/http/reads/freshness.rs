//! How fresh an answer is: what it waits for, what it says, and when it refuses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::live::{LiveConfig, LiveView};
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::read::{
    Dataset, Experiment, Key, Model, ModelVersion, Page, PageRequest, Prediction, ReadError,
    ReadStore, Run, RunFilter, Series, SeriesOwner, SeriesQuery, SeriesSummary, StatsTotals,
    VersionKey, VersionStats,
};
use modelog_engine::{Checkpoint, Offset, Timestamp};
use reqwest::StatusCode;
use tokio::sync::Semaphore;

use super::support::{Site, log};

/// A store that keeps an offset and nothing else. What it applies waits at its gate.
#[derive(Clone)]
struct Slow {
    gate: Arc<Semaphore>,
    hopeless: Arc<AtomicBool>,
    checkpoint: Arc<Mutex<Option<Checkpoint>>>,
}

impl Slow {
    fn open_for(batches: usize) -> Self {
        Self {
            gate: Arc::new(Semaphore::new(batches)),
            hopeless: Arc::default(),
            checkpoint: Arc::default(),
        }
    }

    async fn site(&self) -> Site {
        let directory = tempfile::tempdir().unwrap();
        let projection = Box::new(self.clone());
        Site::with(directory, Arc::new(self.clone()), [projection as _]).await
    }
}

#[async_trait]
impl Projection for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn fold_version(&self) -> u32 {
        1
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        Ok(*self.checkpoint.lock().unwrap())
    }

    async fn apply(
        &mut self,
        _: &[Arc<LoggedBatch>],
        _: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        if self.hopeless.load(Ordering::SeqCst) {
            return Err(ProjectionError::Stopped {
                reason: "the table is gone".into(),
            });
        }
        self.gate.acquire().await.unwrap().forget();
        *self.checkpoint.lock().unwrap() = Some(to);
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        self.hopeless.store(false, Ordering::SeqCst);
        *self.checkpoint.lock().unwrap() = None;
        Ok(())
    }
}

/// Answers with nothing but how far it is.
#[async_trait]
impl ReadStore for Slow {
    fn projection(&self) -> &str {
        "slow"
    }

    async fn models(&self, _: PageRequest) -> Result<Page<Model>, ReadError> {
        Err(away())
    }

    async fn model(&self, _: &Key) -> Result<Option<Model>, ReadError> {
        Ok(None)
    }

    async fn versions(
        &self,
        _: &Key,
        _: PageRequest,
    ) -> Result<Option<Page<ModelVersion>>, ReadError> {
        Ok(None)
    }

    async fn version(&self, _: &VersionKey) -> Result<Option<ModelVersion>, ReadError> {
        Ok(None)
    }

    async fn datasets(&self, _: PageRequest) -> Result<Page<Dataset>, ReadError> {
        Err(away())
    }

    async fn dataset(&self, _: &Key) -> Result<Option<Dataset>, ReadError> {
        Ok(None)
    }

    async fn experiments(&self, _: PageRequest) -> Result<Page<Experiment>, ReadError> {
        Err(away())
    }

    async fn experiment(&self, _: &Key) -> Result<Option<Experiment>, ReadError> {
        Ok(None)
    }

    async fn runs(&self, _: &RunFilter, _: PageRequest) -> Result<Page<Run>, ReadError> {
        Err(away())
    }

    async fn run(&self, _: &Key) -> Result<Option<Run>, ReadError> {
        Ok(None)
    }

    async fn series(&self, _: &SeriesOwner) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        Ok(None)
    }

    async fn points(
        &self,
        _: &SeriesOwner,
        _: &str,
        _: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        Ok(None)
    }

    async fn predictions(
        &self,
        _: &VersionKey,
        _: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError> {
        Ok(None)
    }

    async fn prediction(&self, _: &Key, _: &str) -> Result<Option<Prediction>, ReadError> {
        Ok(None)
    }

    async fn stats(&self) -> Result<StatsTotals, ReadError> {
        Ok(StatsTotals {
            as_of_offset: self.offset().await?,
            ..StatsTotals::default()
        })
    }

    async fn version_stats(
        &self,
        _: &VersionKey,
        _: Option<Timestamp>,
        _: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError> {
        Ok(None)
    }

    async fn offset(&self) -> Result<Offset, ReadError> {
        let checkpoint = *self.checkpoint.lock().unwrap();
        Ok(checkpoint.map_or(Offset::ZERO, |checkpoint| checkpoint.offset))
    }
}

fn away() -> ReadError {
    ReadError::Unavailable {
        store: "slow",
        source: "it was unplugged".into(),
    }
}

const EVENT: &str = r#"{"type":"EventLogged","name":"x"}"#;

#[tokio::test]
async fn a_read_sees_what_was_written_before_it() {
    let site = Site::start().await;
    for at in 1..=50 {
        let line = format!(r#"{{"type":"ModelCreated","model":"m{at}"}}"#);
        let end = site.log(&line).await.end;
        // Without being told an offset.
        let reply = site.get(&format!("/v1/models/m{at}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert!(reply.offset() >= end.0);
    }
}

#[tokio::test]
async fn a_lagging_store_answers_with_what_it_has_and_says_so() {
    let slow = Slow::open_for(1);
    let site = slow.site().await;
    site.log(EVENT).await;
    let caught_up = site.get("/v1/stats").await;
    assert_eq!(
        (caught_up.offset(), &caught_up.json()["as_of_offset"]),
        (1, &1.into())
    );
    site.log(EVENT).await;
    let late = site.get("/v1/stats").await;
    assert_eq!(late.status, StatusCode::OK);
    assert_eq!(
        (late.offset(), &late.json()["as_of_offset"]),
        (1, &1.into())
    );
    let unasked = site.get("/v1/stats?at_least=0").await;
    assert_eq!((unasked.status, unasked.offset()), (StatusCode::OK, 1));
    // What it has need not be waited for.
    let enough = site.get("/v1/stats?at_least=1").await;
    assert_eq!((enough.status, enough.offset()), (StatusCode::OK, 1));
}

#[tokio::test]
async fn an_offset_that_is_asked_for_is_waited_for() {
    let slow = Slow::open_for(1);
    let site = slow.site().await;
    site.log(EVENT).await;
    site.get("/v1/stats?at_least=1").await;
    let end = site.log(EVENT).await.end;
    let path = format!("/v1/stats?at_least={end}");
    let asked = site.get(&path);
    let opened = async {
        // Longer than a read would wait by itself.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        slow.gate.add_permits(1);
    };
    let (reply, ()) = tokio::join!(asked, opened);
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(
        (reply.offset(), &reply.json()["as_of_offset"]),
        (2, &2.into())
    );
}

#[tokio::test]
async fn what_does_not_get_there_is_refused() {
    let slow = Slow::open_for(1);
    let site = slow.site().await;
    site.log(EVENT).await;
    site.get("/v1/stats?at_least=1").await;
    site.log(EVENT).await;
    let reply = site.get("/v1/stats?at_least=2").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(reply.offset(), 1);
    let problem = reply.problem();
    assert_eq!(problem["code"], "not_yet");
    assert_eq!(
        problem["detail"],
        "the projection slow is at offset 1, 2 was asked for"
    );
}

#[tokio::test]
async fn a_stopped_store_is_not_waited_for() {
    let slow = Slow::open_for(10);
    let site = slow.site().await;
    site.log(EVENT).await;
    site.get("/v1/stats?at_least=1").await;
    slow.hopeless.store(true, Ordering::SeqCst);
    site.log(EVENT).await;
    // Wait until it has stopped: this read does not wait long, but it answers.
    let reply = site.get("/v1/stats").await;
    assert_eq!((reply.status, reply.offset()), (StatusCode::OK, 1));
    let problem = site.problem("/v1/stats?at_least=2").await;
    assert_eq!(problem["code"], "not_yet");
    assert_eq!(
        problem["detail"],
        "the projection slow is stopped at offset 1: the table is gone"
    );
    // Waiting for the bound instead would take until long after this.
    let at_once = tokio::time::timeout(Duration::from_secs(5), site.get("/v1/stats?at_least=2"));
    assert_eq!(
        at_once.await.unwrap().status,
        StatusCode::SERVICE_UNAVAILABLE
    );

    let projections = site.items("/v1/projections").await;
    assert_eq!(projections.len(), 1);
    assert_eq!(projections[0]["name"], "slow");
    assert_eq!(projections[0]["state"], "stopped");
    assert_eq!(projections[0]["offset"], 1);
    assert_eq!(projections[0]["lag_events"], 1);
    assert_eq!(projections[0]["last_error"], "the table is gone");

    let rebuild = |name| {
        site.client
            .post(format!("{}/v1/projections/{name}/rebuild", site.base))
    };
    let missing = rebuild("slwo").send().await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let told = rebuild("slow").send().await.unwrap();
    assert_eq!(told.status(), StatusCode::ACCEPTED);
    let reply = site.get("/v1/stats?at_least=2").await;
    assert_eq!((reply.status, reply.offset()), (StatusCode::OK, 2));
}

#[tokio::test]
async fn a_store_that_nothing_feeds_answers_with_what_it_has() {
    let slow = Slow::open_for(10);
    let directory = tempfile::tempdir().unwrap();
    let site = Site::with(directory, Arc::new(slow), []).await;
    log(&site.engine, EVENT).await;
    let reply = site.get("/v1/stats").await;
    assert_eq!((reply.status, reply.offset()), (StatusCode::OK, 0));
    assert_eq!(
        site.problem("/v1/stats?at_least=1").await["code"],
        "not_yet"
    );
    assert_eq!(site.items("/v1/projections").await.len(), 0);
}

#[tokio::test]
async fn a_store_that_is_away_says_so() {
    let slow = Slow::open_for(10);
    let site = slow.site().await;
    for path in ["/v1/models", "/v1/datasets", "/v1/experiments", "/v1/runs"] {
        let reply = site.get(path).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(reply.header("retry-after"), "5");
        let problem = reply.problem();
        assert_eq!(problem["code"], "store_unavailable");
        // What the database said is for the server's log.
        assert!(!reply.text().contains("unplugged"));
    }
}

const PREDICTION: &str = r#"{"type":"PredictionLogged","model":"m","version":"1"}"#;
/// Answered by a store that has all of history; more than a live view with room for one keeps.
const PREDICTIONS: &str = "/v1/models/m/versions/1/predictions";

/// A live view with room for one prediction, before a store that is as slow as its gate.
async fn live_before(slow: &Slow) -> Site {
    let view = LiveView::new(LiveConfig {
        predictions_window: 1,
        ..LiveConfig::default()
    });
    Site::layered(
        Arc::new(view.reads()),
        Arc::new(slow.clone()),
        [
            Box::new(view.projection()) as Box<dyn Projection>,
            Box::new(slow.clone()) as _,
        ],
    )
    .await
}

#[tokio::test]
async fn what_the_live_store_has_is_not_waited_for_elsewhere() {
    let site = live_before(&Slow::open_for(0)).await;
    site.log(PREDICTION).await;
    let reply = site.get(&format!("{PREDICTIONS}?at_least=1")).await;
    assert_eq!((reply.status, reply.offset()), (StatusCode::OK, 1));
    assert_eq!(reply.json()["items"].as_array().unwrap().len(), 1);
    let reply = site.get("/v1/stats?at_least=1").await;
    assert_eq!((reply.status, reply.offset()), (StatusCode::OK, 1));
    assert_eq!(reply.json()["predictions"], 1);
}

#[tokio::test]
async fn what_the_live_store_no_longer_keeps_the_other_answers_once_it_is_as_fresh() {
    let slow = Slow::open_for(1);
    let site = live_before(&slow).await;
    site.log(PREDICTION).await;
    site.get("/v1/stats?at_least=1").await;
    site.log(PREDICTION).await;
    // The slow one is not there yet; who does not demand it takes what there is, and is told.
    let reply = site.get(PREDICTIONS).await;
    assert_eq!((reply.status, reply.offset()), (StatusCode::NOT_FOUND, 1));
    let path = format!("{PREDICTIONS}?at_least=2");
    let asked = site.get(&path);
    let opened = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        slow.gate.add_permits(1);
    };
    let (reply, ()) = tokio::join!(asked, opened);
    assert_eq!((reply.status, reply.offset()), (StatusCode::NOT_FOUND, 2));
}

#[tokio::test]
async fn an_answer_of_history_that_is_demanded_and_does_not_come_is_refused() {
    let slow = Slow::open_for(10);
    let site = live_before(&slow).await;
    site.log(PREDICTION).await;
    site.get(&format!("{PREDICTIONS}?at_least=1")).await;
    slow.hopeless.store(true, Ordering::SeqCst);
    site.log(PREDICTION).await;
    let reply = site.get(&format!("{PREDICTIONS}?at_least=2")).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.offset(), 1, "how far the one is that would answer");
    assert_eq!(reply.problem()["code"], "not_yet");
    assert_eq!(
        reply.problem()["detail"],
        "the projection slow is stopped at offset 1: the table is gone"
    );
}

#[tokio::test]
async fn while_the_live_store_is_behind_the_other_answers() {
    let slow = Slow::open_for(0);
    let whole = LiveView::new(LiveConfig::default());
    let site = Site::layered(
        Arc::new(slow.clone()),
        Arc::new(whole.reads()),
        [
            Box::new(slow.clone()) as Box<dyn Projection>,
            Box::new(whole.projection()) as _,
        ],
    )
    .await;
    site.log(PREDICTION).await;
    for path in ["/v1/stats", "/v1/stats?at_least=1"] {
        let reply = site.get(path).await;
        assert_eq!((reply.status, reply.offset()), (StatusCode::OK, 1));
        assert_eq!(reply.json()["predictions"], 1, "{path}");
    }
    // Neither is there, and nobody demands it: the one that is further answers.
    let beyond = site.get("/v1/stats?at_least=2").await;
    assert_eq!(beyond.status, StatusCode::SERVICE_UNAVAILABLE);
    slow.gate.add_permits(10);
    let reply = site.get("/v1/stats?at_least=1").await;
    assert_eq!((reply.status, reply.offset()), (StatusCode::OK, 1));
}
