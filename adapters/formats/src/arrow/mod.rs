//! Arrow IPC streams of events of one kind.
//!
//! ```text
//! stream: messages, checked ─▶ types: what can become a field ─▶ column: widened or encoded ─▶ Table
//!                                                                     └─ some value is wrong ─▶ row by row
//! ```
//!
//! Columns are taken whole. Only when the engine, or a column, finds something wrong with a value are the rows read one
//! by one, to tell all that is wrong, or to record the bad rows and keep the others.
//!
//! Columns are named as fields, in any order; `type` may be there if every row says the same. Text in a column for a
//! field of JSON is JSON; everything else becomes JSON. Columns the kind does not have go to `extra`, nulls left out.

mod alike;
mod column;
mod json;
mod stream;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StringArray};
use modelog_engine::batch::{EventBatch, EventBatchBuilder, RowWriter, Table};
use modelog_engine::event::schema::{self, FieldType};
use modelog_engine::event::{FieldError, Kind, VALUE_BYTES_MAX};

use crate::error::{Code, DecodeErrors, Fault, Faulty, LocatedError, OUTSIDE, shown};
use crate::event::{EventReader, check_size};
use crate::fields::{Form, Meaning, look_up};
use crate::gather::{Gather, Sink as _, batch_too_large};
use crate::scan::Scanner;
use crate::{Decoded, Limits, Options};

use alike::Alike;
use column::{Source, Unfit, json_texts};
use stream::{Arrays, Stream};

/// Reads a stream.
pub(crate) fn decode(bytes: &[u8], options: &Options) -> Result<Decoded, DecodeErrors> {
    let mut gather = Gather::new(options);
    if bytes.is_empty() {
        return gather.finish(BTreeMap::new());
    }
    if bytes.len() > Limits::BATCH_BYTES_MAX {
        gather.refuse(batch_too_large(0, Limits::BATCH_BYTES_MAX));
        return gather.finish(BTreeMap::new());
    }
    let mut events = Events::new(options);
    let end = events.read(bytes);
    if end.is_ok()
        && let Some(table) = events.table(&options.limits)
    {
        return Ok(Decoded {
            batch: EventBatch::from_table(table),
            unknown_fields: events.unknown_fields,
            rejected: Vec::new(),
        });
    }
    let room = events.rows(&mut gather);
    if room && let Err(fault) = end {
        let (code, at) = (fault.code, fault.at.min(bytes.len()));
        let error = LocatedError {
            byte: Some(at as u64),
            ..located(*fault, gather.events())
        };
        if code == Code::BatchTooLarge {
            gather.refuse(error);
        } else {
            gather.reject(error, &bytes[at..], None);
        }
    }
    gather.finish(events.unknown_fields)
}

/// Adds the events of a stream to a batch, all or none; answers how many they are. Rows that have no id are given one, and
/// a source, if `identity` says which.
pub(crate) fn append(
    bytes: &[u8],
    reader: &mut EventReader<'_>,
    builder: &mut EventBatchBuilder,
    identity: Option<(&str, impl Fn(u64) -> String)>,
) -> Faulty<u32> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let options = reader.options;
    let mut events = Events::new(options);
    events.read(bytes)?;
    let identity = |row| {
        let (source, id) = identity.as_ref()?;
        Some((id(row), *source))
    };
    // The first time to see whether all is well with them.
    events.add(&mut EventBatchBuilder::new(), &options.limits, identity)?;
    let rows = events.add(builder, &options.limits, identity)?;
    for (name, count) in events.unknown_fields {
        let names_max = options.limits.unknown_fields;
        crate::unknown::count(&mut reader.unknown_fields, &name, count, names_max);
    }
    Ok(rows)
}

/// The error of an event.
fn located(fault: Fault, event: u64) -> LocatedError {
    LocatedError {
        event,
        line: None,
        byte: None,
        field: fault.field,
        code: fault.code.as_str(),
        message: fault.message,
    }
}

/// The events of a stream, as far as it could be read.
struct Events<'o> {
    options: &'o Options,
    kind: Kind,
    names: Vec<String>,
    batches: Vec<Batch>,
    unknown_fields: BTreeMap<String, u64>,
}

/// One record batch, with its columns as fields.
struct Batch {
    rows: usize,
    columns: Vec<Column>,
    /// As they came, to show what was wrong.
    arrays: Vec<ArrayRef>,
}

