//! Rows waiting to be encoded, copied out of the log's batches.
//!
//! A batch's columns are slices of the frame they came in, so keeping one row of a rare kind would keep the whole frame.
//! Values are therefore appended to vectors of our own: many batches of one row cost what their values do, and a column
//! that no row has a value in costs nothing.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, GenericByteBuilder, PrimitiveBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    BinaryType, ByteArrayType, Float64Type, Int64Type, TimestampMicrosecondType, Utf8Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::{DataType, SchemaRef, TimeUnit};

use crate::rows::Rows;

/// A piece is complete at so many rows. A row group is made of whole ones: 32 of them are 256k rows.
const PIECE_ROWS: usize = 8192;
/// A piece is complete at so many bytes.
const PIECE_BYTES: usize = 4 << 20;

/// Some rows, as columns that are theirs alone.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) rows: usize,
    /// By the columns of the file's schema; `None` where every row is null.
    pub(crate) columns: Vec<Option<ArrayRef>>,
}

impl Piece {
    fn split(&self, rows: usize) -> (Self, Self) {
        let part = |from: usize, rows: usize| Self {
            rows,
            columns: self
                .columns
                .iter()
                .map(|column| column.as_ref().map(|array| array.slice(from, rows)))
                .collect(),
        };
        (part(0, rows), part(rows, self.rows - rows))
    }
}

/// The rows of one kind that wait to be encoded.
#[derive(Debug)]
pub(crate) struct Pending {
    schema: SchemaRef,
    pieces: Vec<Piece>,
    growing: Growing,
    rows: usize,
    bytes: usize,
}

/// The piece that rows are appended to.
#[derive(Debug)]
struct Growing {
    rows: usize,
    bytes: usize,
    columns: Vec<Option<Column>>,
}

impl Pending {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self {
            growing: Growing::new(schema.fields().len()),
            schema,
            pieces: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// About how many bytes the values take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies rows.
    pub(crate) fn push(&mut self, rows: &Rows) {
        let added = self.growing.push(&self.schema, rows);
        self.rows += rows.rows;
        self.bytes += added;
        if self.growing.rows >= PIECE_ROWS || self.growing.bytes >= PIECE_BYTES {
            self.complete();
        }
    }

    /// Takes up to so many of the first rows, as far as there are any.
    pub(crate) fn take(&mut self, rows_max: usize) -> Vec<Piece> {
        self.complete();
        let mut taken = Vec::new();
        let mut left = rows_max;
        let mut rest = std::mem::take(&mut self.pieces).into_iter();
        while left > 0
            && let Some(piece) = rest.next()
        {
            if piece.rows <= left {
                left -= piece.rows;
                taken.push(piece);
            } else {
                let (first, second) = piece.split(left);
                left = 0;
                taken.push(first);
                self.pieces.push(second);
            }
        }
        self.pieces.extend(rest);
        let rows: usize = taken.iter().map(|piece| piece.rows).sum();
        // What is left is counted by its share: slices of one piece cannot be told apart.
        self.bytes = if self.rows == rows {
            0
        } else {
            (self.bytes as u128 * (self.rows - rows) as u128 / self.rows as u128) as usize
        };
        self.rows -= rows;
        taken
    }

    fn complete(&mut self) {
        if self.growing.rows > 0 {
            let columns = self.schema.fields().len();
            let grown = std::mem::replace(&mut self.growing, Growing::new(columns));
            self.pieces.push(grown.finish());
        }
    }
}

impl Growing {
    fn new(columns: usize) -> Self {
        Self {
            rows: 0,
            bytes: 0,
            columns: (0..columns).map(|_| None).collect(),
        }
    }

