//! The types of a stream's columns, read from its schema message.
//!
//! Only types that can become a field are taken: numbers, text, times, booleans, and lists, structs and maps of them,
//! which become JSON. Every element of every one of them takes at least a bit, so a stream cannot claim more elements
//! than its bytes have bits: types without bytes (null below the top, structs without fields, lists of size 0) are
//! refused, as are those that repeat values (run ends, views of lists).

use std::sync::Arc;

use arrow_ipc::{Precision, TimeUnit as IpcUnit, Type};
use arrow_schema::{DataType, Field, Fields, TimeUnit};

use crate::error::{Code, Fault, Faulty, shown};

/// A column, as the schema describes it.
#[derive(Clone, Debug)]
pub(super) struct ColumnType {
    pub(super) name: String,
    pub(super) shape: Shape,
}

/// A type, with what is needed to read its arrays.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Of the values, where there is a dictionary.
    pub(super) data_type: DataType,
    pub(super) dictionary: Option<Dictionary>,
    pub(super) children: Vec<Shape>,
}

/// A dictionary that values are taken from.
#[derive(Clone, Debug)]
pub(super) struct Dictionary {
    pub(super) id: i64,
    pub(super) keys: DataType,
}

impl Shape {
    /// The type of the arrays themselves.
    pub(super) fn array_type(&self) -> DataType {
        match &self.dictionary {
            None => self.data_type.clone(),
            Some(dictionary) => DataType::Dictionary(
                Box::new(dictionary.keys.clone()),
                Box::new(self.data_type.clone()),
            ),
        }
    }

    /// The shape of a dictionary's values, by its number.
    pub(super) fn dictionary_values(&self, id: i64) -> Option<Shape> {
        match &self.dictionary {
            Some(dictionary) if dictionary.id == id => Some(Self {
                dictionary: None,
                ..self.clone()
            }),
            _ => self
                .children
                .iter()
                .find_map(|child| child.dictionary_values(id)),
        }
    }
}

/// The columns of a schema message.
pub(super) fn columns(schema: arrow_ipc::Schema<'_>) -> Faulty<Vec<ColumnType>> {
    if schema.endianness() != arrow_ipc::Endianness::Little {
        return Err(unsupported("the stream", "big-endian numbers"));
    }
    let fields = schema.fields().into_iter().flatten();
    fields
        .map(|field| {
            let name = field.name().unwrap_or_default().to_owned();
            let shape = shape(field, &name, true)?;
            Ok(ColumnType { name, shape })
        })
        .collect()
}

/// The value of a key in a schema's metadata.
pub(super) fn metadata<'a>(schema: arrow_ipc::Schema<'a>, key: &str) -> Option<&'a str> {
    let entries = schema.custom_metadata().into_iter().flatten();
    entries
        .filter(|entry| entry.key() == Some(key))
        .find_map(|entry| entry.value())
}

// The depth of fields is bounded by the check of the message that holds them.
fn shape(field: arrow_ipc::Field<'_>, column: &str, top: bool) -> Faulty<Shape> {
    let children = || -> Faulty<Vec<(String, Shape)>> {
        let fields = field.children().into_iter().flatten();
        fields
            .map(|child| {
                let name = child.name().unwrap_or_default().to_owned();
                Ok((name, shape(child, column, false)?))
            })
            .collect()
    };
    let dictionary = match field.dictionary() {
        None => None,
        Some(dictionary) => Some(Dictionary {
            id: dictionary.id(),
            keys: dictionary
                .indexType()
                .and_then(integer)
                .ok_or_else(|| unsupported(column, "keys of an unknown type"))?,
        }),
    };
    let scalar = |data_type| Shape {
        data_type,
        dictionary: dictionary.clone(),
        children: Vec::new(),
    };
    if let Some(data_type) = scalar_type(field) {
        return Ok(scalar(data_type));
    }
    let found = field
        .type_type()
        .variant_name()
        .unwrap_or("an unknown type");
    if dictionary.is_some() {
        return Err(unsupported(column, &format!("a dictionary of {found}")));
    }
    if field.type_type() == Type::Null && top {
        return Ok(scalar(DataType::Null));
    }
    let mut children = children()?;
    if let (Type::Map, [(_, entries)]) = (field.type_type(), &mut children[..]) {
        with_keys(entries);
    }
    let data_type = nested_type(field, &children)
        .ok_or_else(|| unsupported(column, &format!("values of the type {found}")))?;
    Ok(Shape {
        data_type,
        dictionary: None,
        children: children.into_iter().map(|(_, shape)| shape).collect(),
    })
}