struct Column {
    number: usize,
    ty: FieldType,
    source: Source,
}

impl<'o> Events<'o> {
    fn new(options: &'o Options) -> Self {
        Self {
            options,
            // Replaced before there are batches.
            kind: Kind::EventLogged,
            names: Vec::new(),
            batches: Vec::new(),
            unknown_fields: BTreeMap::new(),
        }
    }

    /// Reads the stream to its end, or to the message that is wrong.
    fn read(&mut self, bytes: &[u8]) -> Faulty<()> {
        let mut room = self.options.limits.batch_bytes_max();
        let mut stream = Stream::open(bytes, room).map_err(|fault| fault.placed(0))?;
        self.kind = kind(self.options.kind, stream.kind.as_deref())?;
        self.names = stream
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let meanings = self.meanings()?;
        let mut rows = 0_usize;
        loop {
            let start = stream.at();
            let Some(arrays) = stream.next()? else {
                return Ok(());
            };
            rows += arrays.rows;
            if rows > self.options.limits.batch_bytes_max() {
                return Err(too_large(start));
            }
            let batch = self.batch(arrays, &meanings, &mut room);
            self.batches
                .push(batch.map_err(|fault| fault.placed(start))?);
        }
    }

    /// What the columns are, by their names.
    fn meanings(&self) -> Faulty<Vec<Meaning>> {
        let mut stated = 0_u64;
        let mut meanings = Vec::with_capacity(self.names.len());
        for (place, name) in self.names.iter().enumerate() {
            let meaning = look_up(self.kind, name).map_or(Meaning::Unknown, |known| known.meaning);
            let repeated = match meaning {
                Meaning::Column(column, _) => {
                    let before = stated;
                    stated |= 1 << column;
                    before == stated
                }
                _ => self.names[..place].contains(name),
            };
            if repeated {
                let message = format!("the column {:?} is there twice", shown(name));
                return Err(Fault::new(Code::RepeatedField, 0, message).in_field(name));
            }
            if self.options.strict && matches!(meaning, Meaning::Unknown) {
                let message = format!("{} has no field {:?}", self.kind, shown(name));
                return Err(Fault::new(Code::UnknownField, 0, message).in_field(name));
            }
            meanings.push(meaning);
        }
        Ok(meanings)
    }

    /// The columns of a record batch as fields.
    fn batch(&mut self, arrays: Arrays, meanings: &[Meaning], room: &mut usize) -> Faulty<Batch> {
        let Arrays { rows, arrays } = arrays;
        let mut columns = Vec::with_capacity(arrays.len());
        let mut extra = Source::Nothing;
        let mut unknown = Vec::new();
        for ((name, array), meaning) in self.names.iter().zip(&arrays).zip(meanings) {
            let mut source =
                |ty| Source::new(ty, array, room).map_err(|unfit| self.unfit(name, array, unfit));
            match *meaning {
                Meaning::Column(_, Form::Extra) => extra = source(FieldType::JsonObject)?,
                Meaning::Column(number, _) => {
                    let number = usize::from(number);
                    let ty = schema::field(self.kind, number).ty;
                    let source = source(ty)?;
                    columns.push(Column { number, ty, source });
                }
                Meaning::Type => self.check_kinds(name, &source(FieldType::Text)?)?,
                Meaning::OfTheLog => {}
                Meaning::Unknown => unknown.push((name.as_str(), array)),
            }
        }
        if !unknown.is_empty() {
            let merged = merged(rows, extra.texts(), &unknown, room);
            extra = Source::Json(merged.map_err(|_| too_large(0))?);
        }
        columns.push(Column {
            number: schema::EXTRA,
            ty: FieldType::JsonObject,
            source: extra,
        });
        for (name, array) in unknown {
            let count = (0..rows).filter(|row| !json::is_null(array, *row)).count() as u64;
            let names_max = self.options.limits.unknown_fields;
            crate::unknown::count(&mut self.unknown_fields, name, count, names_max);
        }
        Ok(Batch {
            rows,
            columns,
            arrays,
        })
    }

    fn unfit(&self, name: &str, array: &ArrayRef, unfit: Unfit) -> Box<Fault> {
        match unfit {
            Unfit::Size => too_large(0),
            Unfit::Type(needed) => {
                let found = array.data_type();
                let message = format!(
                    "column {name:?} of {} takes {needed}, not {found}",
                    self.kind
                );
                Fault::new(Code::UnsupportedArrowType, 0, message).in_field(name)
            }
        }
    }

