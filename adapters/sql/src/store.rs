//! The store as its owner sees it: made from settings, taken apart into what writes and what reads.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Location, SqlConfig};
use crate::database::Database;
use crate::error::SqlError;
use crate::projection::SqlProjection;
use crate::reads::SqlReads;

/// A SQL store. Nothing is opened before the projection runs or a question is asked.
#[derive(Clone, Debug)]
pub struct SqlStore {
    database: Arc<Database>,
    predictions_keep: Option<Duration>,
}

impl SqlStore {
    /// The store these settings mean.
    ///
    /// # Errors
    /// [`SqlError`], if the URL names no database that this version can use.
    pub fn new(config: SqlConfig) -> Result<Self, SqlError> {
        let location = Location::parse(&config.url, &config.directory)?;
        Ok(Self {
            database: Arc::new(Database::new(location, &config)),
            predictions_keep: config.predictions_keep,
        })
    }

    /// What fills the tables. Only one may run at a time.
    #[must_use]
    pub fn projection(&self) -> SqlProjection {
        SqlProjection::new(Arc::clone(&self.database), self.predictions_keep)
    }

    /// What answers from the tables.
    #[must_use]
    pub fn reads(&self) -> SqlReads {
        SqlReads::new(Arc::clone(&self.database))
    }

    /// Waits for questions under way and closes their connections; the projection's closes with its task.
    pub async fn close(&self) {
        self.database.close().await;
    }
}
