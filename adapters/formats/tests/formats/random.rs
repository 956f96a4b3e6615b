//! Random events, spelled at random: what is read is what was meant.

use modelog_engine::batch::{EventBatchBuilder, Row};
use modelog_engine::event::schema::{self, FieldType, Presence};
use modelog_engine::event::{Event, Kind};
use modelog_engine::{Offset, Timestamp};
use modelog_formats::{Format, Options, decode};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::{RECEIVED, events};

/// A value of a field.
#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Json(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Null,
}

/// An event before it is spelled.
#[derive(Clone, Debug)]
struct Meant {
    kind: Kind,
    /// By column.
    values: Vec<(usize, Value)>,
}

fn value(ty: FieldType) -> BoxedStrategy<Value> {
    match ty {
        FieldType::Name(max) => "[^\\p{Cc}]{1,12}"
            .prop_filter("short enough", move |text| text.len() <= max)
            .prop_map(Value::Text)
            .boxed(),
        FieldType::Text => "[^\\x00]{0,20}".prop_map(Value::Text).boxed(),
        FieldType::Word(words) => (0..words.len())
            .prop_map(move |at| Value::Text(words[at].to_owned()))
            .boxed(),
        FieldType::Entity => "(model|run)/[a-z é]{1,9}".prop_map(Value::Text).boxed(),
        FieldType::Json => prop_oneof![
            any::<i64>().prop_map(|number| Value::Json(number.to_string())),
            any::<String>().prop_map(|text| Value::Json(serde_json::json!([text]).to_string())),
            Just(Value::Json(r#"{"a" : 1.0, "a":[ {} , null]}"#.to_owned())),
        ]
        .boxed(),
        FieldType::JsonObject => any::<String>()
            .prop_map(|text| Value::Json(serde_json::json!({ "k": text }).to_string()))
            .boxed(),
        FieldType::Int => any::<i64>().prop_map(Value::Int).boxed(),
        FieldType::Float => any::<f64>().prop_map(Value::Float).boxed(),
        FieldType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        FieldType::Time => (100_000_000_000_000..Timestamp::MAX.micros())
            .prop_map(Value::Int)
            .boxed(),
        FieldType::Bytes | FieldType::Ord => unreachable!("no producer has such fields"),
    }
}

fn meant() -> impl Strategy<Value = Meant> {
    let kinds: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|kind| !kind.is_internal())
        .collect();
    proptest::sample::select(kinds).prop_flat_map(|kind| {
        let columns: Vec<_> = (1..schema::column_count(kind))
            .map(|column| {
                let field = schema::field(kind, column);
                // What must stand beside each other always does.
                let needed = field.presence != Presence::Optional || ["run", "model", "version"].contains(&field.name);
                let given = value(field.ty).prop_map(move |value| Some((column, value)));
                match (needed, field.presence) {
                    (true, Presence::Stated) => prop_oneof![3 => given, 1 => Just(Some((column, Value::Null)))].boxed(),
                    (true, _) => given.boxed(),
                    (false, _) => prop_oneof![2 => given, 3 => Just(None), 1 => Just(Some((column, Value::Null)))].boxed(),
                }
            })
            .collect();
        columns.prop_map(move |values| Meant {
            kind,
            values: values.into_iter().flatten().collect(),
        })
    })
}

/// What the engine makes of the values themselves.
fn written(events: &[Meant]) -> Vec<Event> {
    let mut builder = EventBatchBuilder::new();
    for event in events {
        let mut row = builder.row(event.kind);
        for (column, value) in &event.values {
            match value {
                Value::Text(text) => row.text(*column, text),
                Value::Json(text) => row.checked_json(*column, text),
                Value::Int(value) => row.int(*column, *value),
                Value::Float(value) => row.float(*column, *value),
                Value::Bool(value) => row.boolean(*column, *value),
                Value::Null => row.null(*column),
            }
            .expect("a value of its field");
        }
        row.finish().expect("all that is needed");
    }
    let batch = builder.finish().into_logged(Offset::ZERO, RECEIVED);
    batch.in_order().into_iter().map(Row::to_event).collect()
}

/// Chooses spellings, one after the other.
struct Choices<'a> {
    seeds: &'a [Index],
    next: usize,
}

