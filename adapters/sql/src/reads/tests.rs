//! Answers are found by index: what the database means to do is looked at, not how long it takes.

use modelog_engine::projection::Projection as _;
use modelog_engine::read::{RunFilter, RunOrder};

use super::snapshot::{Snapshot, Statement};
use super::{entities, predictions, runs, series, statistics};
use crate::{SqlConfig, SqlStore};

/// The steps of a statement's plan.
async fn plan(snapshot: &mut Snapshot, mut statement: Statement) -> Vec<String> {
    statement.text.insert_str(0, "EXPLAIN QUERY PLAN ");
    snapshot.all(statement, |row| row.text(3)).await.unwrap()
}

async fn empty_store() -> (tempfile::TempDir, SqlStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqlStore::new(SqlConfig {
        directory: directory.path().into(),
        ..SqlConfig::default()
    })
    .unwrap();
    store.projection().open().await.unwrap();
    (directory, store)
}

#[tokio::test]
async fn nothing_is_scanned_or_sorted_to_find_a_page() {
    let (_directory, store) = empty_store().await;
    let mut snapshot = Snapshot::begin(&store.reads().database).await.unwrap();
    let mut statements = vec![
        predictions::page_statement(1, None, 101),
        predictions::page_statement(1, Some((5, 6)), 101),
        predictions::one_statement(1, "p"),
        statistics::stretch_statement(1, None, None),
        Statement::new(&[series::POINTS]).int(1).int(0).int(9),
    ];
    statements.extend(entities::page_statements());
    for order in [
        RunOrder::NewestStarted,
        RunOrder::OldestStarted,
        RunOrder::Name,
    ] {
        statements.extend(runs::page_statements(&RunFilter {
            order,
            ..RunFilter::default()
        }));
    }
    for statement in statements {
        let text = statement.text.clone();
        let steps = plan(&mut snapshot, statement).await;
        for step in &steps {
            // Ties of step and time are sorted by offset: a few rows at a time.
            let ties = step == "USE TEMP B-TREE FOR LAST TERM OF ORDER BY";
            // A list that is the whole table is read in the order of an index.
            let whole = step.contains("USING INDEX") || text.contains("LIMIT");
            assert!(!step.starts_with("SCAN") || whole, "{text}\n{steps:#?}");
            assert!(ties || !step.contains("TEMP B-TREE"), "{text}\n{steps:#?}");
        }
        println!("{text}\n{steps:#?}");
    }
    snapshot.end(()).await.unwrap();
    store.close().await;
}
