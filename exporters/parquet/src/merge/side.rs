//! What batches brought beside their events: names and origins, whose rows repeat the offset of the batch's first event.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, RecordBatch, StringArray};
use modelog_engine::Offset;
use modelog_engine::event::EntityKind;
use modelog_engine::names::NamedEntity;
use modelog_engine::origin::{Origin, Source};

use crate::files::{FileError, KindRows, Place};
use crate::schema::{OriginColumn, sources};

/// Takes values from rows; says what is wrong with them.
type Decode<T> = fn(&RecordBatch) -> Result<Vec<T>, String>;

#[derive(Debug)]
pub(super) struct Side<T> {
    rows: KindRows,
    decode: Decode<T>,
    queue: VecDeque<(u64, T)>,
}

impl<T> Side<T> {
    pub(super) fn new(rows: KindRows, decode: Decode<T>) -> Self {
        Self {
            rows,
            decode,
            queue: VecDeque::new(),
        }
    }

    /// Reads until everything before an offset is known.
    pub(super) fn fill(&mut self, end: Offset) -> Result<(), FileError> {
        loop {
            let known = self.queue.back().is_some_and(|(last, _)| *last >= end.0);
            let later = self.rows.untouched().is_some_and(|file| file.first >= end);
            if known || later {
                return Ok(());
            }
            let Some(piece) = self.rows.next()? else {
                return Ok(());
            };
            let path = self.rows.path(&piece.entry);
            let first = Offset(piece.offset(0));
            let values = (self.decode)(&piece.rows)
                .map_err(|reason| Place::start(&path, first).corrupt(reason))?;
            let offsets = piece.offsets.iter().map(|offset| *offset as u64);
            self.queue.extend(offsets.zip(values));
        }
    }

    /// The last start of a batch of the log after `first` and not after `limit`, among those known.
    pub(super) fn last_start(&self, first: Offset, limit: Offset) -> Option<Offset> {
        let after = self.queue.partition_point(|(offset, _)| *offset <= limit.0);
        let (offset, _) = self.queue.get(after.checked_sub(1)?)?;
        (*offset > first.0).then_some(Offset(*offset))
    }

    /// What came with batches that start in a range, with where they start.
    pub(super) fn take(
        &mut self,
        first: Offset,
        end: Offset,
    ) -> Result<impl Iterator<Item = (Offset, T)>, FileError> {
        self.fill(end)?;
        let rows = self.queue.partition_point(|(offset, _)| *offset < end.0);
        debug_assert!(
            self.queue
                .front()
                .is_none_or(|(offset, _)| *offset >= first.0)
        );
        Ok(self
            .queue
            .drain(..rows)
            .map(|(offset, value)| (Offset(offset), value)))
    }
}

/// Columns of rows, found by name; those that are not there are null in every row.
struct Fields<'a>(&'a RecordBatch);

impl<'a> Fields<'a> {
    fn ints(&self, name: &str) -> Result<Option<&'a Int64Array>, String> {
        self.0
            .column_by_name(name)
            .map(|column| {
                column
                    .as_primitive_opt::<Int64Type>()
                    .ok_or_else(|| format!("`{name}` is no 64-bit integer"))
            })
            .transpose()
    }

    fn text(&self, name: &str) -> Result<Option<&'a StringArray>, String> {
        self.0
            .column_by_name(name)
            .map(|column| {
                column
                    .as_string_opt::<i32>()
                    .ok_or_else(|| format!("`{name}` is no text"))
            })
            .transpose()
    }
}

fn int(column: Option<&Int64Array>, row: usize) -> Option<i64> {
    column
        .filter(|column| column.is_valid(row))
        .map(|column| column.value(row))
}

fn text(column: Option<&StringArray>, row: usize) -> Option<&str> {
    column
        .filter(|column| column.is_valid(row))
        .map(|column| column.value(row))
}

