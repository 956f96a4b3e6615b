//! The contract of a [`ReadStore`](modelog_engine::read::ReadStore): what every store must answer after it has
//! followed a log. Stores are compared with what the events mean, case by case, and with a plain fold of random histories
//! ([`crate::read_store_oracle`]).
//!
//! A store joins by a [`Factory`]. Its projection is driven by hand, so that the same log reaches it in many cuts.
//!
//! ```text
//! events ─▶ Scene: a real log ─▶ batches, cut as the case wants ─▶ projection ─▶ store ─▶ answers
//! ```

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

mod entities;
mod facts;
mod following;
mod histories;
mod lists;
mod metrics;
mod picture;
mod predictions;
mod scene;
mod statistics;
mod values;

use std::sync::Arc;

pub use following::rebuilds_aside;
pub use histories::{SUBJECTS, event, random_histories};
pub use picture::picture;
pub use scene::{Course, Factory, START, Scene, Subject, first, pages, second};

/// A case: its name, and what it asks of a store.
pub struct Case {
    pub name: &'static str,
    run: fn(&dyn Factory) -> Course<'_>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn case(name: &'static str, run: fn(&dyn Factory) -> Course<'_>) -> Case {
    Case { name, run }
}

/// All cases.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [
        entities::CASES,
        lists::CASES,
        metrics::CASES,
        predictions::CASES,
        statistics::CASES,
        values::CASES,
        following::CASES,
    ]
    .into_iter()
    .flatten()
}

/// Runs all cases, each on a store of its own.
///
/// # Panics
/// If some of them fail; names them all.
pub async fn contract(factory: Arc<dyn Factory>) {
    let mut failed = Vec::new();
    for case in cases() {
        let factory = Arc::clone(&factory);
        let course = tokio::spawn(async move { (case.run)(&*factory).await });
        if course.await.is_err() {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "the store fails in: {failed:#?}");
}
