//! Every store that answers questions keeps the one contract.

use std::sync::Arc;

use async_trait::async_trait;
use modelog_engine::live::{LiveConfig, LiveView};
use modelog_sql::{SqlConfig, SqlStore};
use modelog_tests::read_store::{Factory, Subject, contract, random_histories, rebuilds_aside};
use modelog_tests::read_store_oracle::OracleFactory;

use crate::layers::layered;

/// SQLite databases, each in a directory of its own.
pub(crate) struct SqliteFactory;

#[async_trait]
impl Factory for SqliteFactory {
    async fn subject(&self) -> Subject {
        let directory = tempfile::tempdir().unwrap();
        let config = SqlConfig {
            directory: directory.path().into(),
            ..SqlConfig::default()
        };
        let store = SqlStore::new(config).unwrap();
        Subject {
            projection: Box::new(store.projection()),
            reads: Arc::new(store.reads()),
            guard: Box::new((directory, store)),
        }
    }
}

/// The oracle is held to what the stores are held to, so that a case that asks too much is found out.
#[tokio::test(flavor = "multi_thread")]
async fn the_oracle_keeps_the_contract() {
    contract(Arc::new(OracleFactory)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_contract() {
    contract(Arc::new(SqliteFactory)).await;
}

#[test]
fn sqlite_answers_what_a_plain_fold_answers() {
    random_histories(Arc::new(SqliteFactory), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_is_built_again_aside() {
    rebuilds_aside(&SqliteFactory).await;
}

/// Live views with room for everything.
struct LiveFactory;

#[async_trait]
impl Factory for LiveFactory {
    async fn subject(&self) -> Subject {
        let view = LiveView::new(LiveConfig::default());
        Subject {
            projection: Box::new(view.projection()),
            reads: Arc::new(view.reads()),
            guard: Box::new(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_view_keeps_the_contract() {
    contract(Arc::new(LiveFactory)).await;
}

#[test]
fn the_live_view_answers_what_a_plain_fold_answers() {
    random_histories(Arc::new(LiveFactory), 256);
}

/// A live view that keeps next to nothing, before a database that keeps everything.
struct LayeredFactory(LiveConfig);

#[async_trait]
impl Factory for LayeredFactory {
    async fn subject(&self) -> Subject {
        let view = LiveView::new(self.0);
        let live = Subject {
            projection: Box::new(view.projection()),
            reads: Arc::new(view.reads()),
            guard: Box::new(()),
        };
        layered(live, SqliteFactory.subject().await)
    }
}

/// What has left the live view is never missing from an answer: it says so, and the database answers.
#[test]
fn a_live_view_that_keeps_little_says_so_rather_than_answer_with_less() {
    let keeps_one_of_each = LiveConfig {
        predictions_window: 1,
        metrics_window: 1,
        ..LiveConfig::default()
    };
    let keeps_few_bytes = LiveConfig {
        bytes_max: 4 << 10,
        ..LiveConfig::default()
    };
    let keeps_little = LiveConfig {
        predictions_window: 2,
        metrics_window: 3,
        bytes_max: 12 << 10,
    };
    for config in [keeps_one_of_each, keeps_few_bytes, keeps_little] {
        random_histories(Arc::new(LayeredFactory(config)), 64);
    }
}
