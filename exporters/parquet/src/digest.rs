//! A checksum over the values of a column: equal for equal values, however they are cut into arrays and whatever lies
//! under nulls.
//!
//! Three streams are hashed: the lengths of alternating runs of valid and null rows, the valid values one after the
//! other, and the lengths of those that have one. Runs are told of when they end, so cuts do not show.

use arrow_array::cast::AsArray;
use arrow_array::types::{ByteArrayType, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, GenericByteArray, PrimitiveArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};
use xxhash_rust::xxh3::Xxh3;

/// What a column's values come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    rows: u64,
    nulls: u64,
    validity: u128,
    values: u128,
    lengths: u128,
}

/// The checksum of a column in the making.
#[derive(Clone)]
pub(crate) struct ColumnDigest {
    rows: u64,
    nulls: u64,
    /// Whether the run under way is one of values, and how long it is.
    run: (bool, u64),
    validity: Xxh3,
    values: Xxh3,
    lengths: Xxh3,
}

impl std::fmt::Debug for ColumnDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColumnDigest")
            .field("rows", &self.rows)
            .field("nulls", &self.nulls)
            .finish_non_exhaustive()
    }
}

impl ColumnDigest {
    pub(crate) fn new() -> Self {
        Self {
            rows: 0,
            nulls: 0,
            run: (true, 0),
            validity: Xxh3::new(),
            values: Xxh3::new(),
            lengths: Xxh3::new(),
        }
    }

    /// Rows without a value.
    pub(crate) fn nulls(&mut self, rows: usize) {
        self.rows += rows as u64;
        self.nulls += rows as u64;
        self.extend_run(false, rows);
    }

    /// The next rows.
    ///
    /// # Panics
    /// If the type is none of the log's.
    pub(crate) fn array(&mut self, array: &ArrayRef) {
        match array.data_type() {
            DataType::Int64 => self.primitive(array.as_primitive::<Int64Type>()),
            DataType::Float64 => self.primitive(array.as_primitive::<Float64Type>()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                self.primitive(array.as_primitive::<TimestampMicrosecondType>());
            }
            DataType::Boolean => {
                let values = array.as_boolean();
                let mut bytes = Vec::new();
                self.runs(array.len(), array.nulls(), |_, from, to| {
                    bytes.extend((from..to).map(|row| u8::from(values.value(row))));
                });
                self.values.update(&bytes);
            }
            DataType::Utf8 => self.bytes(array.as_string::<i32>()),
            DataType::Binary => self.bytes(array.as_binary::<i32>()),
            other => unreachable!("no field of the log has the type {other}"),
        }
    }

    /// What all rows come to.
    pub(crate) fn finish(mut self) -> Sum {
        self.end_run();
        Sum {
            rows: self.rows,
            nulls: self.nulls,
            validity: self.validity.digest128(),
            values: self.values.digest128(),
            lengths: self.lengths.digest128(),
        }
    }

    fn primitive<T: ArrowPrimitiveType>(&mut self, array: &PrimitiveArray<T>) {
        let width = size_of::<T::Native>();
        let bytes = array.values().inner().as_slice();
        self.runs(array.len(), array.nulls(), |digest, from, to| {
            digest.values.update(&bytes[from * width..to * width]);
        });
    }

    fn bytes<T: ByteArrayType<Offset = i32>>(&mut self, array: &GenericByteArray<T>) {
        let (offsets, bytes) = (array.value_offsets(), array.value_data());
        let mut lengths = Vec::with_capacity(LENGTHS);
        self.runs(array.len(), array.nulls(), |digest, from, to| {
            let range = offsets[from] as usize..offsets[to] as usize;
            digest.values.update(&bytes[range]);
            for pair in offsets[from..=to].windows(2) {
                lengths.extend_from_slice(&(pair[1] - pair[0]).to_le_bytes());
                if lengths.len() >= LENGTHS {
                    digest.lengths.update(&lengths);
                    lengths.clear();
                }
            }
        });
        self.lengths.update(&lengths);
    }

