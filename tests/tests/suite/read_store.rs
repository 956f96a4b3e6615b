//! Every store that answers questions keeps the one contract.

use std::sync::Arc;

use async_trait::async_trait;
use modelog_sql::{SqlConfig, SqlStore};
use modelog_tests::read_store::{Factory, Subject, contract, random_histories};
use modelog_tests::read_store_oracle::OracleFactory;

/// SQLite databases, each in a directory of its own.
struct SqliteFactory;

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
