//! Rows of a file that may come from anywhere, with the columns of their kind: for imports.
//!
//! What a file says of itself is compared with what this program knows before its rows are read. Columns that a file
//! does not have, because an older program wrote it, are null in every row.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch, new_null_array};
use arrow_schema::SchemaRef;
use modelog_engine::Offset;
use modelog_engine::event::{Kind, schema};

use super::error::{FileError, Place};
use super::file::{Columns, ParquetFile};
use super::stream::RowStream;
use crate::layout::FileKind;
use crate::schema::{VERSION, file_schema, keys};

/// The rows of one file of events, in its order.
#[derive(Debug)]
pub struct EventRows {
    stream: RowStream,
    schema: SchemaRef,
    path: std::path::PathBuf,
    /// Where the last rows ended, to say where others are wrong.
    reached: Offset,
}

impl ParquetFile {
    /// Why its rows are not those of a kind as this program knows it; none if they are.
    #[must_use]
    pub fn why_not(&self, kind: FileKind) -> Option<String> {
        let version = self.footer(keys::SCHEMA).and_then(|text| text.parse().ok());
        if version.is_some_and(|version: u32| version > VERSION) {
            return Some("its columns are of a newer version: use a newer modelog".into());
        }
        let known = file_schema(kind);
        for field in self.schema().fields() {
            match known.field_with_name(field.name()) {
                Err(_) => return Some(format!("{kind} has no column `{}`", field.name())),
                Ok(known) if known.data_type() != field.data_type() => {
                    return Some(format!(
                        "its column `{}` has the type {}, {} is needed",
                        field.name(),
                        field.data_type(),
                        known.data_type()
                    ));
                }
                Ok(_) => {}
            }
        }
        let has = |name: &str| self.schema().field_with_name(name).is_ok();
        let missing = known
            .fields()
            .iter()
            .find(|field| !field.is_nullable() && !has(field.name()));
        missing.map(|field| format!("its column `{}` is missing", field.name()))
    }

    /// Its rows, with the columns of [`schema::arrow_schema`].
    ///
    /// # Errors
    /// [`FileError`] if they are not of this kind, or cannot be read.
    pub fn events(&self, kind: Kind) -> Result<EventRows, FileError> {
        if let Some(reason) = self.why_not(FileKind::Events(kind)) {
            return Err(FileError::foreign(self.path(), reason));
        }
        Ok(EventRows {
            stream: self.stream(Offset::ZERO, Offset(u64::MAX), Columns::All)?,
            schema: schema::arrow_schema(kind),
            path: self.path().to_path_buf(),
            reached: Offset::ZERO,
        })
    }
}

impl EventRows {
    /// The next rows; none at the end.
    ///
    /// # Errors
    /// [`FileError`] if they cannot be read, or a column that must have a value in every row has none.
    pub fn next_rows(&mut self) -> Result<Option<RecordBatch>, FileError> {
        let Some(found) = self.stream.next()? else {
            return Ok(None);
        };
        let rows = found.num_rows();
        let columns =
            self.schema
                .fields()
                .iter()
                .map(|field| match found.column_by_name(field.name()) {
                    Some(array) => Arc::clone(array),
                    None => new_null_array(field.data_type(), rows),
                });
        let columns: Vec<_> = columns.collect();
        let fields = self.schema.fields().iter();
        let mut needed = fields
            .zip(&columns)
            .filter(|(field, _)| !field.is_nullable());
        let place = Place::start(&self.path, self.reached);
        if let Some((field, _)) = needed.find(|(_, array)| array.null_count() > 0) {
            let reason = format!("its column `{}` has no value in some row", field.name());
            return Err(place.corrupt(reason));
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| place.corrupt(error.to_string()))?;
        if let Some(last) = last_offset(&batch) {
            self.reached = last.advance(1);
        }
        Ok(Some(batch))
    }
}

/// The offset of the last row.
fn last_offset(rows: &RecordBatch) -> Option<Offset> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    let offsets = rows.column(0).as_primitive_opt::<Int64Type>()?;
    let last = offsets.values().last()?;
    Some(Offset(*last as u64))
}
