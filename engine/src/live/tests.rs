use super::*;
use crate::batch::EventBatch;
use crate::event::{Event, FeedbackLogged, MetricLogged, PredictionLogged, RunStarted};
use crate::read::{Key, PageRequest, ReadError, ReadStore, SeriesOwner, SeriesQuery, VersionKey};
use crate::{AppendOptions, Config, Engine, Timestamp};

/// A log with a live view that has applied all of it.
struct Scene {
    engine: Engine,
    view: LiveView,
    projection: LiveProjection,
    _directory: tempfile::TempDir,
}

impl Scene {
    fn new(config: LiveConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Config::new(directory.path());
        log.log.reserve_bytes = 0;
        let view = LiveView::new(config);
        Self {
            engine: Engine::open(log).unwrap(),
            projection: view.projection(),
            view,
            _directory: directory,
        }
    }

    async fn log<E: Into<Event>>(&mut self, events: impl IntoIterator<Item = E>) {
        let from = self.engine.tail();
        let events: Vec<Event> = events.into_iter().map(Into::into).collect();
        let batch = EventBatch::from_events(&events).unwrap();
        self.engine
            .append(batch, AppendOptions::default())
            .await
            .unwrap();
        let batches = self.engine.reader(from).read(1 << 30).unwrap();
        let last = batches.last().unwrap();
        let to = Checkpoint {
            log: self.engine.log_id(),
            epoch: last.epoch,
            offset: last.end(),
            fold_version: FOLD_VERSION,
        };
        let view = self.engine.view();
        self.projection.apply(&batches, view, to).await.unwrap();
    }

    async fn ids(&self, limit: u32) -> Result<Vec<String>, ReadError> {
        let page = PageRequest {
            limit,
            cursor: None,
        };
        let found = self.view.reads().predictions(&version(), page).await?;
        let items = found.unwrap().items.into_iter();
        Ok(items.map(|found| found.prediction_id).collect())
    }
}

fn version() -> VersionKey {
    VersionKey::Name {
        model: Key::Name("m".into()),
        version: "1".into(),
    }
}

fn prediction(id: impl ToString) -> PredictionLogged {
    PredictionLogged {
        model: "m".into(),
        version: "1".into(),
        prediction_id: Some(id.to_string()),
        ..PredictionLogged::default()
    }
}

fn feedback(id: &str) -> FeedbackLogged {
    FeedbackLogged {
        prediction_id: id.into(),
        correct: Some(true),
        ..FeedbackLogged::default()
    }
}

/// Feedback waits within bounds of number and memory. A prediction that comes after its feedback was dropped is not shown
/// without it.
#[tokio::test]
async fn a_prediction_whose_feedback_was_dropped_is_not_shown_without_it() {
    for config in [
        LiveConfig::default(),
        LiveConfig {
            bytes_max: 8 << 10,
            ..LiveConfig::default()
        },
    ] {
        let mut scene = Scene::new(config);
        let ids: Vec<String> = (0..=predictions::WAITING_MAX)
            .map(|id| id.to_string())
            .collect();
        scene.log(ids.iter().map(|id| feedback(id))).await;
        scene.log(["0", "10000", "new"].map(prediction)).await;
        let reads = scene.view.reads();
        let model = Key::Name("m".into());
        let found = reads.prediction(&model, "0").await;
        assert!(not_kept(&found), "{found:?}");
        let found = reads.prediction(&model, "10000").await.unwrap().unwrap();
        assert_eq!(found.feedback.unwrap().correct, Some(true));
        let found = reads.prediction(&model, "new").await.unwrap().unwrap();
        assert_eq!(found.feedback, None);
        assert_eq!(scene.ids(2).await.unwrap(), ["new", "10000"]);
        assert!(not_kept(&scene.ids(3).await));
    }
}

fn metric(run: &str, step: i64) -> MetricLogged {
    MetricLogged {
        name: "loss".into(),
        value: 0.5,
        run: Some(run.into()),
        step: Some(step),
        ..MetricLogged::default()
    }
}

fn few(predictions_window: usize, metrics_window: usize) -> LiveConfig {
    LiveConfig {
        predictions_window,
        metrics_window,
        ..LiveConfig::default()
    }
}

fn not_kept<T: std::fmt::Debug>(answer: &Result<T, ReadError>) -> bool {
    matches!(answer, Err(ReadError::NotKept { store: "memory" }))
}

#[tokio::test]
async fn the_newest_are_kept_and_more_is_not_made_up() {
    let mut scene = Scene::new(few(3, 10));
    scene.log((0..3).map(prediction)).await;
    assert_eq!(scene.ids(10).await.unwrap(), ["2", "1", "0"]);
    scene.log([prediction(3)]).await;
    assert_eq!(scene.ids(3).await.unwrap(), ["3", "2", "1"]);
    assert!(not_kept(&scene.ids(4).await));
    let page = PageRequest {
        limit: 3,
        cursor: None,
    };
    let page = scene.view.reads().predictions(&version(), page).await;
    assert!(
        page.unwrap().unwrap().next_cursor.is_some(),
        "there is more"
    );
    let model = Key::Name("m".into());
    let get = async |id| scene.view.reads().prediction(&model, id).await;
    assert!(get("1").await.unwrap().is_some());
    assert!(not_kept(&get("0").await));
    assert!(not_kept(&get("never").await), "which cannot be known");
}

