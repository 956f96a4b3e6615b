//! One Parquet file: what its footer says, and its rows from an offset on.

use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::SchemaRef;
use modelog_engine::{LogId, Offset, Storage};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::bytes::FileBytes;
use super::error::{FileError, Place};
use super::guard::caught;
use super::stream::{Part, RowStream};

/// The column that holds a row's place in its log.
pub(crate) const LOG_OFFSET: &str = "log_offset";
/// The column that holds when the log took a row.
pub(crate) const APPEND_TIME: &str = "append_time";

/// About how many bytes of rows are decoded at a time.
const PIECE_BYTES: usize = 2 << 20;
/// The most rows decoded at a time.
const PIECE_ROWS_MAX: usize = 8 << 10;
/// Columns of files with fewer bytes in a piece are not worth a second decoder.
const SPLIT_BYTES_MIN: usize = 256 << 10;

/// An open Parquet file.
#[derive(Debug)]
pub struct ParquetFile {
    path: PathBuf,
    bytes: FileBytes,
    metadata: ArrowReaderMetadata,
    groups: Vec<Group>,
}

/// What the footer tells of a row group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) rows: usize,
    /// The least and the greatest offset, where the footer has them.
    pub(crate) offsets: Option<(u64, u64)>,
    /// Where it starts in the file.
    pub(crate) position: u64,
    /// About how many bytes a decoded row takes.
    row_bytes: usize,
}

impl Group {
    /// Whether events of `from..end` may be in it.
    fn may_hold(&self, from: Offset, end: Offset) -> bool {
        self.rows > 0
            && self
                .offsets
                .is_none_or(|(least, greatest)| greatest >= from.0 && least < end.0)
    }
}

/// Which columns to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Every column in which some row has a value.
    All,
    /// Where the rows belong and when they came: `log_offset` and `append_time`.
    Places,
}

impl ParquetFile {
    /// Opens a file and reads its footer. Nothing is checked but that the footer is one.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read, or is no Parquet file.
    pub fn open(storage: &dyn Storage, path: &Path) -> Result<Self, FileError> {
        Self::open_at(storage, path, Offset::ZERO)
    }

    /// The same, of a file known to hold events from an offset on.
    pub(crate) fn open_at(
        storage: &dyn Storage,
        path: &Path,
        offset: Offset,
    ) -> Result<Self, FileError> {
        let file = storage
            .open(path, false)
            .map_err(FileError::io("opening", path))?;
        let bytes = FileBytes::new(file).map_err(FileError::io("measuring", path))?;
        Self::from_bytes(bytes, path, offset)
    }

