//! Predictions and feedback: from the arrays of a batch to rows, without an allocation per row of our own.
//!
//! Only the fields that some event of a batch has are written. What a prediction's row holds already then stays by
//! itself, and short events cost little.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use modelog_engine::Offset;
use modelog_engine::batch::{LoggedBatch, Table as Events, non_finite};
use modelog_engine::event::Kind;
use modelog_engine::event::schema::{self, FieldType, column};
use modelog_engine::names::{EntityId, Versions};

use super::Batches;
use crate::bulk::{Conflict, Merge, Source, Table, Transaction};
use crate::error::DatabaseError;
use crate::value::{Sink, Value, finite};

/// Adds the predictions and feedback of the batches.
pub(super) async fn apply(
    batches: &Batches<'_>,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    for kind in [Kind::PredictionLogged, Kind::FeedbackLogged] {
        let mut waiting: Option<Together<'_>> = None;
        for (batch, events, first) in batches.tables(kind) {
            let facts = Facts::new(batches, batch, events, first);
            match &mut waiting {
                Some(together) if together.fit(&facts) => together.push(facts),
                _ => {
                    if let Some(together) = waiting.replace(Together::new(facts)) {
                        transaction.load(&together).await?;
                    }
                }
            }
        }
        if let Some(together) = waiting {
            transaction.load(&together).await?;
        }
    }
    Ok(())
}

/// Events of several batches that come with the same fields: many rows at a time cost less.
struct Together<'a> {
    parts: Vec<Facts<'a>>,
    /// The first row of each part.
    starts: Vec<usize>,
    rows: usize,
}

impl<'a> Together<'a> {
    fn new(facts: Facts<'a>) -> Self {
        Self {
            rows: facts.rows(),
            starts: vec![0],
            parts: vec![facts],
        }
    }

    fn fit(&self, facts: &Facts<'a>) -> bool {
        let columns = |facts: &Facts<'a>| facts.fields.iter().map(|field| field.column).collect();
        let first: Option<Vec<usize>> = self.parts.first().map(columns);
        first == Some(columns(facts))
    }

    fn push(&mut self, facts: Facts<'a>) {
        self.starts.push(self.rows);
        self.rows += facts.rows();
        self.parts.push(facts);
    }

    /// The part a row is in, and which of its rows it is.
    fn part(&self, row: usize) -> (&Facts<'a>, usize) {
        let part = self.starts.partition_point(|start| *start <= row) - 1;
        (&self.parts[part], row - self.starts[part])
    }
}

impl Source for Together<'_> {
    fn table(&self) -> &Table {
        &self.parts[0].table
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn offset(&self, row: usize) -> Offset {
        let (facts, row) = self.part(row);
        facts.offset(row)
    }

    fn mark(&self, row: usize) -> u64 {
        let (facts, row) = self.part(row);
        facts.mark(row)
    }

    fn values(&self, row: usize, values: &mut dyn Sink) {
        let (facts, row) = self.part(row);
        facts.values(row, values);
    }
}

/// Events of a batch on their way into the table of their kind.
struct Facts<'a> {
    table: Table,
    batch: &'a LoggedBatch,
    events: &'a Events,
    /// The first event that was not applied.
    first: usize,
    owners: Vec<(Option<EntityId>, Option<EntityId>)>,
    fields: Vec<Field>,
}

/// A field that goes into the column of its name.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    ty: FieldType,
    column: usize,
}

/// The fields that have columns of their own, apart from what identifies the row.
fn fields(kind: Kind) -> impl Iterator<Item = Field> {
    schema::values(kind).map(|(column, field)| Field {
        name: field.name,
        ty: field.ty,
        column,
    })
}

impl<'a> Facts<'a> {
    fn new(
        batches: &Batches<'a>,
        batch: &'a LoggedBatch,
        events: &'a Events,
        first: usize,
    ) -> Self {
        const PREDICTION: (usize, usize) = (
            column(Kind::PredictionLogged, "model"),
            column(Kind::PredictionLogged, "version"),
        );
        const FEEDBACK: (usize, usize) = (
            column(Kind::FeedbackLogged, "model"),
            column(Kind::FeedbackLogged, "version"),
        );
        let predictions = events.kind() == Kind::PredictionLogged;
        let (model, version) = if predictions { PREDICTION } else { FEEDBACK };
        let (models, names) = (events.text(model), events.text(version));
        let mut versions = Versions::new(batches.names);
        let owners = (first..events.rows())
            .map(|row| {
                models
                    .get(row)
                    .map_or((None, None), |model| versions.get(model, names.get(row)))
            })
            .collect();
        let fields: Vec<_> = fields(events.kind())
            .filter(|field| events.columns()[field.column].is_some())
            .collect();
        Self {
            table: if predictions {
                predictions_table(&fields)
            } else {
                feedback_table(&fields)
            },
            batch,
            events,
            first,
            owners,
            fields,
        }
    }

    /// The prediction an event is about; none for one that is known by its offset.
    fn prediction_id(&self, event: usize) -> Option<&str> {
        const PREDICTION: usize = column(Kind::PredictionLogged, "prediction_id");
        const FEEDBACK: usize = column(Kind::FeedbackLogged, "prediction_id");
        if self.events.kind() == Kind::FeedbackLogged {
            return self.events.text(FEEDBACK).get(event);
        }
        let given = self.events.text(PREDICTION).get(event);
        given.or_else(|| self.events.text(schema::ID).get(event))
    }

