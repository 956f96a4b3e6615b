//! Rows into columns: where every event enters, whatever format it came in.
//!
//! [`EventBatchBuilder::row`] opens a row, its setters check each value against the field ([`crate::event::schema`])
//! and write it straight into the column; [`RowWriter::finish`] checks what concerns the whole event. A row that is
//! dropped instead leaves no trace. Nothing is allocated per event.
//!
//! # Invariants
//! B1. Every finished row satisfies its kind's table: required fields are there, values have been checked.
//! B2. `ord` of finished rows runs from 0 without gaps, over all kinds together.
//! B3. No column is longer than its kind's count of rows, save inside an open row.

use serde_json::value::RawValue;

use super::EventBatch;
use super::column::Column;
use super::identity::{Identity, RowBytes, row_identity};
use super::table::Table;
use crate::Timestamp;
use crate::event::schema::{self, FieldType};
use crate::event::{
    Event, Fact, FieldError, FieldProblem, Json, Kind, Slot, check_text, check_together, json,
};
use crate::log::TextRows;
use crate::origin::Origin;

/// Gathers events of any kinds, in order, as columns.
#[derive(Debug, Default)]
pub struct EventBatchBuilder {
    kinds: Vec<KindRows>,
    rows: u32,
    bytes: usize,
    origins: Vec<Origin>,
    /// Which of `kinds` holds a kind, by its number; plus one, 0 for none.
    place: [u8; Kind::ALL.len()],
}

/// The rows of one kind.
#[derive(Debug)]
pub(crate) struct KindRows {
    kind: Kind,
    rows: usize,
    ords: Vec<u32>,
    columns: Vec<Option<Column>>,
    identities: Vec<Identity>,
}

impl TextRows for KindRows {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn text(&self, column: usize, row: usize) -> Option<&str> {
        self.columns[column].as_ref()?.text(row)
    }

    fn time(&self, row: usize) -> Option<Timestamp> {
        self.columns[schema::TIME].as_ref()?.time(row)
    }
}