    pub(crate) fn from_bytes(
        bytes: FileBytes,
        path: &Path,
        offset: Offset,
    ) -> Result<Self, FileError> {
        let place = Place::start(path, offset);
        // The Arrow schema that other writers embed would bring types of theirs, such as dictionaries.
        let options = ArrowReaderOptions::new()
            .with_skip_arrow_metadata(true)
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Optional);
        let metadata = caught(|| ArrowReaderMetadata::load(&bytes, options))
            .map_err(|panic| place.corrupt(panic))?
            .map_err(|error| FileError::decoding(place, &bytes, &error))?;
        let read = || {
            let groups = metadata.metadata().row_groups();
            groups.iter().map(group).collect::<Vec<_>>()
        };
        let groups = caught(read).map_err(|panic| place.corrupt(panic))?;
        let counted = groups
            .iter()
            .try_fold(0_usize, |rows, group| rows.checked_add(group.rows));
        let rows = metadata.metadata().file_metadata().num_rows();
        if counted.and_then(|counted| i64::try_from(counted).ok()) != Some(rows) {
            return Err(place.corrupt("its footer contradicts itself in how many rows there are"));
        }
        Ok(Self {
            path: path.to_path_buf(),
            bytes,
            metadata,
            groups,
        })
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.len()
    }

    /// How many rows it has.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.groups.iter().map(|group| group.rows as u64).sum()
    }

    /// A value of the footer.
    #[must_use]
    pub fn footer(&self, key: &str) -> Option<&str> {
        let pairs = self.metadata.metadata().file_metadata();
        let pair = pairs
            .key_value_metadata()?
            .iter()
            .find(|pair| pair.key == key)?;
        pair.value.as_deref()
    }

    /// The log its rows come from, if it says so.
    #[must_use]
    pub fn log(&self) -> Option<LogId> {
        let id = self.footer(crate::schema::keys::LOG)?;
        id.parse().ok().map(LogId)
    }

    /// Its columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The least and the greatest offset, if the footer has them for every row group.
    #[must_use]
    pub fn offsets(&self) -> Option<(Offset, Offset)> {
        let mut range: Option<(u64, u64)> = None;
        for group in self.groups.iter().filter(|group| group.rows > 0) {
            let (least, greatest) = group.offsets?;
            let (first, last) = range.get_or_insert((least, greatest));
            *first = least.min(*first);
            *last = greatest.max(*last);
        }
        range.map(|(first, last)| (Offset(first), Offset(last)))
    }

    /// The rows of `from..end`, in the order of the file. Row groups outside are not read; a file without `log_offset`
    /// is read whole.
    pub(crate) fn stream(
        &self,
        from: Offset,
        end: Offset,
        columns: Columns,
    ) -> Result<RowStream, FileError> {
        let chosen: Vec<usize> = (0..self.groups.len())
            .filter(|number| self.groups[*number].may_hold(from, end))
            .collect();
        let skipped = match chosen.first() {
            Some(first) => self.rows_before(*first, from)?,
            None => 0,
        };
        let rows: usize = chosen.iter().map(|number| self.groups[*number].rows).sum();
        let row_bytes = chosen.iter().map(|number| self.groups[*number].row_bytes);
        let row_bytes = match columns {
            Columns::All => row_bytes.max().unwrap_or(1).max(1),
            Columns::Places => 16,
        };
        let piece_rows = (PIECE_BYTES / row_bytes).clamp(16, PIECE_ROWS_MAX);
        let parts = if rows == skipped {
            Vec::new()
        } else {
            let masks = self.split(&chosen, columns, piece_rows * row_bytes);
            masks
                .into_iter()
                .map(|mask| self.part(&chosen, mask, piece_rows, rows, skipped))
                .collect::<Result<_, _>>()?
        };
        let groups = chosen.iter().map(|number| self.groups[*number].clone());
        Ok(RowStream::new(
            (self.path.clone(), self.bytes.clone()),
            parts,
            groups.collect(),
            skipped,
            piece_rows,
        ))
    }

    /// How many rows of a row group lie before an offset, which the group may hold.
    fn rows_before(&self, number: usize, from: Offset) -> Result<usize, FileError> {
        let group = &self.groups[number];
        let Some((least, _)) = group.offsets.filter(|(least, _)| *least < from.0) else {
            return Ok(0);
        };
        let place = Place {
            path: &self.path,
            position: group.position,
            offset: Offset(least),
        };
        let Some(column) = self.column(LOG_OFFSET) else {
            return Ok(0);
        };
        let mask = ProjectionMask::leaves(self.metadata.parquet_schema(), [column]);
        let mut reader = self.part(&[number], mask, PIECE_ROWS_MAX, group.rows, 0)?;
        let mut before = 0;
        while let Some(rows) = reader
            .next()
            .transpose()
            .map_err(|error| FileError::decoding(place, &self.bytes, &error))?
        {
            let offsets = rows
                .column(0)
                .as_primitive_opt::<Int64Type>()
                .ok_or_else(|| place.corrupt("`log_offset` is no 64-bit integer"))?;
            let here = offsets
                .values()
                .partition_point(|offset| (*offset as u64) < from.0);
            before += here;
            if here < rows.num_rows() {
                break;
            }
        }
        Ok(before)
    }

    /// The place of a column among the leaves of the schema.
    fn column(&self, name: &str) -> Option<usize> {
        let columns = self.metadata.parquet_schema().columns();
        columns.iter().position(|column| column.name() == name)
    }

    /// Which columns are decoded by whom: in two halves of about equal work, where there is much of it. Columns that are
    /// null in every row are left out.
    fn split(&self, groups: &[usize], columns: Columns, piece_bytes: usize) -> Vec<ProjectionMask> {
        let schema = self.metadata.parquet_schema();
        let chunks = |column: usize| {
            groups
                .iter()
                .map(move |group| self.metadata.metadata().row_group(*group).column(column))
        };
        let wanted = |column: &usize| match columns {
            Columns::All => !chunks(*column).all(is_null),
            Columns::Places => {
                matches!(schema.column(*column).name(), LOG_OFFSET | APPEND_TIME)
            }
        };
        let mut weighed: Vec<(i64, usize)> = (0..schema.num_columns())
            .filter(wanted)
            .map(|column| (chunks(column).map(decoded_bytes).sum(), column))
            .collect();
        if weighed.is_empty() {
            // Rows of nothing but nulls are still to be counted.
            weighed.push((0, 0));
        }
        if piece_bytes < SPLIT_BYTES_MIN || weighed.len() < 2 {
            let all = weighed.iter().map(|(_, column)| *column);
            return vec![ProjectionMask::leaves(schema, all)];
        }
        weighed.sort_unstable_by(|a, b| b.cmp(a));
        let mut halves = [(0, Vec::new()), (0, Vec::new())];
        for (weight, column) in weighed {
            let lighter = usize::from(halves[1].0 < halves[0].0);
            halves[lighter].0 += weight;
            halves[lighter].1.push(column);
        }
        halves
            .into_iter()
            .map(|(_, columns)| ProjectionMask::leaves(schema, columns))
            .collect()
    }

    fn part(
        &self,
        groups: &[usize],
        mask: ProjectionMask,
        piece_rows: usize,
        rows: usize,
        skipped: usize,
    ) -> Result<Part, FileError> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            self.bytes.clone(),
            self.metadata.clone(),
        )
        .with_row_groups(groups.to_vec())
        .with_projection(mask)
        .with_batch_size(piece_rows);
        let builder = if skipped > 0 {
            builder.with_row_selection(RowSelection::from(vec![
                RowSelector::skip(skipped),
                RowSelector::select(rows - skipped),
            ]))
        } else {
            builder
        };
        let place = Place::start(&self.path, Offset::ZERO);
        let reader: ParquetRecordBatchReader = caught(|| builder.build())
            .map_err(|panic| place.corrupt(panic))?
            .map_err(|error| FileError::decoding(place, &self.bytes, &error))?;
        Ok(Part::new(reader))
    }
}