    /// Answers how many bytes were added.
    fn push(&mut self, schema: &SchemaRef, rows: &Rows) -> usize {
        let before = self.rows;
        let mut added = 0;
        for (number, (column, array)) in self.columns.iter_mut().zip(&rows.columns).enumerate() {
            match (column.as_mut(), array) {
                (None, None) => {}
                (Some(column), None) => added += column.append_nulls(rows.rows),
                (Some(column), Some(array)) => added += column.append(array),
                (None, Some(array)) => {
                    let mut begun = Column::new(schema.field(number).data_type());
                    added += begun.append_nulls(before) + begun.append(array);
                    *column = Some(begun);
                }
            }
        }
        self.rows += rows.rows;
        self.bytes += added;
        added
    }

    fn finish(self) -> Piece {
        let columns = self.columns.into_iter();
        Piece {
            rows: self.rows,
            columns: columns.map(|column| column.map(Column::finish)).collect(),
        }
    }
}

/// A growing column; the variants are the types of the log's fields.
#[derive(Debug)]
enum Column {
    Int(PrimitiveBuilder<Int64Type>),
    Float(PrimitiveBuilder<Float64Type>),
    Time(PrimitiveBuilder<TimestampMicrosecondType>),
    Bool(BooleanBuilder),
    Text(GenericByteBuilder<Utf8Type>),
    Bytes(GenericByteBuilder<BinaryType>),
}

impl Column {
    fn new(ty: &DataType) -> Self {
        match ty {
            DataType::Int64 => Self::Int(PrimitiveBuilder::new()),
            DataType::Float64 => Self::Float(PrimitiveBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Time(TimestampMicrosecondBuilder::new().with_data_type(ty.clone()))
            }
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Utf8 => Self::Text(GenericByteBuilder::new()),
            DataType::Binary => Self::Bytes(GenericByteBuilder::new()),
            other => unreachable!("no field of the log has the type {other}"),
        }
    }

    /// Answers how many bytes were added, bits of nulls aside.
    fn append_nulls(&mut self, rows: usize) -> usize {
        match self {
            Self::Int(column) => column.append_nulls(rows),
            Self::Float(column) => column.append_nulls(rows),
            Self::Time(column) => column.append_nulls(rows),
            Self::Bool(column) => column.append_nulls(rows),
            Self::Text(column) => column.append_nulls(rows),
            Self::Bytes(column) => column.append_nulls(rows),
        }
        self.width(rows)
    }

    fn append(&mut self, array: &ArrayRef) -> usize {
        let rows = array.len();
        match self {
            Self::Int(column) => primitive(column, array),
            Self::Float(column) => primitive(column, array),
            Self::Time(column) => primitive(column, array),
            Self::Bool(column) => column.append_array(array.as_boolean()),
            Self::Text(column) => return bytes(column, array),
            Self::Bytes(column) => return bytes(column, array),
        }
        self.width(rows)
    }