fn scalar_type(field: arrow_ipc::Field<'_>) -> Option<DataType> {
    let data_type = match field.type_type() {
        Type::Bool => DataType::Boolean,
        Type::Int => integer(field.type_as_int()?)?,
        Type::FloatingPoint => match field.type_as_floating_point()?.precision() {
            Precision::HALF => DataType::Float16,
            Precision::SINGLE => DataType::Float32,
            Precision::DOUBLE => DataType::Float64,
            _ => return None,
        },
        Type::Utf8 => DataType::Utf8,
        Type::LargeUtf8 => DataType::LargeUtf8,
        Type::Utf8View => DataType::Utf8View,
        // Naive times are UTC, and the others count from the same moment, whatever their zone.
        Type::Timestamp => DataType::Timestamp(
            match field.type_as_timestamp()?.unit() {
                IpcUnit::SECOND => TimeUnit::Second,
                IpcUnit::MILLISECOND => TimeUnit::Millisecond,
                IpcUnit::MICROSECOND => TimeUnit::Microsecond,
                IpcUnit::NANOSECOND => TimeUnit::Nanosecond,
                _ => return None,
            },
            None,
        ),
        _ => return None,
    };
    Some(data_type)
}

fn integer(int: arrow_ipc::Int<'_>) -> Option<DataType> {
    Some(match (int.bitWidth(), int.is_signed()) {
        (8, true) => DataType::Int8,
        (8, false) => DataType::UInt8,
        (16, true) => DataType::Int16,
        (16, false) => DataType::UInt16,
        (32, true) => DataType::Int32,
        (32, false) => DataType::UInt32,
        (64, true) => DataType::Int64,
        (64, false) => DataType::UInt64,
        _ => return None,
    })
}

fn nested_type(field: arrow_ipc::Field<'_>, children: &[(String, Shape)]) -> Option<DataType> {
    let child =
        |(name, shape): &(String, Shape)| Arc::new(Field::new(name, shape.array_type(), true));
    match (field.type_type(), children) {
        (Type::List, [item]) => Some(DataType::List(child(item))),
        (Type::LargeList, [item]) => Some(DataType::LargeList(child(item))),
        (Type::FixedSizeList, [item]) => {
            let size = field.type_as_fixed_size_list()?.listSize();
            (size > 0).then(|| DataType::FixedSizeList(child(item), size))
        }
        (Type::Struct_, [_, ..]) => Some(DataType::Struct(
            children.iter().map(child).collect::<Fields>(),
        )),
        (Type::Map, [(name, entries)]) => {
            let sound = match &entries.data_type {
                DataType::Struct(fields) if fields.len() == 2 => is_text(fields[0].data_type()),
                _ => false,
            };
            let entries = Arc::new(Field::new(name, entries.array_type(), false));
            sound.then_some(DataType::Map(entries, false))
        }
        _ => None,
    }
}

/// Makes the first field of a map's entries one without nulls: the keys.
fn with_keys(entries: &mut Shape) {
    if let DataType::Struct(fields) = &entries.data_type {
        let fields = fields.iter().enumerate().map(|(at, field)| {
            let field = field.as_ref().clone();
            Arc::new(field.with_nullable(at > 0))
        });
        entries.data_type = DataType::Struct(fields.collect());
    }
}

/// Whether a type is one of text, not of dictionaries of it.
pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn unsupported(column: &str, what: &str) -> Box<Fault> {
    let message = format!(
        "column {:?} has {what}, which no field can take",
        shown(column)
    );
    Fault::new(Code::UnsupportedArrowType, 0, message).in_field(column)
}