fn group(metadata: &RowGroupMetaData) -> Group {
    let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
    let decoded: i64 = metadata.columns().iter().map(decoded_bytes).sum();
    let offsets = metadata
        .columns()
        .iter()
        .find(|column| column.column_path().string() == LOG_OFFSET)
        .and_then(|column| match column.statistics()? {
            Statistics::Int64(range) => Some((*range.min_opt()?, *range.max_opt()?)),
            _ => None,
        })
        .and_then(|(least, greatest)| {
            Some((u64::try_from(least).ok()?, u64::try_from(greatest).ok()?))
        });
    Group {
        rows,
        offsets,
        position: metadata
            .columns()
            .iter()
            .map(|column| column.byte_range().0)
            .min()
            .unwrap_or(0),
        row_bytes: usize::try_from(decoded).unwrap_or(0) / rows.max(1) + 1,
    }
}

/// Whether a column is null in every row of a row group.
fn is_null(column: &ColumnChunkMetaData) -> bool {
    let nulls = column.statistics().and_then(Statistics::null_count_opt);
    nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(column.num_values()))
}

/// About how many bytes a column chunk takes once it is decoded.
fn decoded_bytes(column: &ColumnChunkMetaData) -> i64 {
    if is_null(column) {
        return 0;
    }
    let fixed = match column.column_type() {
        PhysicalType::BOOLEAN => 1,
        PhysicalType::INT32 | PhysicalType::FLOAT => 4,
        PhysicalType::BYTE_ARRAY => {
            let data = column.unencoded_byte_array_data_bytes();
            let data = data.unwrap_or_else(|| column.uncompressed_size());
            return data.saturating_add(column.num_values().saturating_mul(4));
        }
        _ => 8,
    };
    column.num_values().saturating_mul(fixed)
}
