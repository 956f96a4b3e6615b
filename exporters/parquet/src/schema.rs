//! The columns of files.
//!
//! Files of events have the columns of [`modelog_engine::event::schema::arrow_schema`], in that order. [`OriginColumn`]
//! names those of the rows that say where batches came from: which of them have values depends on `source`. Integers are
//! INT64 throughout, which every reader knows; unsigned ones of 64 bits (`body_hash`, `sequence`) keep their bits.

use std::sync::{Arc, OnceLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use modelog_engine::event::schema::arrow_schema;

use crate::layout::FileKind;

/// The version of all columns, in every file's footer. New columns are new nullable ones at the end.
pub const VERSION: u32 = 1;

/// Keys in a file's footer.
pub mod keys {
    /// What the rows are: a [`FileKind`](crate::layout::FileKind)'s name.
    pub const KIND: &str = "modelog.kind";
    /// The log's uuid.
    pub const LOG: &str = "modelog.log";
    /// [`VERSION`](super::VERSION).
    pub const SCHEMA: &str = "modelog.schema";
}

/// What stands in the column `source` of origins.
pub mod sources {
    pub const CALL: &str = "call";
    pub const PRODUCER: &str = "producer";
    pub const KAFKA: &str = "kafka";
}

/// A column of origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum OriginColumn {
    /// Offset of the first event of the batch.
    LogOffset,
    AppendTime,
    /// Place, in the batch, of the first event it brought.
    FirstOrd,
    Rows,
    Rejected,
    Duplicates,
    /// One of [`sources`].
    Source,
    /// Of a call.
    Key,
    BodyHash,
    /// Of a producer.
    Producer,
    ProducerEpoch,
    Sequence,
    /// Of a Kafka partition.
    Cluster,
    Topic,
    /// A uuid; null where the broker does not tell it.
    TopicId,
    Partition,
    FirstPosition,
    NextPosition,
    LeaderEpoch,
}

impl OriginColumn {
    /// All of them, in their order.
    pub const ALL: [Self; 19] = [
        Self::LogOffset,
        Self::AppendTime,
        Self::FirstOrd,
        Self::Rows,
        Self::Rejected,
        Self::Duplicates,
        Self::Source,
        Self::Key,
        Self::BodyHash,
        Self::Producer,
        Self::ProducerEpoch,
        Self::Sequence,
        Self::Cluster,
        Self::Topic,
        Self::TopicId,
        Self::Partition,
        Self::FirstPosition,
        Self::NextPosition,
        Self::LeaderEpoch,
    ];

    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogOffset => "log_offset",
            Self::AppendTime => "append_time",
            Self::FirstOrd => "first_ord",
            Self::Rows => "rows",
            Self::Rejected => "rejected",
            Self::Duplicates => "duplicates",
            Self::Source => "source",
            Self::Key => "key",
            Self::BodyHash => "body_hash",
            Self::Producer => "producer",
            Self::ProducerEpoch => "producer_epoch",
            Self::Sequence => "sequence",
            Self::Cluster => "cluster",
            Self::Topic => "topic",
            Self::TopicId => "topic_id",
            Self::Partition => "partition",
            Self::FirstPosition => "first_position",
            Self::NextPosition => "next_position",
            Self::LeaderEpoch => "leader_epoch",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::AppendTime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Source
            | Self::Key
            | Self::Producer
            | Self::Cluster
            | Self::Topic
            | Self::TopicId => DataType::Utf8,
            _ => DataType::Int64,
        }
    }

    fn is_nullable(self) -> bool {
        self as usize > Self::Source as usize
    }
}

/// The columns of files of a kind.
#[must_use]
pub fn file_schema(kind: FileKind) -> SchemaRef {
    match kind {
        FileKind::Events(kind) => arrow_schema(kind),
        FileKind::Origin => origin_schema(),
    }
}

fn origin_schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let fields: Vec<_> = OriginColumn::ALL
            .into_iter()
            .map(|column| Field::new(column.name(), column.data_type(), column.is_nullable()))
            .collect();
        Arc::new(Schema::new(fields))
    });
    Arc::clone(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_columns_lie_at_their_number() {
        let schema = file_schema(FileKind::Origin);
        for (place, column) in OriginColumn::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, place);
            assert_eq!(schema.field(place).name(), column.name());
        }
    }

    #[test]
    fn every_file_starts_with_offset_and_append_time() {
        for kind in FileKind::all() {
            let schema = file_schema(kind);
            assert_eq!(schema.field(0).name(), "log_offset", "{kind}");
            assert_eq!(schema.field(1).name(), "append_time", "{kind}");
            // No column of the path is repeated inside: readers refuse that.
            for partition in ["kind", "date"] {
                assert!(schema.column_with_name(partition).is_none(), "{kind}");
            }
        }
    }

    #[test]
    fn no_column_is_of_a_type_that_readers_stumble_over() {
        for kind in FileKind::all() {
            for field in file_schema(kind).fields() {
                let sound = match field.data_type() {
                    // Spark refuses nanoseconds; without a zone, times are read as local ones.
                    DataType::Timestamp(unit, zone) => {
                        *unit == TimeUnit::Microsecond && zone.as_deref() == Some("UTC")
                    }
                    DataType::Boolean
                    | DataType::Int64
                    | DataType::Float64
                    | DataType::Utf8
                    | DataType::Binary => true,
                    _ => false,
                };
                assert!(sound, "{kind}.{} is {}", field.name(), field.data_type());
                // An extension type makes old Polars panic.
                assert!(
                    field.metadata().is_empty(),
                    "{kind}.{} is marked",
                    field.name()
                );
            }
        }
    }
}