impl EventBatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many events it holds.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Whether it holds no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About how many bytes its values take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Says where the events came from, and with which positions.
    pub fn add_origin(&mut self, origin: Origin) {
        self.origins.push(origin);
    }

    /// Opens a row.
    pub fn row(&mut self, kind: Kind) -> RowWriter<'_> {
        let number = usize::from(kind.number());
        if self.place[number] == 0 {
            let columns = std::iter::repeat_with(|| None)
                .take(schema::column_count(kind))
                .collect();
            self.kinds.push(KindRows {
                kind,
                rows: 0,
                ords: Vec::new(),
                columns,
                identities: Vec::new(),
            });
            self.place[number] = self.kinds.len() as u8;
        }
        let rows = &mut self.kinds[usize::from(self.place[number]) - 1];
        RowWriter {
            rows,
            total_rows: &mut self.rows,
            total_bytes: &mut self.bytes,
            stated: 0,
            filled: 0,
            bytes: 0,
        }
    }

    /// Appends an event.
    ///
    /// # Errors
    /// The first field whose value is refused; the batch is as before.
    pub fn push(&mut self, event: &Event) -> Result<(), FieldError> {
        let mut row = self.row(event.kind());
        if let Some(id) = &event.id {
            row.text(schema::ID, id)?;
        }
        if let Some(source) = &event.source {
            row.text(schema::SOURCE, source)?;
        }
        if let Some(time) = event.time {
            row.time(time)?;
        }
        if let Some(extra) = &event.extra {
            row.checked_json(schema::EXTRA, extra.as_str())?;
        }
        let mut column = schema::COMMON.len();
        let mut outcome = Ok(());
        event.fact.clone().each(|slot| {
            if outcome.is_ok() {
                outcome = row.slot(column, slot);
            }
            column += 1;
        });
        outcome?;
        row.finish()
    }

    /// Ends the batch.
    #[must_use]
    pub fn finish(self) -> EventBatch {
        EventBatch::from_builder(self)
    }

    /// Appends all rows of another batch, after those already here.
    pub(crate) fn extend(&mut self, other: &Self) {
        let base = self.rows;
        for theirs in &other.kinds {
            drop(self.row(theirs.kind));
            let ours =
                &mut self.kinds[usize::from(self.place[usize::from(theirs.kind.number())]) - 1];
            for (ours_column, their_column) in ours.columns.iter_mut().zip(&theirs.columns) {
                let Some(their_column) = their_column else {
                    continue;
                };
                let column =
                    ours_column.get_or_insert_with(|| Column::like(their_column, ours.rows));
                column.pad(ours.rows);
                column.extend(their_column);
            }
            ours.ords.extend(theirs.ords.iter().map(|ord| base + ord));
            ours.identities.extend(
                theirs
                    .identities
                    .iter()
                    .map(|identity| identity.moved_by(base)),
            );
            ours.rows += theirs.rows;
        }
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.origins
            .extend(other.origins.iter().map(|origin| origin.moved_by(base)));
    }

    pub(super) fn into_parts(self) -> (Vec<Table>, Vec<Identity>, Vec<Origin>) {
        let single = self.kinds.iter().filter(|rows| rows.rows > 0).count() == 1;
        let mut tables = Vec::with_capacity(self.kinds.len());
        let mut identities = Vec::new();
        for rows in self.kinds {
            if rows.rows == 0 {
                continue;
            }
            if identities.is_empty() {
                identities = rows.identities;
            } else {
                identities.extend(rows.identities);
            }
            let columns = rows
                .columns
                .into_iter()
                .map(|column| Some(column?.into_array(rows.rows)))
                .collect();
            let ords = if single { None } else { Some(rows.ords) };
            tables.push(Table::from_columns(rows.kind, rows.rows, ords, columns));
        }
        tables.sort_by_key(Table::kind);
        identities.sort_by_key(|identity| identity.ord);
        (tables, identities, self.origins)
    }

    pub(crate) fn origins(&self) -> &[Origin] {
        &self.origins
    }

    pub(crate) fn origins_mut(&mut self) -> &mut Vec<Origin> {
        &mut self.origins
    }

    pub(crate) fn kinds(&self) -> &[KindRows] {
        &self.kinds
    }

    /// How many events of a kind there are.
    pub(crate) fn rows_of(&self, kind: Kind) -> usize {
        self.kinds
            .iter()
            .filter(|rows| rows.kind == kind)
            .map(|rows| rows.rows)
            .sum()
    }

    /// The kind of the event at a place.
    pub(crate) fn kind_of(&self, ord: u32) -> Option<Kind> {
        self.kinds
            .iter()
            .find(|rows| rows.ords.binary_search(&ord).is_ok())
            .map(|rows| rows.kind)
    }

    /// Identities of all rows that have an `id`, by kind.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.kinds.iter().flat_map(|rows| &rows.identities)
    }
}

struct BuiltRow<'a> {
    columns: &'a [Option<Column>],
    row: usize,
}

impl RowBytes for BuiltRow<'_> {
    fn bytes<'s>(&'s self, column: usize, scratch: &'s mut [u8; 8]) -> Option<&'s [u8]> {
        self.columns[column]
            .as_ref()?
            .value_bytes(self.row, scratch)
    }
}

/// One event being written. Dropped without [`finish`](Self::finish), it leaves no trace.
#[derive(Debug)]
pub struct RowWriter<'a> {
    rows: &'a mut KindRows,
    total_rows: &'a mut u32,
    total_bytes: &'a mut usize,
    /// Columns mentioned, nulls included.
    stated: u64,
    /// Columns that have a value.
    filled: u64,
    bytes: usize,
}

