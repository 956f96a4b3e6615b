//! One read transaction, and the only place here that knows the driver: statements go in as text and arguments, rows come
//! out as columns by number.

use futures_util::TryStreamExt as _;
use modelog_engine::Timestamp;
use modelog_engine::event::{FieldProblem, Json};
use modelog_engine::names::EntityId;
use modelog_engine::read::ReadError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, Sqlite, Transaction};

use crate::database::Database;

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

/// A statement with its arguments. Its text is made of constants and numbers alone.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) text: String,
    arguments: Vec<Argument>,
}

#[derive(Clone, Debug)]
enum Argument {
    Int(i64),
    Text(String),
}

impl Statement {
    pub(super) fn new(parts: &[&str]) -> Self {
        Self {
            text: parts.join(" "),
            arguments: Vec::new(),
        }
    }

    /// The next argument, a number.
    pub(super) fn int(mut self, value: impl Into<i64>) -> Self {
        self.arguments.push(Argument::Int(value.into()));
        self
    }

    /// The next argument, a text.
    pub(super) fn text(mut self, value: impl Into<String>) -> Self {
        self.arguments.push(Argument::Text(value.into()));
        self
    }

    /// The next argument, a set of numbers for [`AMONG`].
    pub(super) fn ids(self, ids: impl IntoIterator<Item = EntityId>) -> Self {
        let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
        self.text(format!("[{}]", ids.join(",")))
    }
}

/// A condition: the value before it is in the set of numbers that is the next argument.
pub(super) const AMONG: &str = "IN (SELECT value FROM json_each(?))";

/// One commit of the projection, as long as it is looked at.
pub(super) struct Snapshot {
    transaction: Transaction<'static, Sqlite>,
}

impl Snapshot {
    /// Begins to look. While the database is replaced this waits for the new one.
    pub(super) async fn begin(database: &Database) -> Result<Self, Failure> {
        let begun = database.readers().await.begin().await;
        let transaction = match begun {
            // The connections were closed after we had been given them.
            Err(sqlx::Error::PoolClosed) => database.readers().await.begin().await?,
            begun => begun?,
        };
        Ok(Self { transaction })
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
        let Statement { text, arguments } = statement;
        let mut query = sqlx::query::<Sqlite>(AssertSqlSafe(text));
        for argument in arguments {
            query = bind(query, argument);
        }
        let mut rows = query.fetch(&mut *self.transaction);
        while let Some(row) = rows.try_next().await? {
            see(&Row(&row))?;
        }
        Ok(())
    }

    /// What `read` makes of every row.
    pub(super) async fn all<T>(
        &mut self,
        statement: Statement,
        mut read: impl FnMut(&Row<'_>) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let mut found = Vec::new();
        self.each(statement, |row| {
            found.push(read(row)?);
            Ok(())
        })
        .await?;
        Ok(found)
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

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

fn bind(query: Query<'_>, argument: Argument) -> Query<'_> {
    match argument {
        Argument::Int(value) => query.bind(value),
        Argument::Text(value) => query.bind(value),
    }
}

/// A row of an answer; columns are numbered from 0.
pub(super) struct Row<'a>(&'a SqliteRow);

impl<'a> Row<'a> {
    /// A number.
    pub(super) fn int(&self, column: usize) -> Result<i64, Failure> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn optional_int(&self, column: usize) -> Result<Option<i64>, Failure> {
        Ok(self.0.try_get(column)?)
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
        Ok(self.optional_int(column)?.map(|value| value != 0))
    }

    pub(super) fn real(&self, column: usize) -> Result<Option<f64>, Failure> {
        Ok(self.0.try_get(column)?)
    }

    /// A number of which a second column says whether it is not finite.
    pub(super) fn number(&self, column: usize, odd: usize) -> Result<Option<f64>, Failure> {
        match self.real(column)? {
            None => self.str(odd)?.map(odd_number).transpose(),
            value => Ok(value),
        }
    }

    pub(super) fn str(&self, column: usize) -> Result<Option<&'a str>, Failure> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn text(&self, column: usize) -> Result<String, Failure> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn optional_text(&self, column: usize) -> Result<Option<String>, Failure> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn bytes(&self, column: usize) -> Result<&'a [u8], Failure> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn time(&self, column: usize) -> Result<Timestamp, Failure> {
        self.int(column).map(Timestamp::from_micros)
    }

    pub(super) fn optional_time(&self, column: usize) -> Result<Option<Timestamp>, Failure> {
        Ok(self.optional_int(column)?.map(Timestamp::from_micros))
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
