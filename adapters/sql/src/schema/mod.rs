//! The tables: what they hold and how they are meant to be read. The text is one file per dialect.
//!
//! - **Entities** (`models`, `model_versions`, `datasets`, `experiments`, `runs`) have the engine's numbers as `id` and
//!   are there as placeholders from the moment they are named. `name` is the natural key, compared byte by byte.
//!   `created_at` (of a run: `started_at`) is the time of the first event that created it, null until then;
//!   `deleted_at` is set while it is deleted. `log_offset` is the last event that changed the row, null for a
//!   placeholder. A run's `has_started` says whether a `RunStarted` was logged, which may come after its end.
//! - **`tags`, `run_params`** hold one value per key, as JSON text. They came in the order of `(log_offset, place)`.
//!   A null tag removes the row; a parameter may be null.
//! - **`artifacts`** are identified by owner and URI; 0 stands for no run or no version. `run_datasets` holds each
//!   (run, dataset, version, role) once. Both list in the order of `log_offset`, the first event about the row.
//! - **`metric_latest`** is a series in short, and gives it its number; `owner_kind` is `run` or `version`. The run owns
//!   a point that names both. `metrics` holds its points; their order is (step, time, log_offset). A number that is not
//!   finite is null, and `non_finite` says which: `NaN`, `Infinity` or `-Infinity`. `value_key` is the value's bits: it
//!   makes the point's identity (series, step, time, value) a key.
//! - **`predictions`** have their place (`log_offset`, `time`, `append_time`) from the first event about them, so a
//!   prediction never moves in a list that is being paged; of other fields, the last that was given counts.
//!   `complete` says whether more than its request was logged. Numbers that are not finite are null, and `non_finite`
//!   is a JSON object that names them: `{"confidence":"NaN"}`.
//! - **`feedback`** keeps every answer. That of a prediction is the last by (time, log_offset) of those with its
//!   `prediction_id` and its model or none. `correct` is as given: where it is null, the classes are compared on
//!   reading, since either may change later.
//! - **`statistics`** is what the engine's fold had counted at `statistics_totals.as_of_offset`, for every version alike.
//!   That may be ahead of the checkpoint while the store catches up, and is the same once it has. `state` is
//!   [`VersionStatistics::encode`](modelog_engine::stats::VersionStatistics::encode); the other columns are read off it.
//! - **`rejected_rows`** are rows that the database refused, with its reason.
//!
//! Times are microseconds since 1970 in UTC on SQLite, elsewhere of the type for times with microseconds, in UTC. JSON is
//! kept byte for byte: `TEXT`, on PostgreSQL `json`. There are no foreign keys: facts arrive in any order.

use crate::error::{DatabaseError, Place};

/// The version of the tables' shape; a store of a newer one is not touched.
pub(crate) const VERSION: i64 = 1;
/// The comment on `schema_version` that makes tables on a server ours.
pub(crate) const MARK: &str = "Modelog";

/// The tables on SQLite.
pub(crate) const SQLITE: &str = include_str!("sqlite.sql");
/// The tables on PostgreSQL.
pub(crate) const POSTGRES: &str = include_str!("postgres.sql");
/// The tables on MySQL, but for the collation.
pub(crate) const MYSQL: &str = include_str!("mysql.sql");

/// The tables and views that a text makes.
pub(crate) fn tables(text: &str) -> impl Iterator<Item = &str> {
    named(text, "CREATE TABLE ").chain(named(text, "CREATE VIEW "))
}

/// The names behind a beginning of a line.
pub(crate) fn named<'a>(text: &'a str, beginning: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let named = line.strip_prefix(beginning)?;
        named.split([' ', '(']).next()
    })
}

/// Fails unless a version that was found, if any, is ours.
pub(crate) fn check_version(found: Option<i64>, place: &Place) -> Result<(), DatabaseError> {
    match found {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => Err(DatabaseError::TooNew {
            place: place.clone(),
            found,
            known: VERSION,
        }),
        _ => Err(DatabaseError::Incomplete {
            place: place.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_in_the_text() {
        for text in [SQLITE, POSTGRES, MYSQL] {
            let names: Vec<_> = tables(text).collect();
            for name in [
                "schema_version",
                "checkpoint",
                "predictions",
                "metric_latest",
                "prediction_details",
            ] {
                assert!(names.contains(&name), "{name}");
            }
            assert_eq!(
                names.len(),
                text.matches("CREATE TABLE").count() + text.matches("CREATE VIEW").count()
            );
        }
    }

    /// The columns of a table, but for the digests that stand in for long keys.
    fn columns<'a>(text: &'a str, table: &str) -> Vec<&'a str> {
        let start = format!("CREATE TABLE {table} (\n");
        let body = text.split(&start).nth(1).unwrap();
        let lines = body.lines().take_while(|line| !line.starts_with(')'));
        lines
            .filter_map(|line| line.strip_prefix("    ")?.split(' ').next())
            .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_lowercase() || c == '_'))
            .filter(|name| *name != "key_digest")
            .collect()
    }

    #[test]
    fn the_tables_are_the_same_everywhere() {
        for other in [POSTGRES, MYSQL] {
            assert!(tables(SQLITE).eq(tables(other)));
            for table in named(SQLITE, "CREATE TABLE ") {
                assert_eq!(columns(SQLITE, table), columns(other, table), "{table}");
            }
        }
    }
}