    /// A column `type` must say what is known already.
    fn check_kinds(&self, name: &str, source: &Source) -> Faulty<()> {
        let mut texts = source.texts().into_iter().flatten().flatten();
        match texts.find(|text| text.parse() != Ok(self.kind)) {
            None => Ok(()),
            Some(other) => {
                let message = format!("`type` is {:?} in a stream of {}", shown(other), self.kind);
                Err(Fault::new(Code::OtherKind, 0, message).in_field(name))
            }
        }
    }

    /// All events as one table; nothing if something is wrong with some value.
    fn table(&self, limits: &Limits) -> Option<Table> {
        let mut columns: BTreeMap<usize, Vec<ArrayRef>> = BTreeMap::new();
        let mut rows = 0;
        for batch in &self.batches {
            rows += batch.rows;
            batch.check(limits).ok()?;
            for column in &batch.columns {
                let array = column.source.to_array(column.ty)?;
                let array = array.unwrap_or_else(|| {
                    arrow_array::new_null_array(&column.ty.data_type(), batch.rows)
                });
                columns.entry(column.number).or_default().push(array);
            }
        }
        let arrays = columns.into_iter().map(|(number, arrays)| {
            let array = match &arrays[..] {
                [only] => Arc::clone(only),
                _ => {
                    let parts: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
                    arrow_select::concat::concat(&parts)
                        .expect("a field has one type, and its size was checked")
                }
            };
            (number, array)
        });
        // The columns have the types and lengths of their fields, so what is wrong is wrong with rows.
        Table::from_checked_arrays(self.kind, rows, arrays).ok()
    }

    /// Adds the events to a batch, up to one that is wrong.
    fn add(
        &self,
        builder: &mut EventBatchBuilder,
        limits: &Limits,
        identity: impl Fn(u64) -> Option<(String, &'o str)>,
    ) -> Faulty<u32> {
        let mut number = 0;
        for batch in &self.batches {
            for row in 0..batch.rows {
                let identity = identity(u64::from(number));
                let written = batch.write(builder.row(self.kind), row, limits, identity);
                written.map_err(|mut fault| {
                    fault.message = format!("row {number}: {}", fault.message);
                    fault.at = OUTSIDE;
                    fault
                })?;
                number += 1;
            }
        }
        Ok(number)
    }

    /// The events one by one; answers whether there was room for all.
    fn rows(&self, gather: &mut Gather<'_>) -> bool {
        for batch in &self.batches {
            for row in 0..batch.rows {
                let written = batch.write(
                    gather.builder.row(self.kind),
                    row,
                    &self.options.limits,
                    None,
                );
                let room = match written {
                    Ok(()) => gather.accepted(),
                    Err(fault) => {
                        let mut raw = Vec::new();
                        let names = self.names.iter().map(String::as_str);
                        let members = names.zip(&batch.arrays);
                        json::object(members.map(|(name, array)| (name, array, row)), &mut raw);
                        gather.reject(located(*fault, gather.events()), &raw, None)
                    }
                };
                if !room {
                    return false;
                }
            }
        }
        true
    }
}

impl Batch {
    /// Checks what the engine does not: limits, and JSON, once.
    fn check(&self, limits: &Limits) -> Faulty<()> {
        let texts = || {
            self.columns
                .iter()
                .filter_map(|column| column.source.texts())
        };
        let bytes: usize = texts().map(|texts| texts.value_data().len()).sum();
        if bytes > limits.event_bytes {
            for row in 0..self.rows {
                self.check_size(row, limits)?;
            }
        }
        if limits.value_bytes < VALUE_BYTES_MAX {
            let lengths = texts().flatten().flatten().map(str::len);
            check_size(lengths.max().unwrap_or(0), limits.value_bytes, 0)?;
        }
        for column in &self.columns {
            if let Source::Json(texts) | Source::Encoded(texts) = &column.source {
                let mut alike = Alike::default();
                for text in texts.iter().flatten() {
                    if !alike.fits(text) {
                        check_json(text, limits)?;
                        alike.learn(text);
                    }
                }
            }
        }
        Ok(())
    }

    fn check_size(&self, row: usize, limits: &Limits) -> Faulty<()> {
        let texts = self
            .columns
            .iter()
            .filter_map(|column| column.source.texts());
        let bytes = texts.map(|texts| texts.value_length(row) as usize).sum();
        check_size(bytes, limits.event_bytes, 0)
    }