    /// What rows take in the fixed part.
    fn width(&self, rows: usize) -> usize {
        match self {
            Self::Int(_) | Self::Float(_) | Self::Time(_) => 8 * rows,
            Self::Bool(_) => rows.div_ceil(8),
            Self::Text(_) | Self::Bytes(_) => 4 * rows,
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Int(mut column) => Arc::new(column.finish()),
            Self::Float(mut column) => Arc::new(column.finish()),
            Self::Time(mut column) => Arc::new(column.finish()),
            Self::Bool(mut column) => Arc::new(column.finish()),
            Self::Text(mut column) => Arc::new(column.finish()),
            Self::Bytes(mut column) => Arc::new(column.finish()),
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(column: &mut PrimitiveBuilder<T>, array: &ArrayRef) {
    column.append_array(array.as_primitive());
}

fn bytes<T: ByteArrayType<Offset = i32>>(
    column: &mut GenericByteBuilder<T>,
    array: &ArrayRef,
) -> usize {
    let before = column.values_slice().len();
    column
        .append_array(array.as_bytes())
        .expect("a piece and a batch of the log are far from the 2 GiB that offsets count");
    column.values_slice().len() - before + 4 * array.len()
}

#[cfg(test)]
mod tests {
    use arrow_array::{BooleanArray, Int64Array, StringArray};
    use arrow_schema::{Field, Schema};
    use modelog_engine::Offset;
    use proptest::prelude::*;

    use super::*;
    use crate::digest::ColumnDigest;
    use crate::layout::FileKind;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Utf8, true),
            Field::new("c", DataType::Boolean, true),
        ]))
    }

    type Row = (Option<i64>, Option<String>, Option<bool>);

    fn rows(values: &[Row]) -> Rows {
        let a: Int64Array = values.iter().map(|row| row.0).collect();
        let b: StringArray = values.iter().map(|row| row.1.clone()).collect();
        let c: BooleanArray = values.iter().map(|row| row.2).collect();
        let arrays: [ArrayRef; 3] = [Arc::new(a), Arc::new(b), Arc::new(c)];
        Rows {
            kind: FileKind::Origin,
            rows: values.len(),
            columns: arrays
                .into_iter()
                .map(|array| Some(array).filter(|array| array.null_count() < values.len()))
                .collect(),
            first: Offset(0),
            end: Offset(1),
        }
    }

    fn told(digests: &mut [ColumnDigest], columns: &[Option<ArrayRef>], rows: usize) {
        for (digest, column) in digests.iter_mut().zip(columns) {
            match column {
                Some(array) => digest.array(array),
                None => digest.nulls(rows),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_was_pushed(
            batches in prop::collection::vec(
                prop::collection::vec(
                    (prop::option::of(any::<i64>()), prop::option::of("[a-c]{0,4}"), prop::option::of(any::<bool>())),
                    1..20,
                ),
                1..20,
            ),
            takes in prop::collection::vec(0..40_usize, 0..6),
        ) {
            let mut pending = Pending::new(schema());
            let mut expected = vec![ColumnDigest::new(); 3];
            let mut found = vec![ColumnDigest::new(); 3];
            let mut takes = takes.into_iter();
            let mut count = 0;
            for batch in &batches {
                let rows = rows(batch);
                told(&mut expected, &rows.columns, rows.rows);
                pending.push(&rows);
                count += rows.rows;
                prop_assert_eq!(pending.rows(), count);
                if let Some(take) = takes.next() {
                    let pieces = pending.take(take);
                    let taken: usize = pieces.iter().map(|piece| piece.rows).sum();
                    prop_assert_eq!(taken, take.min(count));
                    count -= taken;
                    pieces.iter().for_each(|piece| told(&mut found, &piece.columns, piece.rows));
                }
            }
            for piece in pending.take(usize::MAX) {
                told(&mut found, &piece.columns, piece.rows);
            }
            prop_assert_eq!((pending.rows(), pending.bytes()), (0, 0));
            for (expected, found) in expected.into_iter().zip(found) {
                prop_assert_eq!(expected.finish(), found.finish());
            }
        }
    }

    #[test]
    fn bytes_are_those_of_the_values() {
        let mut pending = Pending::new(schema());
        let one = rows(&[(Some(1), None, None)]);
        (0..100).for_each(|_| pending.push(&one));
        assert_eq!(pending.bytes(), 800);
        // A column is filled up with nulls once it has a value.
        pending.push(&rows(&[(None, Some("four".into()), None)]));
        assert_eq!(pending.bytes(), 808 + 404 + 4);
    }

    #[test]
    fn batches_are_not_kept() {
        let big: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20), "y".into()]));
        let small = big.slice(1, 1);
        let mut pending = Pending::new(schema());
        let mut rows = rows(&[(None, Some("y".into()), None)]);
        rows.columns[1] = Some(small);
        pending.push(&rows);
        assert_eq!(pending.bytes(), 5);
        drop((big, rows));
        let pieces = pending.take(usize::MAX);
        let held = pieces[0].columns[1].as_ref().unwrap();
        assert!(held.get_buffer_memory_size() < 64 << 10);
    }
}
