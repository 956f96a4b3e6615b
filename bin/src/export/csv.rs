//! Events of one kind as CSV (RFC 4180), with a header.
//!
//! A field without a value is empty, an empty text is `""`: so they can be told apart, as in PostgreSQL's CSV. Times are
//! RFC 3339 in UTC, numbers that are not finite are spelled as in JSON, JSON is text, bytes are base64.
//!
//! # Why not a crate
//! Those there are either quote every empty field or none.

use std::io::{self, Write};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};
use base64::Engine as _;
use modelog_engine::Timestamp;
use modelog_engine::batch::non_finite;

/// Writes the names of the columns.
pub(super) fn header(schema: &Schema, out: &mut Vec<u8>) {
    for (at, field) in schema.fields().iter().enumerate() {
        separate(at, out);
        text(field.name(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes one row.
///
/// # Errors
/// If a column is of a type that events do not have.
pub(super) fn row(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) -> io::Result<()> {
    for (at, column) in batch.columns().iter().enumerate() {
        separate(at, out);
        if column.is_valid(row) {
            value(&**column, row, out)?;
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn separate(at: usize, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
}

fn value(column: &dyn Array, row: usize, out: &mut Vec<u8>) -> io::Result<()> {
    match column.data_type() {
        DataType::Utf8 => {
            text(column.as_string::<i32>().value(row), out);
            Ok(())
        }
        DataType::Int64 => write!(out, "{}", column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => {
            let number = column.as_primitive::<Float64Type>().value(row);
            if number.is_finite() {
                write!(out, "{number}")
            } else {
                out.extend_from_slice(non_finite(number).as_bytes());
                Ok(())
            }
        }
        DataType::Boolean => write!(out, "{}", column.as_boolean().value(row)),
        DataType::Timestamp(..) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            write!(out, "{}", Timestamp::from_micros(micros))
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            text(&encoded, out);
            Ok(())
        }
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no event has a column of the type {other}"),
        )),
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    let bare = !text.is_empty()
        && !text
            .bytes()
            .any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'))
        // Readers that trim fields must not trim values.
        && !text.starts_with(' ')
        && !text.ends_with(' ');
    if bare {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelog_engine::Offset;
    use modelog_engine::event::{Kind, schema};

    fn field(value: &str) -> String {
        let mut out = Vec::new();
        text(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_are_quoted_when_they_must_be() {
        assert_eq!(field("tabby cat"), "tabby cat");
        assert_eq!(field(""), "\"\"");
        assert_eq!(field("a,b"), "\"a,b\"");
        assert_eq!(field("say \"hi\"\r\n"), "\"say \"\"hi\"\"\r\n\"");
        assert_eq!(field(" padded "), "\" padded \"");
    }

    #[test]
    fn every_kind_has_a_header_and_absent_values_are_empty() {
        for kind in Kind::ALL {
            let schema = schema::arrow_schema(kind);
            let mut out = Vec::new();
            header(&schema, &mut out);
            let columns = String::from_utf8(out)
                .unwrap()
                .trim_end()
                .split(',')
                .count();
            assert_eq!(columns, schema.fields().len());
        }
        let mut batch = modelog_formats::decode(
            br#"{"type":"MetricLogged","run":"r","name":"loss","value":"NaN","split":"","time":"2026-11-22T17:00:00Z"}"#,
            modelog_formats::Format::Json,
            &modelog_formats::Options::default(),
        )
        .unwrap()
        .batch;
        batch.add_origin(modelog_engine::origin::Origin::whole(
            modelog_engine::origin::Source::Call {
                key: "k".into(),
                body: 0,
            },
        ));
        let directory = tempfile::tempdir().unwrap();
        let engine = modelog_engine::Engine::open(directory.path()).unwrap();
        engine.append_blocking(batch, Default::default()).unwrap();
        let logged = engine.reader(Offset::ZERO).read(1 << 20).unwrap();
        let table = &logged[0].tables[0];
        let record = table.to_record_batch(Offset::ZERO, logged[0].append_time);
        let mut out = Vec::new();
        row(&record, 0, &mut out).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert!(line.starts_with("0,"), "{line}");
        assert!(
            line.ends_with(",,,2026-11-22T17:00:00Z,,loss,NaN,r,,,,,\"\"\r\n"),
            "{line}"
        );
    }
}
