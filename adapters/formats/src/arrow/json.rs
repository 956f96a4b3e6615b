//! Arrow values as JSON text: structs and maps become objects, lists become arrays.
//!
//! Nulls within objects are left out, as the fields of events are; numbers that are not finite are spelled as strings,
//! like everywhere. `arrow-json` writes them as null, and stops neither at nulls in dictionaries nor at a size.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, downcast_dictionary_array};
use arrow_schema::DataType;
use modelog_engine::Timestamp;
use modelog_engine::batch::non_finite;
use serde::Serialize;

use super::column::micros;

/// Appends the JSON of a row's value.
pub(super) fn write(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match array.data_type() {
        DataType::Boolean => put(out, &array.as_boolean().value(row)),
        DataType::Int8 => put(out, &array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => put(out, &array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => put(out, &array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => put(out, &array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => put(out, &array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => put(out, &array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => put(out, &array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => put(out, &array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float16 => float(out, array.as_primitive::<Float16Type>().value(row).to_f32()),
        DataType::Float32 => float(out, array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => put(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => put(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => put(out, array.as_string_view().value(row)),
        DataType::Timestamp(unit, _) => {
            put(
                out,
                &Timestamp::from_micros(micros(array, *unit, row)).to_string(),
            );
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(_, _) => list(&array.as_fixed_size_list().value(row), out),
        DataType::Struct(fields) => {
            let members = fields.iter().zip(array.as_struct().columns());
            object(
                members.map(|(field, array)| (field.name().as_str(), array, row)),
                out,
            );
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let members = (0..entries.len()).map(|entry| (text(keys, entry), values, entry));
            object(members, out);
        }
        DataType::Dictionary(_, _) => downcast_dictionary_array!(
            array => write(array.values(), array.key(row).unwrap_or_default(), out),
            _ => unreachable!("the type is that of a dictionary")
        ),
        _ => unreachable!("other types are refused with the schema"),
    }
}

/// Appends an object of the members that are not null.
pub(super) fn object<'a>(
    members: impl Iterator<Item = (&'a str, &'a ArrayRef, usize)>,
    out: &mut Vec<u8>,
) {
    let mut separator = b'{';
    for (name, array, row) in members {
        if is_null(array, row) {
            continue;
        }
        out.push(separator);
        separator = b',';
        put(out, name);
        out.push(b':');
        write(array, row, out);
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

/// Whether a row has no value, in the array or in its dictionary.
pub(super) fn is_null(array: &dyn Array, row: usize) -> bool {
    match array.data_type() {
        DataType::Null => true,
        _ if array.is_null(row) => true,
        DataType::Dictionary(_, _) => downcast_dictionary_array!(
            array => array.key(row).is_none_or(|key| array.values().is_null(key)),
            _ => unreachable!("the type is that of a dictionary")
        ),
        _ => false,
    }
}

fn list(items: &ArrayRef, out: &mut Vec<u8>) {
    out.push(b'[');
    for item in 0..items.len() {
        if item > 0 {
            out.push(b',');
        }
        write(items, item, out);
    }
    out.push(b']');
}

/// The key of a map's entry.
fn text(array: &ArrayRef, row: usize) -> &str {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row),
        _ => array.as_string_view().value(row),
    }
}

fn float<F: Into<f64> + Copy + Serialize>(out: &mut Vec<u8>, value: F) {
    if value.into().is_finite() {
        put(out, &value);
    } else {
        put(out, non_finite(value.into()));
    }
}

fn put(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value)
        .expect("text and finite numbers have a JSON form, and a vector takes all bytes");
}
