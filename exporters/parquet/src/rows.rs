//! What a batch of the log puts into files: its events by kind, its names, and its origins, as columns.
//!
//! Columns share the batch's buffers and hold nothing but what the log handed over: a column without a value in any row
//! stays absent. What becomes of them is copied in [`pending`](crate::pending).

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray, types::UInt32Type,
};
use arrow_array::{cast::AsArray, types::TimestampMicrosecondType};
use modelog_engine::batch::{LoggedBatch, Table};
use modelog_engine::event::{Kind, schema as fields};
use modelog_engine::origin::{Origin, Source};
use modelog_engine::{Offset, Timestamp};
use uuid::Uuid;

use crate::error::ParquetError;
use crate::layout::FileKind;
use crate::schema::{self, OriginColumn, sources};

/// Rows of one batch for the file of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) kind: FileKind,
    pub(crate) rows: usize,
    /// By the columns of the file's schema; `None` where every row is null.
    pub(crate) columns: Vec<Option<ArrayRef>>,
    /// Offset of the first row.
    pub(crate) first: Offset,
    /// The offset after that of the last row.
    pub(crate) end: Offset,
}

impl Rows {
    /// Everything a batch puts into files, by kind.
    ///
    /// # Errors
    /// If the batch has events that only the log itself may make.
    pub(crate) fn of(batch: &LoggedBatch) -> Result<Vec<Self>, ParquetError> {
        let mut all = Vec::with_capacity(batch.tables.len() + 1);
        for table in &batch.tables {
            if table.kind() == Kind::EntityNamed {
                // Their file holds names as batches brought them.
                return Err(ParquetError::Rows {
                    reason: format!(
                        "the batch at offset {} has an event of the kind EntityNamed, which only the log itself may make",
                        batch.first_offset
                    ),
                });
            }
            if table.rows() > 0 {
                all.push(events(batch, table));
            }
        }
        if !batch.names.is_empty() {
            all.push(names(batch));
        }
        if !batch.origins.is_empty() {
            all.push(origins(batch));
        }
        Ok(all)
    }

    /// The rows from an offset on; none if there are none.
    pub(crate) fn from(self, offset: Offset) -> Option<Self> {
        if offset <= self.first {
            return Some(self);
        }
        if offset >= self.end {
            return None;
        }
        let offsets = self.columns[0].as_ref()?;
        let skipped = offsets
            .as_primitive::<arrow_array::types::Int64Type>()
            .values()
            .partition_point(|row| (*row as u64) < offset.0);
        let rows = self.rows - skipped;
        let first = offsets
            .as_primitive::<arrow_array::types::Int64Type>()
            .value(skipped);
        let slice =
            |column: &Option<ArrayRef>| column.as_ref().map(|array| array.slice(skipped, rows));
        Some(Self {
            rows,
            columns: self.columns.iter().map(slice).collect(),
            first: Offset(first as u64),
            ..self
        })
    }
}

fn times(time: Timestamp, rows: usize) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_value(time.micros(), rows).with_timezone("UTC"))
}

/// Events of one kind: the columns of `arrow_schema`, as `Table::to_record_batch` makes them.
fn events(batch: &LoggedBatch, table: &Table) -> Rows {
    let rows = table.rows();
    let base = batch.first_offset.0;
    let offsets: Int64Array = match &table.columns()[fields::ORD] {
        Some(ords) => ords
            .as_primitive::<UInt32Type>()
            .unary(|ord| (base + u64::from(ord)) as i64),
        None => (0..rows as u64).map(|ord| (base + ord) as i64).collect(),
    };
    let first = offsets.value(0) as u64;
    let end = offsets.value(rows - 1) as u64 + 1;
    let mut columns = Vec::with_capacity(table.columns().len() + 1);
    columns.push(Some(Arc::new(offsets) as ArrayRef));
    columns.push(Some(times(batch.append_time, rows)));
    for (number, column) in table.columns().iter().enumerate() {
        match (number, column) {
            (fields::ORD, _) => {}
            (fields::TIME, None) => columns.push(Some(times(batch.append_time, rows))),
            (fields::TIME, Some(times)) if times.null_count() > 0 => {
                columns.push(Some(filled(times, batch.append_time)));
            }
            (_, column) => columns.push(column.clone().filter(|array| array.null_count() < rows)),
        }
    }
    Rows {
        kind: FileKind::Events(table.kind()),
        rows,
        columns,
        first: Offset(first),
        end: Offset(end),
    }
}

/// A time that was not given is that of the append.
fn filled(times: &ArrayRef, append_time: Timestamp) -> ArrayRef {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let filled: TimestampMicrosecondArray = times
        .iter()
        .map(|time| Some(time.unwrap_or(append_time.micros())))
        .collect();
    Arc::new(filled.with_timezone("UTC"))
}