    /// Goes through the runs of values, and notes those of nulls.
    fn runs(
        &mut self,
        rows: usize,
        nulls: Option<&NullBuffer>,
        mut values: impl FnMut(&mut Self, usize, usize),
    ) {
        self.rows += rows as u64;
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else {
            self.extend_run(true, rows);
            values(self, 0, rows);
            return;
        };
        self.nulls += nulls.null_count() as u64;
        let mut at = 0;
        for (from, to) in nulls.valid_slices() {
            self.extend_run(false, from - at);
            self.extend_run(true, to - from);
            values(self, from, to);
            at = to;
        }
        self.extend_run(false, rows - at);
    }

    fn extend_run(&mut self, valid: bool, rows: usize) {
        if rows == 0 {
            return;
        }
        if self.run.0 != valid {
            self.end_run();
            self.run = (valid, 0);
        }
        self.run.1 += rows as u64;
    }

    fn end_run(&mut self) {
        let (valid, rows) = self.run;
        if rows > 0 {
            self.validity
                .update(&(rows << 1 | u64::from(valid)).to_le_bytes());
        }
    }
}

/// Lengths are hashed so many bytes at a time.
const LENGTHS: usize = 4096;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn whole(array: &ArrayRef) -> Sum {
        let mut digest = ColumnDigest::new();
        digest.array(array);
        digest.finish()
    }

    /// The column told in pieces; a piece without a value as nulls, as the log does.
    fn pieces(array: &ArrayRef, cuts: &[usize]) -> Sum {
        let mut digest = ColumnDigest::new();
        let mut at = 0;
        for cut in cuts
            .iter()
            .map(|cut| cut % (array.len() + 1))
            .chain([array.len()])
        {
            let piece = array.slice(at, cut.max(at) - at);
            if piece.null_count() == piece.len() {
                digest.nulls(piece.len());
            } else {
                digest.array(&piece);
            }
            at += piece.len();
        }
        digest.finish()
    }

    fn column() -> impl Strategy<Value = ArrayRef> {
        let rows = 0..60_usize;
        prop_oneof![
            prop::collection::vec(prop::option::of("[ab]{0,3}"), rows.clone())
                .prop_map(|rows| Arc::new(StringArray::from(rows)) as ArrayRef),
            prop::collection::vec(prop::option::of(0..3_i64), rows.clone())
                .prop_map(|rows| Arc::new(Int64Array::from(rows)) as ArrayRef),
            prop::collection::vec(prop::option::of(any::<bool>()), rows)
                .prop_map(|rows| Arc::new(BooleanArray::from(rows)) as ArrayRef),
        ]
    }

    proptest! {
        #[test]
        fn cuts_do_not_show(array in column(), mut cuts in prop::collection::vec(0..60_usize, 0..8)) {
            cuts.sort_unstable();
            prop_assert_eq!(whole(&array), pieces(&array, &cuts));
        }

        #[test]
        fn different_values_are_told_apart(
            one in prop::collection::vec(prop::option::of("[ab]{0,2}"), 0..12),
            other in prop::collection::vec(prop::option::of("[ab]{0,2}"), 0..12),
        ) {
            let sum = |rows: &Vec<Option<String>>| {
                whole(&(Arc::new(StringArray::from(rows.clone())) as ArrayRef))
            };
            prop_assert_eq!(sum(&one) == sum(&other), one == other);
        }
    }

    #[test]
    fn nulls_and_empty_text_differ_and_what_lies_under_nulls_does_not_count() {
        let sum = |rows: Vec<Option<&str>>| whole(&(Arc::new(StringArray::from(rows)) as ArrayRef));
        assert_ne!(sum(vec![None]), sum(vec![Some("")]));
        assert_ne!(sum(vec![None, Some("")]), sum(vec![Some(""), None]));
        assert_ne!(
            sum(vec![Some("ab"), Some("")]),
            sum(vec![Some("a"), Some("b")])
        );
        let under = |value: i64| {
            let nulls = NullBuffer::from(vec![true, false, true]);
            whole(&(Arc::new(Int64Array::new(vec![1, value, 3].into(), Some(nulls))) as ArrayRef))
        };
        assert_eq!(under(0), under(i64::MIN));
    }

    #[test]
    fn floats_count_by_their_bits() {
        let sum = |value: f64| whole(&(Arc::new(Float64Array::from(vec![value])) as ArrayRef));
        assert_ne!(sum(0.0), sum(-0.0));
        assert_eq!(sum(f64::NAN), sum(f64::NAN));
        assert_ne!(sum(f64::NAN), sum(f64::from_bits(f64::NAN.to_bits() | 1)));
    }
}