    fn push_identity(&self, event: usize, values: &mut dyn Sink) {
        const PART: usize = column(Kind::PredictionLogged, "part");
        let offset = self.offset(event - self.first);
        let (model, version) = self.owners[event - self.first];
        values.push(&offset.into());
        values.push(&model.into());
        values.push(&version.into());
        let id = self.prediction_id(event);
        if self.events.kind() == Kind::FeedbackLogged {
            values.push(&id.into());
            return;
        }
        match id {
            Some(id) => values.push(&id.into()),
            None => {
                let mut id = String::new();
                write!(id, "{offset}").expect("a string takes all text");
                values.push(&Value::Text(id.into()));
            }
        }
        let complete = self.events.text(PART).get(event) != Some("request");
        values.push(&complete.into());
    }

    fn push_field(&self, field: Field, event: usize, values: &mut dyn Sink) {
        let value = match field.ty {
            FieldType::Int => self.events.ints(field.column).get(event).into(),
            FieldType::Float => {
                let value = self.events.floats(field.column).get(event);
                value.map_or(Value::Null, finite)
            }
            FieldType::Bool => self.events.booleans(field.column).get(event).into(),
            _ => self.events.text(field.column).get(event).into(),
        };
        values.push(&value);
    }

    /// The names of numbers that are not finite, as a JSON object; null if there are none.
    fn non_finite(&self, event: usize) -> Value<'static> {
        let mut named = String::new();
        for field in self
            .fields
            .iter()
            .filter(|field| field.ty == FieldType::Float)
        {
            let value = self.events.floats(field.column).get(event);
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                let separator = if named.is_empty() { '{' } else { ',' };
                write!(
                    named,
                    "{separator}\"{}\":\"{}\"",
                    field.name,
                    non_finite(value)
                )
                .expect("a string takes all text");
            }
        }
        if named.is_empty() {
            return Value::Null;
        }
        named.push('}');
        Value::Text(named.into())
    }
}

/// The columns every row has, in the order of `push_identity` and what follows it.
fn predictions_table(fields: &[Field]) -> Table {
    let mut columns = vec![
        ("log_offset", Merge::First),
        ("model_id", Merge::First),
        ("version_id", Merge::LastComplete),
        ("prediction_id", Merge::First),
        ("complete", Merge::Greatest),
        ("time", Merge::First),
        ("append_time", Merge::First),
    ];
    columns.extend(fields.iter().map(|field| {
        let number = field.ty == FieldType::Float;
        (
            field.name,
            if number {
                Merge::LastNumber
            } else {
                Merge::LastGiven
            },
        )
    }));
    columns.extend(odd_numbers(fields));
    Table {
        name: "predictions",
        key: "prediction_id,model_id",
        conflict: Conflict::Merge,
        expect_new: true,
        columns,
    }
}

fn feedback_table(fields: &[Field]) -> Table {
    let mut columns = vec![
        ("log_offset", Merge::First),
        ("model_id", Merge::First),
        ("version_id", Merge::First),
        ("prediction_id", Merge::First),
        ("time", Merge::First),
        ("append_time", Merge::First),
    ];
    columns.extend(fields.iter().map(|field| (field.name, Merge::First)));
    columns.extend(odd_numbers(fields));
    Table {
        name: "feedback",
        key: "log_offset",
        conflict: Conflict::Keep,
        expect_new: true,
        columns,
    }
}

/// The column for numbers that are not finite, where there are numbers.
fn odd_numbers(fields: &[Field]) -> Option<(&'static str, Merge)> {
    fields
        .iter()
        .any(|field| field.ty == FieldType::Float)
        .then_some(("non_finite", Merge::NonFinite))
}

impl Facts<'_> {
    fn rows(&self) -> usize {
        self.owners.len()
    }

    fn offset(&self, row: usize) -> Offset {
        let ord = self.events.ord(self.first + row);
        self.batch.first_offset.advance(ord.into())
    }

    fn mark(&self, row: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.owners[row].0.hash(&mut hasher);
        match self.prediction_id(self.first + row) {
            Some(id) => id.hash(&mut hasher),
            // Somebody may have given it as an id.
            None => self.offset(row).to_string().hash(&mut hasher),
        }
        hasher.finish()
    }

    fn values(&self, row: usize, values: &mut dyn Sink) {
        let event = self.first + row;
        self.push_identity(event, values);
        let time = self.events.times(schema::TIME).get(event);
        values.push(&time.unwrap_or(self.batch.append_time).into());
        values.push(&self.batch.append_time.into());
        for field in &self.fields {
            self.push_field(*field, event, values);
        }
        if odd_numbers(&self.fields).is_some() {
            values.push(&self.non_finite(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_column() {
        for (kind, table) in [
            (Kind::PredictionLogged, "CREATE TABLE predictions"),
            (Kind::FeedbackLogged, "CREATE TABLE feedback"),
        ] {
            let text = crate::schema::SQLITE.split(table).nth(1).unwrap();
            let text = text.split(") STRICT").next().unwrap();
            for field in fields(kind) {
                assert!(
                    text.contains(&format!("\n    {} ", field.name)),
                    "{}",
                    field.name
                );
            }
        }
    }
}