/// The names in rows of `EntityNamed`.
pub(crate) fn names(rows: &RecordBatch) -> Result<Vec<NamedEntity>, String> {
    let fields = Fields(rows);
    let (kinds, names) = (fields.text("entity_kind")?, fields.text("name")?);
    let (ids, parents) = (fields.ints("entity_id")?, fields.ints("parent_id")?);
    (0..rows.num_rows())
        .map(|row| {
            let kind = text(kinds, row)
                .and_then(|word| EntityKind::ALL.into_iter().find(|kind| kind.name() == word));
            let id = int(ids, row).and_then(|id| id.try_into().ok());
            let parent = int(parents, row).unwrap_or(0).try_into().ok();
            match (kind, id, parent, text(names, row)) {
                (Some(kind), Some(id), Some(parent), Some(name)) => Ok(NamedEntity {
                    kind,
                    id,
                    parent,
                    name: name.into(),
                }),
                _ => Err(format!("row {row} of these names no entity")),
            }
        })
        .collect()
}

/// The columns of origins.
struct OriginRows<'a> {
    ints: [Option<&'a Int64Array>; OriginColumn::ALL.len()],
    text: [Option<&'a StringArray>; OriginColumn::ALL.len()],
    row: usize,
}

impl<'a> OriginRows<'a> {
    fn new(rows: &'a RecordBatch) -> Result<Self, String> {
        use OriginColumn as C;
        let fields = Fields(rows);
        let mut found = Self {
            ints: [None; _],
            text: [None; _],
            row: 0,
        };
        for column in C::ALL {
            match column {
                C::LogOffset | C::AppendTime => {}
                C::Source | C::Key | C::Producer | C::Cluster | C::Topic | C::TopicId => {
                    found.text[column as usize] = fields.text(column.name())?;
                }
                _ => found.ints[column as usize] = fields.ints(column.name())?,
            }
        }
        Ok(found)
    }

    fn int<N: TryFrom<i64>>(&self, column: OriginColumn) -> Option<N> {
        int(self.ints[column as usize], self.row)?.try_into().ok()
    }

    /// 64 bits that are kept in a signed integer.
    fn bits(&self, column: OriginColumn) -> Option<u64> {
        self.int::<i64>(column).map(|bits| bits as u64)
    }

    fn text(&self, column: OriginColumn) -> Option<Arc<str>> {
        text(self.text[column as usize], self.row).map(Into::into)
    }

    fn origin(&self) -> Option<Origin> {
        use OriginColumn as C;
        Some(Origin {
            source: self.source()?,
            first_ord: self.int(C::FirstOrd)?,
            rows: self.int(C::Rows)?,
            rejected: self.int(C::Rejected)?,
            duplicates: self.int(C::Duplicates)?,
        })
    }

    fn source(&self) -> Option<Source> {
        use OriginColumn as C;
        match text(self.text[C::Source as usize], self.row)? {
            sources::CALL => Some(Source::Call {
                key: self.text(C::Key)?,
                body: self.bits(C::BodyHash)?,
            }),
            sources::PRODUCER => Some(Source::Producer {
                id: self.text(C::Producer)?,
                epoch: self.int(C::ProducerEpoch)?,
                sequence: self.bits(C::Sequence)?,
            }),
            sources::KAFKA => Some(Source::Kafka {
                cluster: self.text(C::Cluster)?,
                topic: self.text(C::Topic)?,
                topic_id: match text(self.text[C::TopicId as usize], self.row) {
                    None => None,
                    Some(id) => Some(uuid::Uuid::parse_str(id).ok()?.as_u128()),
                },
                partition: self.int(C::Partition)?,
                first: self.int(C::FirstPosition)?,
                next: self.int(C::NextPosition)?,
                leader_epoch: self.int(C::LeaderEpoch)?,
            }),
            _ => None,
        }
    }
}

/// The origins in rows of files of origins.
pub(crate) fn origins(rows: &RecordBatch) -> Result<Vec<Origin>, String> {
    let mut fields = OriginRows::new(rows)?;
    (0..rows.num_rows())
        .map(|row| {
            fields.row = row;
            let origin = fields.origin();
            origin.ok_or_else(|| format!("row {row} of these is no origin"))
        })
        .collect()
}