impl Choices<'_> {
    fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        let choice = self.seeds[self.next % self.seeds.len()]
            .index(texts.len() + self.next / self.seeds.len());
        self.next += 1;
        texts[choice % texts.len()]
    }

    fn blank(&mut self) -> &'static str {
        self.one_of(&["", "", "", " ", "\t", " \r "])
    }

    fn string(&mut self, text: &str) -> String {
        match self.one_of(&["plain", "plain", "escaped"]) {
            "plain" => serde_json::json!(text).to_string(),
            _ => {
                let units: String = text
                    .encode_utf16()
                    .map(|unit| format!("\\u{unit:04X}"))
                    .collect();
                format!("\"{units}\"")
            }
        }
    }

    fn value(&mut self, value: &Value) -> String {
        match value {
            Value::Text(text) => self.string(text),
            Value::Json(text) => text.clone(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) if value.is_nan() => "\"NaN\"".to_owned(),
            Value::Float(value) if value.is_infinite() => {
                if *value > 0.0 {
                    "\"Infinity\"".to_owned()
                } else {
                    "\"-Infinity\"".to_owned()
                }
            }
            Value::Float(value) => match self.one_of(&["shortest", "exponent", "long"]) {
                "shortest" => format!("{value:?}"),
                "exponent" => format!("{value:E}"),
                _ => format!("{value}"),
            },
            Value::Bool(value) => value.to_string(),
            Value::Null => "null".to_owned(),
        }
    }

    fn name(&mut self, kind: Kind, column: usize) -> String {
        let name = schema::field(kind, column).name;
        let name = match (kind, name) {
            (Kind::PredictionLogged, "input") => self.one_of(&["input", "input_data"]),
            (Kind::PredictionLogged, "output") => self.one_of(&["output", "output_data"]),
            _ => name,
        };
        self.string(name)
    }

    fn kind(&mut self, kind: Kind) -> String {
        let mut snake = String::new();
        for letter in kind.name().chars() {
            if letter.is_uppercase() && !snake.is_empty() {
                snake.push('_');
            }
            snake.extend(letter.to_lowercase());
        }
        let dotted = snake.replace('_', ".");
        let spelled = self.one_of(&[kind.name(), &snake, &dotted]).to_owned();
        self.string(&spelled)
    }

    fn event(&mut self, event: &Meant, order: &[Index]) -> String {
        let mut members: Vec<_> = event
            .values
            .iter()
            .map(|(column, value)| (self.name(event.kind, *column), self.value(value)))
            .collect();
        members.push(("\"type\"".to_owned(), self.kind(event.kind)));
        for at in (1..members.len()).rev() {
            members.swap(at, order[at % order.len()].index(at + 1));
        }
        let members: Vec<_> = members
            .iter()
            .map(|(name, value)| {
                [
                    self.blank(),
                    name,
                    self.blank(),
                    ":",
                    self.blank(),
                    value,
                    self.blank(),
                ]
                .concat()
            })
            .collect();
        format!("{}{{{}}}{}", self.blank(), members.join(","), self.blank())
    }
}

proptest! {
    #[test]
    fn events_are_read_as_they_were_meant(
        meant in proptest::collection::vec(meant(), 1..6),
        seeds in proptest::collection::vec(any::<Index>(), 64),
        order in proptest::collection::vec(any::<Index>(), 8),
        lines in any::<bool>(),
    ) {
        let mut choices = Choices { seeds: &seeds, next: 0 };
        let spelled: Vec<_> = meant.iter().map(|event| choices.event(event, &order)).collect();
        let (body, format) = if lines {
            (spelled.join("\n"), Format::Ndjson)
        } else {
            (format!("[{}]", spelled.join(",")), Format::Json)
        };
        let decoded = decode(body.as_bytes(), format, &Options::default());
        let decoded = decoded.map_err(|errors| TestCaseError::fail(format!("{errors}: {body}")))?;
        prop_assert!(decoded.unknown_fields.is_empty());
        // NaN is unlike itself, so the comparison is of what would be written.
        prop_assert_eq!(format!("{:?}", events(decoded)), format!("{:?}", written(&meant)));
    }
}