/// One row for each name that was given a number with the batch.
fn names(batch: &LoggedBatch) -> Rows {
    const ENTITY_KIND: usize = fields::column(Kind::EntityNamed, "entity_kind");
    const ENTITY_ID: usize = fields::column(Kind::EntityNamed, "entity_id");
    const PARENT_ID: usize = fields::column(Kind::EntityNamed, "parent_id");
    const NAME: usize = fields::column(Kind::EntityNamed, "name");
    let rows = batch.names.len();
    let kind = FileKind::Events(Kind::EntityNamed);
    let mut columns = vec![None; fields::column_count(Kind::EntityNamed) + 1];
    // Columns of a file are those of the log, `ord` replaced by offset and append time.
    let mut set = |number: usize, array: ArrayRef| columns[number + 1] = Some(array);
    let all = || batch.names.iter();
    let kinds: StringArray = all().map(|named| Some(named.kind.name())).collect();
    let ids: Int64Array = all().map(|named| Some(i64::from(named.id))).collect();
    let parents: Int64Array = all()
        .map(|named| (named.parent != 0).then_some(i64::from(named.parent)))
        .collect();
    let texts: StringArray = all().map(|named| Some(&*named.name)).collect();
    set(ENTITY_KIND, Arc::new(kinds));
    set(ENTITY_ID, Arc::new(ids));
    if parents.null_count() < rows {
        set(PARENT_ID, Arc::new(parents));
    }
    set(NAME, Arc::new(texts));
    set(fields::TIME, times(batch.append_time, rows));
    repeated(batch, kind, rows, columns)
}

/// One row for each origin of the batch.
fn origins(batch: &LoggedBatch) -> Rows {
    use OriginColumn as C;
    let rows = batch.origins.len();
    let mut columns = vec![None; C::ALL.len()];
    let ints = |value: &dyn Fn(&Origin) -> Option<i64>| -> Option<ArrayRef> {
        let array: Int64Array = batch.origins.iter().map(value).collect();
        (array.null_count() < rows).then(|| Arc::new(array) as ArrayRef)
    };
    let texts = |value: &dyn Fn(&Origin) -> Option<String>| -> Option<ArrayRef> {
        let array: StringArray = batch.origins.iter().map(value).collect();
        (array.null_count() < rows).then(|| Arc::new(array) as ArrayRef)
    };
    for column in C::ALL {
        columns[column as usize] = match column {
            C::LogOffset | C::AppendTime => None,
            C::FirstOrd => ints(&|origin| Some(origin.first_ord.into())),
            C::Rows => ints(&|origin| Some(origin.rows.into())),
            C::Rejected => ints(&|origin| Some(origin.rejected.into())),
            C::Duplicates => ints(&|origin| Some(origin.duplicates.into())),
            C::Source | C::Key | C::Producer | C::Cluster | C::Topic | C::TopicId => {
                texts(&|origin| source_text(column, &origin.source))
            }
            _ => ints(&|origin| source_int(column, &origin.source)),
        };
    }
    repeated(batch, FileKind::Origin, rows, columns)
}

fn source_text(column: OriginColumn, source: &Source) -> Option<String> {
    use OriginColumn as C;
    match (column, source) {
        (C::Source, Source::Call { .. }) => Some(sources::CALL.into()),
        (C::Source, Source::Producer { .. }) => Some(sources::PRODUCER.into()),
        (C::Source, Source::Kafka { .. }) => Some(sources::KAFKA.into()),
        (C::Key, Source::Call { key, .. }) => Some((**key).into()),
        (C::Producer, Source::Producer { id, .. }) => Some((**id).into()),
        (C::Cluster, Source::Kafka { cluster, .. }) => Some((**cluster).into()),
        (C::Topic, Source::Kafka { topic, .. }) => Some((**topic).into()),
        (C::TopicId, Source::Kafka { topic_id, .. }) => {
            topic_id.map(|id| Uuid::from_u128(id).to_string())
        }
        _ => None,
    }
}

fn source_int(column: OriginColumn, source: &Source) -> Option<i64> {
    use OriginColumn as C;
    match (column, source) {
        (C::BodyHash, Source::Call { body, .. }) => Some(*body as i64),
        (C::ProducerEpoch, Source::Producer { epoch, .. }) => Some((*epoch).into()),
        (C::Sequence, Source::Producer { sequence, .. }) => Some(*sequence as i64),
        (C::Partition, Source::Kafka { partition, .. }) => Some((*partition).into()),
        (C::FirstPosition, Source::Kafka { first, .. }) => Some(*first),
        (C::NextPosition, Source::Kafka { next, .. }) => Some(*next),
        (C::LeaderEpoch, Source::Kafka { leader_epoch, .. }) => Some((*leader_epoch).into()),
        _ => None,
    }
}

/// Rows that all stand at the offset of the batch's first event.
fn repeated(
    batch: &LoggedBatch,
    kind: FileKind,
    rows: usize,
    mut columns: Vec<Option<ArrayRef>>,
) -> Rows {
    debug_assert_eq!(columns.len(), schema::file_schema(kind).fields().len());
    let first = batch.first_offset;
    columns[0] = Some(Arc::new(Int64Array::from_value(first.0 as i64, rows)));
    columns[1] = Some(times(batch.append_time, rows));
    Rows {
        kind,
        rows,
        columns,
        first,
        end: first.advance(1),
    }
}

#[cfg(test)]
mod tests;
