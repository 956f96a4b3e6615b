//! Projections are fed in order, wait out outages, stop where waiting cannot help, and start again when told.

use std::collections::VecDeque;

use async_trait::async_trait;

use super::*;
use crate::batch::EventBatch;
use crate::event::{Event, EventLogged, Json};
use crate::{AppendOptions, Config, Engine};

/// A store in memory that fails on cue.
#[derive(Debug, Default)]
struct Store {
    checkpoint: Option<Checkpoint>,
    seen: Vec<u64>,
    /// What the next calls to `apply` end with.
    failures: VecDeque<Failure>,
    cleared: u32,
    /// How many of the batches that are read ahead it keeps, the last ones; those of an ordinary store are not read ahead.
    keeps: Option<usize>,
    /// What it let go.
    passed: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Failure {
    /// Away before anything was applied.
    Away,
    /// Applied, and away before that could be told.
    AwayAfter,
    Hopeless,
}

#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<Store>>);

impl Recorder {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl Projection for Recorder {
    fn name(&self) -> &str {
        "recorder"
    }

    fn fold_version(&self) -> u32 {
        3
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        Ok(self.store().checkpoint)
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        assert!(view.statistics.with(|statistics| statistics.offset()) >= to.offset);
        let mut store = self.store();
        let failure = store.failures.pop_front();
        if matches!(failure, None | Some(Failure::AwayAfter)) {
            let done = store
                .checkpoint
                .map_or(Offset::ZERO, |checkpoint| checkpoint.offset);
            for row in batches
                .iter()
                .flat_map(|batch| batch.in_order())
                .filter(|row| row.offset() >= done)
            {
                store.seen.push(row.offset().0);
            }
            store.checkpoint = Some(to);
        }
        match failure {
            None => Ok(()),
            Some(Failure::Hopeless) => Err(ProjectionError::Stopped {
                reason: "no hope".into(),
            }),
            Some(_) => Err(ProjectionError::Unavailable("away".into())),
        }
    }

    fn reads_ahead(&self) -> bool {
        self.store().keeps.is_some()
    }