/// One that was logged later and happened earlier than what has left comes after it in the list.
#[tokio::test]
async fn what_lies_below_something_that_has_left_is_not_listed() {
    let mut scene = Scene::new(few(2, 10));
    let at = |id: u32, micros: i64| {
        let event = Event::from(prediction(id));
        event.at(Timestamp::from_micros(1_700_000_000_000_000 + micros))
    };
    scene.log([at(0, 50), at(1, 70), at(2, 40)]).await;
    assert_eq!(scene.ids(1).await.unwrap(), ["1"]);
    assert!(not_kept(&scene.ids(2).await), "0 lies between 1 and 2");
    let reads = scene.view.reads();
    let since = |micros: i64| Some(Timestamp::from_micros(1_700_000_000_000_000 + micros));
    let stats = async |micros: i64| reads.version_stats(&version(), since(micros), None).await;
    assert_eq!(stats(51).await.unwrap().unwrap().predictions, 1);
    assert!(not_kept(&stats(50).await));
}

#[tokio::test]
async fn what_has_left_does_not_come_back_in_part() {
    let mut scene = Scene::new(few(1, 10));
    let request = PredictionLogged {
        part: Some("request".into()),
        ..prediction("a")
    };
    scene.log([request, prediction("b")]).await;
    let response = PredictionLogged {
        part: Some("response".into()),
        confidence: Some(0.5),
        ..prediction("a")
    };
    scene.log([response]).await;
    assert_eq!(scene.ids(1).await.unwrap(), ["b"]);
    assert!(not_kept(&scene.ids(2).await));
}

#[tokio::test]
async fn feedback_finds_its_prediction_whichever_comes_first() {
    let mut scene = Scene::new(few(10, 10));
    scene.log([feedback("a"), feedback("b")]).await;
    scene.log([prediction("a"), prediction("c")]).await;
    scene.log([feedback("c")]).await;
    let model = Key::Name("m".into());
    for id in ["a", "c"] {
        let found = scene.view.reads().prediction(&model, id).await.unwrap();
        let feedback = found.unwrap().feedback.unwrap();
        assert_eq!(feedback.correct, Some(true), "{id}");
    }
}

#[tokio::test]
async fn memory_is_bounded_whatever_comes() {
    let bytes_max = 256 << 10;
    let mut scene = Scene::new(LiveConfig {
        bytes_max,
        ..LiveConfig::default()
    });
    let text = || Some("x".repeat(500));
    for round in 0..20 {
        scene
            .log((0..100).map(|at| PredictionLogged {
                error: text(),
                ..prediction(format!("{round}-{at}"))
            }))
            .await;
        scene
            .log((0..100).map(|at| FeedbackLogged {
                true_class: text(),
                ..feedback(&format!("nothing-{round}-{at}"))
            }))
            .await;
        scene
            .log((0..100).map(|at| RunStarted {
                run: format!("r{round}-{at}"),
                code: text(),
                ..RunStarted::default()
            }))
            .await;
        scene
            .log((0..400).map(|step| metric(&format!("r{round}-{}", step % 100), step)))
            .await;
        let bytes = scene.view.bytes();
        assert!(bytes <= bytes_max, "{bytes} after round {round}");
    }
    assert!(scene.view.bytes() > bytes_max / 3, "it is made use of");
    // The newest of everything is there, and the rest is known to have been.
    let reads = scene.view.reads();
    let run = |name: &str| Key::Name(name.into());
    assert!(reads.run(&run("r19-99")).await.unwrap().is_some());
    assert!(not_kept(&reads.run(&run("r0-0")).await));
    assert!(reads.run(&run("never")).await.unwrap().is_none());
    let first = PageRequest {
        limit: 1,
        cursor: None,
    };
    assert!(not_kept(
        &reads.runs(&crate::read::RunFilter::default(), first).await
    ));
    let series = async |name| reads.series(&SeriesOwner::Run(run(name))).await;
    assert_eq!(series("r19-99").await.unwrap().unwrap()[0].points, 4);
    assert!(not_kept(&series("r0-0").await));
    assert_eq!(scene.ids(1).await.unwrap(), ["19-99"]);
}

#[tokio::test]
async fn the_end_of_a_series_is_kept_and_what_it_was_in_short() {
    let mut scene = Scene::new(few(10, 3));
    let point =
        |step| Event::from(metric("r", step)).at(Timestamp::from_micros(1_700_000_000_000_000));
    scene.log((0..5).map(point)).await;
    let owner = SeriesOwner::Run(Key::Name("r".into()));
    let reads = scene.view.reads();
    let summary = reads.series(&owner).await.unwrap().unwrap().remove(0);
    assert_eq!((summary.points, summary.last.step), (5, 4));
    let points = async |from_step| {
        let query = SeriesQuery {
            from_step,
            ..SeriesQuery::default()
        };
        reads.points(&owner, "loss", &query).await
    };
    assert_eq!(points(Some(2)).await.unwrap().unwrap().total_points, 3);
    assert!(not_kept(&points(Some(1)).await));
    assert!(not_kept(&points(None).await));
    // It may repeat a point that has left: how many there are is not known any more.
    scene.log([point(1)]).await;
    assert!(not_kept(&reads.series(&owner).await));
    assert_eq!(points(Some(2)).await.unwrap().unwrap().total_points, 3);
}
