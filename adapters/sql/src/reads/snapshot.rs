//! One read transaction, with what goes wrong in an answer.

use modelog_engine::Timestamp;
use modelog_engine::event::{FieldProblem, Json};
use modelog_engine::names::EntityId;
use modelog_engine::read::ReadError;

use crate::connection::{self, Transaction};
use crate::database::Database;
use crate::dialect::Dialect;

pub(super) use crate::connection::Statement;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Refused(#[from] ReadError),
    #[error("the database does not answer")]
    Database(#[from] sqlx::Error),
    /// The tables hold what nothing of ours writes.
    #[error("the database holds what Modelog does not write: {what}; rebuild it from the log")]
    Content { what: String },
}

impl Failure {
    pub(super) fn content(what: impl Into<String>) -> Self {
        Self::Content { what: what.into() }
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            other => Self::Unavailable {
                store: "sql",
                source: Box::new(other),
            },
        }
    }
}

/// One commit of the projection, as long as it is looked at.
pub(super) struct Snapshot {
    transaction: Transaction<'static>,
}

impl Snapshot {
    /// Begins to look. While the database is replaced this waits for the new one.
    pub(super) async fn begin(database: &Database) -> Result<Self, Failure> {
        Ok(Self {
            transaction: database.look().await?,
        })
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.transaction.dialect()
    }

    /// Ends the look, and hands on what was seen.
    pub(super) async fn end<T>(self, seen: T) -> Result<T, ReadError> {
        self.transaction.rollback().await.map_err(Failure::from)?;
        Ok(seen)
    }

    /// Shows every row to `see`, one at a time.
    pub(super) async fn each(
        &mut self,
        statement: Statement,
        mut see: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let see = |row: &connection::Row<'_>| see(&Row(row));
        self.transaction.each(statement, see).await
    }

    /// What `read` makes of every row.
    pub(super) async fn all<T>(
        &mut self,
        statement: Statement,
        mut read: impl FnMut(&Row<'_>) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let read = |row: &connection::Row<'_>| read(&Row(row));
        self.transaction.all(statement, read).await
    }

    /// What `read` makes of the only row, if there is one.
    pub(super) async fn one<T>(
        &mut self,
        statement: Statement,
        read: impl FnMut(&Row<'_>) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        Ok(self.all(statement, read).await?.pop())
    }
}

/// A set of numbers, as an argument for [`Dialect::among`].
pub(super) fn ids(ids: impl IntoIterator<Item = EntityId>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    format!("[{}]", ids.join(","))
}

/// The arguments of [`Dialect::behind`] for a place in a list that is sorted by time.
pub(super) fn after_place(
    dialect: Dialect,
    statement: Statement,
    time: i64,
    number: i64,
) -> Statement {
    let statement = statement.time(time);
    match dialect {
        Dialect::MySql => statement.time(time),
        _ => statement,
    }
    .int(number)
}

/// A row of an answer, read as what we write; columns are numbered from 0.
pub(super) struct Row<'a>(&'a connection::Row<'a>);

impl<'a> Row<'a> {
    /// A number.
    pub(super) fn int(&self, column: usize) -> Result<i64, Failure> {
        Ok(self.0.int(column)?)
    }

    pub(super) fn optional_int(&self, column: usize) -> Result<Option<i64>, Failure> {
        Ok(self.0.optional_int(column)?)
    }

    /// A number that is never negative.
    pub(super) fn count(&self, column: usize) -> Result<u64, Failure> {
        let value = self.int(column)?;
        u64::try_from(value).map_err(|_| Failure::content(format!("the count {value}")))
    }

    /// The number of an entity.
    pub(super) fn id(&self, column: usize) -> Result<EntityId, Failure> {
        let value = self.int(column)?;
        EntityId::try_from(value).map_err(|_| Failure::content(format!("the number {value}")))
    }

    pub(super) fn boolean(&self, column: usize) -> Result<Option<bool>, Failure> {
        Ok(self.0.boolean(column)?)
    }

    pub(super) fn real(&self, column: usize) -> Result<Option<f64>, Failure> {
        Ok(self.0.real(column)?)
    }

    /// A number of which a second column says whether it is not finite.
    pub(super) fn number(&self, column: usize, odd: usize) -> Result<Option<f64>, Failure> {
        match self.real(column)? {
            None => self.str(odd)?.map(odd_number).transpose(),
            value => Ok(value),
        }
    }

    pub(super) fn str(&self, column: usize) -> Result<Option<&'a str>, Failure> {
        Ok(self.0.str(column)?)
    }

    pub(super) fn text(&self, column: usize) -> Result<String, Failure> {
        let text = self.optional_text(column)?;
        text.ok_or_else(|| Failure::content("a text that is null"))
    }

    pub(super) fn optional_text(&self, column: usize) -> Result<Option<String>, Failure> {
        Ok(self.str(column)?.map(Into::into))
    }

    pub(super) fn bytes(&self, column: usize) -> Result<&'a [u8], Failure> {
        Ok(self.0.bytes(column)?)
    }

    pub(super) fn time(&self, column: usize) -> Result<Timestamp, Failure> {
        Ok(Timestamp::from_micros(self.0.time(column)?))
    }

    pub(super) fn optional_time(&self, column: usize) -> Result<Option<Timestamp>, Failure> {
        Ok(self.0.optional_time(column)?.map(Timestamp::from_micros))
    }

    /// JSON, byte for byte.
    pub(super) fn json(&self, column: usize) -> Result<Option<Json>, Failure> {
        let broken = |problem: FieldProblem| Failure::content(format!("JSON that {problem}"));
        self.str(column)?
            .map(|text| Json::parse(text).map_err(broken))
            .transpose()
    }
}

/// The number that a word stands for.
pub(super) fn odd_number(word: &str) -> Result<f64, Failure> {
    match word {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        _ => Err(Failure::content(format!("the number {word:?}"))),
    }
}