    async fn thin(
        &mut self,
        batches: &mut Vec<Arc<LoggedBatch>>,
        _view: View<'_>,
    ) -> Result<(), ProjectionError> {
        let mut store = self.store();
        let keeps = store.keeps.unwrap_or(usize::MAX);
        let gone = batches.drain(..batches.len().saturating_sub(keeps));
        store.passed.extend(gone.flat_map(|batch| {
            (0..batch.rows).map(move |row| batch.first_offset.0 + u64::from(row))
        }));
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        let mut store = self.store();
        (store.checkpoint, store.seen) = (None, Vec::new());
        store.cleared += 1;
        Ok(())
    }
}

fn append(engine: &Engine, count: usize) {
    for _ in 0..count {
        let event: Event = EventLogged {
            name: "tick".into(),
            data: None,
        }
        .into();
        let batch = EventBatch::from_events([&event]).unwrap();
        engine
            .append_blocking(batch, AppendOptions::default())
            .unwrap();
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

async fn follow(
    failures: impl IntoIterator<Item = Failure>,
) -> (tempfile::TempDir, Engine, Recorder, ProjectionHandle) {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::new(directory.path());
    config.log.reserve_bytes = 0;
    let engine = Engine::open(config).unwrap();
    append(&engine, 5);
    let recorder = Recorder::default();
    recorder.store().failures.extend(failures);
    let handle = engine.project(Box::new(recorder.clone()));
    (directory, engine, recorder, handle)
}

#[tokio::test]
async fn outages_are_waited_out_and_nothing_is_applied_twice() {
    let (_directory, engine, recorder, handle) =
        follow([Failure::Away, Failure::AwayAfter, Failure::Away]).await;
    append(&engine, 5);
    assert_eq!(
        handle.wait_for(engine.tail(), PATIENCE).await,
        Ok(Offset(10))
    );
    assert_eq!(recorder.store().seen, (0..10).collect::<Vec<_>>());
    let status = handle.status();
    assert!(status.errors >= 2);
    assert_eq!(
        (status.state, status.lag_events),
        (ProjectionState::Running, 0)
    );
    engine.close().await.unwrap();
}

/// Waits until the store was cleared that often and has all six events again. Progress itself is no sign: it may pass
/// through zero unseen.
async fn until_rebuilt(recorder: &Recorder, times: u32) {
    loop {
        {
            let store = recorder.store();
            if store.cleared == times && store.seen.len() == 6 {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_cannot_get_better_stops_and_a_rebuild_starts_over() {
    let (_directory, engine, recorder, handle) = follow([Failure::Hopeless]).await;
    let stopped = handle.wait_for(engine.tail(), PATIENCE).await;
    assert!(
        matches!(&stopped, Err(NotYet::Stopped { reason, .. }) if reason == "no hope"),
        "{stopped:?}"
    );
    append(&engine, 1);
    assert_eq!(
        handle.status().state,
        ProjectionState::Stopped,
        "appends go on without it"
    );
    handle.rebuild().unwrap();
    until_rebuilt(&recorder, 1).await;
    handle.rebuild().unwrap();
    until_rebuilt(&recorder, 2).await;
    assert_eq!(recorder.store().seen, (0..6).collect::<Vec<_>>());
    assert_eq!(handle.wait_for(Offset(6), PATIENCE).await, Ok(Offset(6)));
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_store_of_another_history_is_not_touched() {
    let (_directory, engine, _, _) = follow([]).await;
    let sound = Checkpoint {
        log: engine.log_id(),
        epoch: engine.epoch(),
        offset: Offset(2),
        fold_version: 3,
    };
    let foreign = Checkpoint {
        log: crate::LogId(uuid::Uuid::nil()),
        ..sound
    };
    let beyond = Checkpoint {
        offset: Offset(6),
        ..sound
    };
    let unknown_epoch = Checkpoint { epoch: 9, ..sound };
    let old_fold = Checkpoint {
        fold_version: 2,
        ..sound
    };
    for (checkpoint, words) in [
        (foreign, "follows log"),
        (beyond, "no longer exists"),
        (unknown_epoch, "no longer exists"),
        (old_fold, "fold version 2"),
    ] {
        let recorder = Recorder::default();
        recorder.store().checkpoint = Some(checkpoint);
        let handle = engine.project(Box::new(recorder.clone()));
        match handle.wait_for(Offset(5), PATIENCE).await {
            Err(NotYet::Stopped { reason, .. }) => {
                assert!(
                    reason.contains(words) && reason.contains("modelog rebuild"),
                    "{reason}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(recorder.store().seen.is_empty());
    }
    let recorder = Recorder::default();
    recorder.store().checkpoint = Some(sound);
    let handle = engine.project(Box::new(recorder.clone()));
    handle.wait_for(Offset(5), PATIENCE).await.unwrap();
    assert_eq!(recorder.store().seen, [2, 3, 4]);
    engine.close().await.unwrap();
}

/// Events with values that do not get shorter by packing.
async fn append_noise(engine: &Engine, events: usize, bytes: usize) {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'#' + (state >> 58) as u8 % 57)
    });
    let noise: String = noise.take(bytes + events).collect();
    for at in 0..events {
        let text = serde_json::to_string(&noise[at..at + bytes]).unwrap();
        let event: Event = EventLogged {
            name: "noise".into(),
            data: Some(Json::parse(text).unwrap()),
        }
        .into();
        let batch = EventBatch::from_events([&event]).unwrap();
        engine
            .append(batch, AppendOptions::default())
            .await
            .unwrap();
    }
}

/// Far behind, it is read ahead for; what it lets go is not applied, everything else is, and the checkpoint covers both.
#[tokio::test]
async fn what_is_read_ahead_is_thinned_and_all_of_it_counts() {
    const EVENTS: usize = 120;
    for keeps in [0, 1, 40] {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path());
        config.log.reserve_bytes = 0;
        let engine = Engine::open(config).unwrap();
        append_noise(&engine, EVENTS, 256 << 10).await;
        let recorder = Recorder::default();
        recorder.store().keeps = Some(keeps);
        let handle = engine.project(Box::new(recorder.clone()));
        let tail = engine.tail();
        assert_eq!(handle.wait_for(tail, PATIENCE).await, Ok(tail));
        {
            let store = recorder.store();
            assert!(!store.passed.is_empty(), "{keeps}");
            let mut all: Vec<u64> = store.seen.iter().chain(&store.passed).copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..EVENTS as u64).collect::<Vec<_>>(), "{keeps}");
            assert!(store.seen.is_sorted());
            assert_eq!(store.checkpoint.map(|at| at.offset), Some(tail));
        }
        engine.close().await.unwrap();
    }
}