impl RowWriter<'_> {
    /// The kind of the event.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.rows.kind
    }

    /// Whether a column has been given, be it null.
    #[must_use]
    pub fn is_stated(&self, column: usize) -> bool {
        self.stated & (1 << column) != 0
    }

    /// Text for a field of text, a name, a word or a reference.
    ///
    /// # Errors
    /// What the field's type does not allow.
    #[inline]
    pub fn text(&mut self, column: usize, value: &str) -> Result<(), FieldError> {
        let field = schema::field(self.rows.kind, column);
        match field.ty {
            FieldType::Text | FieldType::Name(_) | FieldType::Word(_) | FieldType::Entity => {}
            _ => return Err(self.wrong_type(column, "a string")),
        }
        check_text(field, value).map_err(|problem| self.error(column, problem))?;
        self.open(column, field.ty)?.push_bytes(value.as_bytes());
        self.bytes += value.len();
        Ok(())
    }

    /// JSON for a field of JSON, kept byte for byte.
    ///
    /// # Errors
    /// What the field's type does not allow, or an unpaired surrogate.
    #[inline]
    pub fn json(&mut self, column: usize, value: &RawValue) -> Result<(), FieldError> {
        json::check_surrogates(value.get()).map_err(|problem| self.error(column, problem))?;
        self.checked_json(column, value.get())
    }

    /// The same for text whose JSON, surrogates included, the caller has checked while reading it. The log takes it as
    /// sound: text that is not would reach every reader.
    ///
    /// # Errors
    /// What the field's type does not allow.
    #[inline]
    pub fn checked_json(&mut self, column: usize, value: &str) -> Result<(), FieldError> {
        let field = schema::field(self.rows.kind, column);
        if !matches!(field.ty, FieldType::Json | FieldType::JsonObject) {
            return Err(self.wrong_type(column, crate::event::json_type(value)));
        }
        check_text(field, value).map_err(|problem| self.error(column, problem))?;
        self.open(column, field.ty)?.push_bytes(value.as_bytes());
        self.bytes += value.len();
        Ok(())
    }

    /// An integer; for a field of numbers it is converted, for a time it counts microseconds.
    ///
    /// # Errors
    /// What the field's type does not allow.
    #[inline]
    pub fn int(&mut self, column: usize, value: i64) -> Result<(), FieldError> {
        let ty = schema::field(self.rows.kind, column).ty;
        match ty {
            FieldType::Int => self.open(column, ty)?.push_int(value),
            FieldType::Float => self.open(column, ty)?.push_float(value as f64),
            FieldType::Time => {
                let time = Timestamp::from_producer_micros(value)
                    .map_err(|problem| self.error(column, FieldProblem::Time(problem)))?;
                self.open(column, ty)?.push_int(time.micros());
            }
            _ => return Err(self.wrong_type(column, "a number")),
        }
        self.bytes += 8;
        Ok(())
    }

    /// A number, NaN and infinities included.
    ///
    /// # Errors
    /// If the field is not one of numbers, or is one of integers and the value is not whole.
    #[inline]
    pub fn float(&mut self, column: usize, value: f64) -> Result<(), FieldError> {
        let ty = schema::field(self.rows.kind, column).ty;
        match ty {
            FieldType::Float => self.open(column, ty)?.push_float(value),
            // Up to 2^53 a float64 says exactly which integer is meant.
            FieldType::Int if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
                self.open(column, ty)?.push_int(value as i64);
            }
            FieldType::Int => {
                return Err(self.wrong_type(column, "a fraction or a number beyond 2^53"));
            }
            _ => return Err(self.wrong_type(column, "a number")),
        }
        self.bytes += 8;
        Ok(())
    }

    /// A boolean.
    ///
    /// # Errors
    /// If the field is not one of booleans.
    pub fn boolean(&mut self, column: usize, value: bool) -> Result<(), FieldError> {
        let ty = schema::field(self.rows.kind, column).ty;
        if ty != FieldType::Bool {
            return Err(self.wrong_type(column, "a boolean"));
        }
        self.open(column, ty)?.push_bool(value);
        self.bytes += 1;
        Ok(())
    }

    /// Raw bytes.
    ///
    /// # Errors
    /// If the field is not one of bytes.
    pub fn bytes(&mut self, column: usize, value: &[u8]) -> Result<(), FieldError> {
        let ty = schema::field(self.rows.kind, column).ty;
        if ty != FieldType::Bytes {
            return Err(self.wrong_type(column, "bytes"));
        }
        self.open(column, ty)?.push_bytes(value);
        self.bytes += value.len();
        Ok(())
    }

    /// When the event happened.
    ///
    /// # Errors
    /// If a time was given before, or lies outside the legal range.
    pub fn time(&mut self, value: Timestamp) -> Result<(), FieldError> {
        if !(Timestamp::MIN..=Timestamp::MAX).contains(&value) {
            return Err(self.error(
                schema::TIME,
                FieldProblem::Time(crate::offset::TimeError::OutOfRange),
            ));
        }
        self.open(schema::TIME, FieldType::Time)?
            .push_int(value.micros());
        self.bytes += 8;
        Ok(())
    }

    /// An explicit null: the same as leaving the field out, save where a field must be stated.
    ///
    /// # Errors
    /// If the field was given before.
    pub fn null(&mut self, column: usize) -> Result<(), FieldError> {
        self.state(column)
    }

    /// Ends the event.
    ///
    /// # Errors
    /// If a required field is missing, or fields do not go together. The row is gone then.
    #[inline]
    pub fn finish(mut self) -> Result<(), FieldError> {
        let kind = self.rows.kind;
        let needed = schema::needed(kind);
        let missing = needed.required & !self.filled | needed.stated & !self.stated;
        if missing != 0 {
            let column = missing.trailing_zeros() as usize;
            return Err(self.error(column, FieldProblem::Missing));
        }
        let filled = self.filled;
        check_together(kind, |column| filled & (1 << column) != 0)?;
        let ord = *self.total_rows;
        if filled & (1 << schema::ID) != 0 {
            let row = self.rows.rows;
            let identity = row_identity(
                kind,
                &BuiltRow {
                    columns: &self.rows.columns,
                    row,
                },
            );
            self.rows.identities.push(Identity { ord, ..identity });
        }
        self.rows.ords.push(ord);
        self.rows.rows += 1;
        *self.total_rows += 1;
        *self.total_bytes += self.bytes;
        self.filled = 0;
        Ok(())
    }

    /// The error of a field.
    #[cold]
    #[must_use]
    pub fn error(&self, column: usize, problem: FieldProblem) -> FieldError {
        FieldError::new(schema::field(self.rows.kind, column).name, problem)
    }

    /// The error of a value whose type the field does not take.
    #[cold]
    #[must_use]
    pub fn wrong_type(&self, column: usize, found: &'static str) -> FieldError {
        let expected = match schema::field(self.rows.kind, column).ty {
            FieldType::Text | FieldType::Name(_) | FieldType::Word(_) => "a string",
            FieldType::Entity => "a reference",
            FieldType::Json => "JSON",
            FieldType::JsonObject => "an object",
            FieldType::Int => "an integer",
            FieldType::Float => "a number",
            FieldType::Bool => "a boolean",
            FieldType::Time => "an RFC 3339 time or an integer of microseconds",
            FieldType::Bytes => "base64",
            FieldType::Ord => "left out",
        };
        self.error(column, FieldProblem::WrongType { expected, found })
    }

    #[inline]
    fn state(&mut self, column: usize) -> Result<(), FieldError> {
        if self.is_stated(column) {
            return Err(self.error(column, FieldProblem::Repeated));
        }
        self.stated |= 1 << column;
        Ok(())
    }

    #[inline]
    fn open(&mut self, column: usize, ty: FieldType) -> Result<&mut Column, FieldError> {
        self.state(column)?;
        self.filled |= 1 << column;
        let rows = self.rows.rows;
        let open = self.rows.columns[column].get_or_insert_with(|| Column::new(ty, rows));
        open.pad(rows);
        Ok(open)
    }

    fn slot(&mut self, column: usize, slot: Slot<'_>) -> Result<(), FieldError> {
        match slot {
            Slot::Text(value) => self.text(column, value),
            Slot::OptionalText(Some(value)) => self.text(column, value),
            Slot::Json(value) | Slot::OptionalJson(Some(value)) => {
                self.checked_json(column, Json::as_str(value))
            }
            Slot::Int(value) | Slot::OptionalInt(Some(value)) => self.int(column, *value),
            Slot::Float(value) | Slot::OptionalFloat(Some(value)) => self.float(column, *value),
            Slot::OptionalBool(Some(value)) => self.boolean(column, *value),
            Slot::OptionalBytes(Some(value)) => self.bytes(column, value),
            _ => self.null(column),
        }
    }
}

impl Drop for RowWriter<'_> {
    fn drop(&mut self) {
        if self.filled != 0 {
            let rows = self.rows.rows;
            for column in self.rows.columns.iter_mut().flatten() {
                column.truncate(rows);
            }
        }
    }
}

/// Reads a row back as a fact.
pub(super) fn fill(kind: Kind, mut value: impl FnMut(usize, Slot<'_>)) -> Fact {
    let mut fact = Fact::empty(kind);
    let mut column = schema::COMMON.len();
    fact.each(|slot| {
        value(column, slot);
        column += 1;
    });
    fact
}
