//! One event of a logged batch, seen as a row.

use super::builder::fill;
use super::{LoggedBatch, Table};
use crate::event::schema::{self, FieldType, Presence};
use crate::event::{Event, Json, Kind, Slot};
use crate::{Offset, Timestamp};

/// An event where it lies in its batch.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub(super) batch: &'a LoggedBatch,
    pub(super) table: &'a Table,
    pub(super) row: usize,
}

impl<'a> Row<'a> {
    /// Position in the log.
    #[must_use]
    pub fn offset(self) -> Offset {
        self.batch
            .first_offset
            .advance(self.table.ord(self.row).into())
    }

    /// The kind of the event.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.table.kind()
    }

    /// The table the row is in, and its place there.
    #[must_use]
    pub fn place(self) -> (&'a Table, usize) {
        (self.table, self.row)
    }

    /// When the log took it.
    #[must_use]
    pub fn append_time(self) -> Timestamp {
        self.batch.append_time
    }

    /// When it happened: what the producer said, else when the log took it.
    #[must_use]
    pub fn time(self) -> Timestamp {
        self.table
            .times(schema::TIME)
            .get(self.row)
            .unwrap_or(self.batch.append_time)
    }

    /// Text, a name or JSON.
    #[must_use]
    pub fn text(self, column: usize) -> Option<&'a str> {
        self.table.text(column).get(self.row)
    }

    /// An integer.
    #[must_use]
    pub fn int(self, column: usize) -> Option<i64> {
        self.table.ints(column).get(self.row)
    }

    /// A number.
    #[must_use]
    pub fn float(self, column: usize) -> Option<f64> {
        self.table.floats(column).get(self.row)
    }

    /// A boolean.
    #[must_use]
    pub fn boolean(self, column: usize) -> Option<bool> {
        self.table.booleans(column).get(self.row)
    }

    /// Raw bytes.
    #[must_use]
    pub fn bytes(self, column: usize) -> Option<&'a [u8]> {
        self.table.bytes(column).get(self.row)
    }

    /// The event as a value.
    #[must_use]
    pub fn to_event(self) -> Event {
        let owned = |column| self.text(column).map(str::to_owned);
        let json = |column| self.text(column).map(Json::trusted);
        let fact = fill(self.kind(), |column, slot| match slot {
            Slot::Text(value) => *value = owned(column).unwrap_or_default(),
            Slot::OptionalText(value) => *value = owned(column),
            Slot::Json(value) => *value = json(column).unwrap_or_default(),
            Slot::OptionalJson(value) => *value = json(column),
            Slot::Int(value) => *value = self.int(column).unwrap_or_default(),
            Slot::OptionalInt(value) => *value = self.int(column),
            Slot::Float(value) => *value = self.float(column).unwrap_or_default(),
            Slot::OptionalFloat(value) => *value = self.float(column),
            Slot::OptionalBool(value) => *value = self.boolean(column),
            Slot::OptionalBytes(value) => *value = self.bytes(column).map(<[u8]>::to_vec),
        });
        Event {
            id: owned(schema::ID),
            source: owned(schema::SOURCE),
            time: Some(self.time()),
            extra: json(schema::EXTRA),
            fact,
        }
    }

    /// Appends the event as one JSON object: `type`, `log_offset`, `append_time`, then every field that has a value; also
    /// the null of a field that must be stated, such as the version of an alias that is taken away.
    /// JSON fields come out byte for byte; numbers that are not finite are strings; bytes are base64.
    pub fn write_json(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(self.kind().name().as_bytes());
        out.extend_from_slice(b"\",\"log_offset\":");
        write_value(out, &self.offset().0);
        out.extend_from_slice(b",\"append_time\":");
        write_value(out, &self.append_time().to_string());
        write_fields(self.table, self.row, Some(self.time()), out);
        out.push(b'}');
    }
}

impl Row<'_> {
    /// Appends the event as [`write_json`](Self::write_json) does, on one line: a line break between the tokens of a JSON
    /// field, which is never part of a value, becomes a blank. No line break is added at the end.
    pub fn write_json_line(self, out: &mut Vec<u8>) {
        let start = out.len();
        self.write_json(out);
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}

/// Appends `,"name":value` for every field that has a value, and for one that must be stated; the time only if there is
/// one.
pub(super) fn write_fields(table: &Table, row: usize, time: Option<Timestamp>, out: &mut Vec<u8>) {
    for (column, field) in schema::fields(table.kind()).enumerate().skip(1) {
        let time = table
            .times(schema::TIME)
            .get(row)
            .or(time)
            .filter(|_| column == schema::TIME);
        let null = time.is_none() && !table.has(column, row);
        if null && field.presence != Presence::Stated {
            continue;
        }
        out.push(b',');
        write_value(out, field.name);
        out.push(b':');
        if null {
            // Left out, it would say nothing, and whoever takes events would refuse it.
            out.extend_from_slice(b"null");
            continue;
        }
        match field.ty {
            FieldType::Json | FieldType::JsonObject => {
                out.extend_from_slice(table.text(column).get(row).unwrap_or("null").as_bytes());
            }
            FieldType::Int | FieldType::Ord => write_value(out, &table.ints(column).get(row)),
            FieldType::Float => match table.floats(column).get(row) {
                Some(value) if !value.is_finite() => write_value(out, non_finite(value)),
                value => write_value(out, &value),
            },
            FieldType::Bool => write_value(out, &table.booleans(column).get(row)),
            FieldType::Time => write_value(out, &time.map(|time| time.to_string())),
            FieldType::Bytes => write_value(
                out,
                &base64(table.bytes(column).get(row).unwrap_or_default()),
            ),
            FieldType::Text | FieldType::Name(_) | FieldType::Word(_) | FieldType::Entity => {
                write_value(out, table.text(column).get(row).unwrap_or_default());
            }
        }
    }
}

/// How a number that is not finite is spelled.
#[must_use]
pub fn non_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn write_value(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(out, value)
        .expect("strings and numbers have a JSON form, and a vector takes all bytes");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
