//! How each column is written.
//!
//! The defaults of the format are made for numbers. Ours: zstd; offsets and times as differences, which take a byte or
//! less a row; no dictionary where hardly a value repeats (ids, inputs and outputs, measured values), since one is given
//! up only after it was built; a Bloom filter where people look for one value (`id`, `prediction_id`, `run`), folded by the library to
//! what the distinct values of a row group need; statistics by page, so that readers skip pages, save where the least
//! and greatest JSON text say nothing.
//!
//! All encodings are those that DuckDB, Polars, pyarrow and Spark read. The Arrow schema is not embedded: what it says
//! beyond Parquet's own types makes older readers stumble.

use modelog_engine::LogId;
use modelog_engine::event::Kind;
use modelog_engine::event::schema::{self as fields, FieldType};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::layout::FileKind;
use crate::schema::{self, OriginColumn, keys};

/// A row group has at most so many rows.
pub(crate) const ROW_GROUP_ROWS: usize = 256 << 10;

/// Measured on predictions with inputs and outputs, against level 1: level 3 takes two fifths more time and saves nothing,
/// level 6 nearly three times as much for 5 % less.
const ZSTD_LEVEL: i32 = 1;

/// How often a Bloom filter may say "perhaps" of a value that is not there.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// What people look for by one value.
const LOOKED_UP: &[&str] = &["id", "prediction_id", "run"];
/// What hardly repeats within a row group. Without a dictionary, numbers that do not repeat are smaller, too.
const DISTINCT: &[&str] = &[
    "id",
    "prediction_id",
    "request_id",
    "trace_id",
    "input",
    "output",
    "confidence",
    "predicted_value",
    "value",
    "score",
];

/// How files of a kind are written: for whoever writes the same by other means, to compare.
pub fn properties(kind: FileKind, log: LogId) -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("zstd has such a level");
    let footer = [
        (keys::KIND, kind.name().to_owned()),
        (keys::LOG, log.to_string()),
        (keys::SCHEMA, schema::VERSION.to_string()),
    ];
    let footer = footer.map(|(key, value)| KeyValue::new(key.to_owned(), value));
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_key_value_metadata(Some(footer.to_vec()));
    let builder = differences(differences(builder, "log_offset"), "append_time");
    match kind {
        FileKind::Events(kind) => events(builder, kind),
        FileKind::Origin => [
            OriginColumn::Sequence,
            OriginColumn::FirstPosition,
            OriginColumn::NextPosition,
        ]
        .into_iter()
        .fold(
            plain(builder, OriginColumn::BodyHash.name()),
            |builder, column| differences(builder, column.name()),
        ),
    }
    .build()
}

fn events(mut builder: WriterPropertiesBuilder, kind: Kind) -> WriterPropertiesBuilder {
    for field in fields::fields(kind) {
        builder = match field.ty {
            FieldType::Ord => continue,
            FieldType::Time => differences(builder, field.name),
            FieldType::Json | FieldType::JsonObject | FieldType::Bytes => {
                builder.set_column_statistics_enabled(path(field.name), EnabledStatistics::Chunk)
            }
            _ => builder,
        };
        if DISTINCT.contains(&field.name) || matches!(field.ty, FieldType::Bytes) {
            builder = plain(builder, field.name);
        }
        if LOOKED_UP.contains(&field.name) {
            builder = builder
                .set_column_bloom_filter_enabled(path(field.name), true)
                .set_column_bloom_filter_fpp(path(field.name), BLOOM_FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(path(field.name), ROW_GROUP_ROWS as u64);
        }
    }
    builder
}

fn path(column: &str) -> ColumnPath {
    ColumnPath::from(column)
}

fn plain(builder: WriterPropertiesBuilder, column: &str) -> WriterPropertiesBuilder {
    builder.set_column_dictionary_enabled(path(column), false)
}

fn differences(builder: WriterPropertiesBuilder, column: &str) -> WriterPropertiesBuilder {
    plain(builder, column).set_column_encoding(path(column), Encoding::DELTA_BINARY_PACKED)
}