    /// Writes a row; one without an id is given an identity, if there is one for it.
    fn write(
        &self,
        mut to: RowWriter<'_>,
        row: usize,
        limits: &Limits,
        identity: Option<(String, &str)>,
    ) -> Faulty<()> {
        self.check_size(row, limits)?;
        for column in &self.columns {
            let name = || schema::field(to.kind(), column.number).name;
            if let Some(texts) = column.source.texts().filter(|texts| texts.is_valid(row)) {
                let text = texts.value(row);
                let (bytes, max) = (text.len(), limits.value_bytes);
                if bytes > max {
                    let problem = modelog_engine::event::FieldProblem::TooLong { bytes, max };
                    return Err(Fault::of_field(FieldError::new(name(), problem), 0));
                }
                if matches!(column.source, Source::Json(_) | Source::Encoded(_)) {
                    check_json(text, limits).map_err(|fault| fault.in_field(name()))?;
                }
            }
            let is_null = column.source.texts().is_none_or(|texts| texts.is_null(row));
            if is_null && matches!(column.number, schema::ID | schema::SOURCE) {
                continue;
            }
            column
                .source
                .write(&mut to, column.number, column.ty, row)
                .map_err(|error| Fault::of_field(error, 0))?;
        }
        if let Some((id, source)) = identity
            && !to.is_stated(schema::ID)
        {
            to.text(schema::ID, &id)
                .map_err(|error| Fault::of_field(error, 0))?;
            if !to.is_stated(schema::SOURCE) {
                to.text(schema::SOURCE, source)
                    .map_err(|error| Fault::of_field(error, 0))?;
            }
        }
        to.finish().map_err(|error| Fault::of_field(error, 0))
    }
}

/// The kind of a stream's events: what the caller says, or the schema.
fn kind(said: Option<Kind>, named: Option<&str>) -> Faulty<Kind> {
    let fault = |code, message: String| Err(Fault::new(code, 0, message).in_field("type"));
    let named = match named.map(str::parse::<Kind>).transpose() {
        Ok(named) => named,
        Err(error) => return fault(Code::UnknownKind, error.to_string()),
    };
    let kind = match (said, named) {
        (Some(said), Some(named)) if said != named => {
            return fault(
                Code::OtherKind,
                format!("the schema says {named}, the caller {said}"),
            );
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => {
            let message = "neither the caller nor `modelog.kind` in the schema's metadata says which kind the events are";
            return fault(Code::MissingField, message.to_owned());
        }
    };
    if kind.is_internal() {
        return fault(
            Code::InternalKind,
            format!("{kind} events are written by the engine only"),
        );
    }
    Ok(kind)
}

/// Checks one JSON text.
fn check_json(text: &str, limits: &Limits) -> Faulty<()> {
    let mut scan = Scanner::new(text, 0, limits);
    scan.blanks();
    scan.value(1)?;
    match scan.blanks() {
        None => Ok(()),
        Some(_) => Err(scan.unexpected("nothing more")),
    }
}

/// The unknown columns as objects, after the members of an `extra` the producer gave.
fn merged(
    rows: usize,
    given: Option<&StringArray>,
    unknown: &[(&str, &ArrayRef)],
    room: &mut usize,
) -> Result<StringArray, Unfit> {
    json_texts(rows, room, |row, out| {
        let given = given
            .filter(|texts| texts.is_valid(row))
            .map(|texts| texts.value(row).trim());
        let members = || unknown.iter().map(|(name, array)| (*name, *array, row));
        let none = members().all(|(_, array, row)| json::is_null(array, row));
        let Some(given) = given else {
            if !none {
                json::object(members(), out);
            }
            return !none;
        };
        let inner = given
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        match inner.map(str::trim) {
            Some("") if !none => json::object(members(), out),
            Some(inner) if !none => {
                out.push(b'{');
                out.extend_from_slice(inner.as_bytes());
                let comma = out.len();
                json::object(members(), out);
                out[comma] = b',';
            }
            // Kept as it is; what is no object is found to be none by the check of the field.
            _ => out.extend_from_slice(given.as_bytes()),
        }
        true
    })
}

fn too_large(at: usize) -> Box<Fault> {
    let message = "the values of the stream take more than one call may bring";
    Fault::new(Code::BatchTooLarge, at, message)
}
