//! One JSON object becomes one row: each value is checked and written into its column where it stands.
//!
//! The kind decides what the fields mean, but `type` may come anywhere. So the reader supposes the kind of the event
//! before, and starts again where `type`, once met, says otherwise. A stream of one kind is read once, wherever its
//! `type` stands; in a mixed stream events with `type` first lose nothing, because nothing came before it.

use std::collections::BTreeMap;

use modelog_engine::batch::{EventBatchBuilder, RowWriter};
use modelog_engine::event::{FieldError, FieldProblem, Kind, json_type, schema};

use crate::error::{Code, Fault, Faulty, shown};
use crate::fields::{FieldOrder, FieldOrders, Form, Meaning, Place};
use crate::options::Options;
use crate::scan::{Scanner, Str};
use crate::unknown::Unknown;
use crate::value::{ValueWriter, unescaped};

/// The attribute that every CloudEvent has, and no flat event.
pub(crate) const SPEC_VERSION: &str = "specversion";

/// Where an event stands in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
    /// Whether nothing but blanks may follow the event.
    pub(crate) alone: bool,
    /// How many objects and arrays the event's fields lie in: 1 for a flat event.
    pub(crate) depth: usize,
}

/// The value of a field that stands outside the event, as JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    pub(crate) column: usize,
    pub(crate) json: &'a str,
    /// Where it stands in the text of the event, if it does.
    pub(crate) at: Option<usize>,
}

/// What is known of an event before it is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known<'a> {
    pub(crate) kind: Option<Kind>,
    pub(crate) fields: &'a [Given<'a>],
    /// Whether the event is at fault if it has a `specversion`, as envelopes of CloudEvents do.
    pub(crate) not_enveloped: bool,
}

/// Reads events one after the other. What it learns from one makes the next one faster.
#[derive(Debug)]
pub(crate) struct EventReader<'o> {
    pub(crate) options: &'o Options,
    /// Of the event before.
    kind: Option<Kind>,
    /// How that kind was spelled last.
    spelling: String,
    orders: FieldOrders,
    values: ValueWriter<'o>,
    pub(crate) unknown: Unknown,
    pub(crate) unknown_fields: BTreeMap<String, u64>,
}

/// How far one reading of an event went.
enum Outcome {
    /// To its end.
    Read(usize),
    /// To a `type` that is not what was supposed.
    Other(Kind),
}

/// One reading of an event, as one kind.
struct Reading<'r, 'a> {
    scan: Scanner<'a>,
    row: RowWriter<'r>,
    kind: Kind,
    spot: Spot<'a>,
    known: Known<'a>,
    /// The columns of what is known, as bits.
    given: u64,
    /// Whether `type` has been met.
    typed: bool,
    /// Whether `extra` has been met, and the object the producer gave.
    extra_met: bool,
    extra: Option<&'a str>,
}

impl<'o> EventReader<'o> {
    pub(crate) fn new(options: &'o Options) -> Self {
        Self {
            options,
            kind: None,
            spelling: String::new(),
            orders: FieldOrders::of_this_thread(),
            values: ValueWriter {
                limits: &options.limits,
                scratch: String::new(),
            },
            unknown: Unknown::default(),
            unknown_fields: BTreeMap::new(),
        }
    }

    /// Reads an event into a batch, beside the unknown fields there are already; answers where it ends. After a fault
    /// the batch is as before.
    pub(crate) fn event<'a>(
        &mut self,
        builder: &mut EventBatchBuilder,
        spot: Spot<'a>,
        known: Known<'a>,
    ) -> Faulty<usize> {
        let outside = self.unknown.len();
        let mut certain = known.kind.is_some();
        let mut kind = match known.kind.or(self.kind) {
            Some(kind) => kind,
            None => self.find_kind(spot)?,
        };
        loop {
            self.unknown.truncate(outside);
            let mut order = self.orders.take(kind);
            let reading = Reading {
                scan: Scanner::new(spot.text, spot.start, &self.options.limits),
                row: builder.row(kind),
                kind,
                spot,
                known,
                given: 0,
                typed: known.kind.is_some(),
                extra_met: false,
                extra: None,
            };
            let outcome = self.read(reading, &mut order);
            self.orders.put_back(order);
            match outcome {
                Ok(Outcome::Read(end)) => return Ok(end),
                Ok(Outcome::Other(other)) => (kind, certain) = (other, true),
                Err(fault) if certain => return Err(fault),
                // It may be a fault only because the kind is another one.
                Err(fault) => match self.find_kind(spot)? {
                    found if found == kind => return Err(fault),
                    found => (kind, certain) = (found, true),
                },
            }
        }
    }

    fn read(&mut self, mut reading: Reading<'_, '_>, order: &mut FieldOrder) -> Faulty<Outcome> {
        if !reading.scan.take(b'{') {
            return Err(not_an_object(reading.scan, reading.spot.depth - 1));
        }
        self.write_given(&mut reading)?;
        let mut typed_here = false;
        let mut place = Place::START;
        let mut more = reading.scan.blanks() != Some(b'}');
        while more {
            let key_at = reading.scan.at() + 1;
            let meaning;
            (meaning, place) = self.name(&mut reading.scan, order, place)?;
            reading.scan.blanks();
            match meaning {
                Meaning::Column(column, form) => {
                    self.field(&mut reading, usize::from(column), form, key_at)?;
                }
                Meaning::Type if typed_here => return Err(repeated("type", key_at)),
                Meaning::Type => {
                    typed_here = true;
                    if let Some(other) = self.kind_field(&mut reading)? {
                        return Ok(Outcome::Other(other));
                    }
                }
                Meaning::OfTheLog => {
                    reading.scan.value(reading.spot.depth)?;
                }
                Meaning::Unknown => self.unknown_field(&mut reading, key_at)?,
            }
            more = match reading.scan.blanks() {
                Some(b',') => true,
                Some(b'}') => false,
                _ => return Err(reading.scan.unexpected("`,` or `}`")),
            };
            if more {
                reading.scan.take(b',');
                reading.scan.blanks();
            }
        }
        reading.scan.take(b'}');
        self.finish(reading)
    }

    /// A field's name, up to its colon, and where one is then.
    #[inline]
    fn name(
        &mut self,
        scan: &mut Scanner<'_>,
        order: &mut FieldOrder,
        place: Place,
    ) -> Faulty<(Meaning, Place)> {
        if !scan.take(b'"') {
            return Err(scan.unexpected("a field's name in quotes"));
        }
        match order.expected(place) {
            Some(expected) if scan.take_key(&expected.key) => {
                Ok((expected.meaning, expected.place))
            }
            _ => self.other_name(scan, order, place),
        }
    }

    /// A name that was not expected.
    fn other_name(
        &mut self,
        scan: &mut Scanner<'_>,
        order: &mut FieldOrder,
        place: Place,
    ) -> Faulty<(Meaning, Place)> {
        let key = scan.string_rest()?;
        scan.expect(b':', "`:`")?;
        let name = unescaped(key, &mut self.values.scratch);
        Ok(order.look_up(name, place))
    }

    /// The value of a field the kind has.
    #[inline]
    fn field(
        &mut self,
        reading: &mut Reading<'_, '_>,
        column: usize,
        form: Form,
        key_at: usize,
    ) -> Faulty<()> {
        if form == Form::Extra {
            return self.extra(reading, key_at);
        }
        if reading.given & 1 << column != 0 {
            return self.same_as_given(reading, column);
        }
        let Reading {
            scan, row, spot, ..
        } = reading;
        self.values.write(scan, row, column, form, spot.depth)
    }

    /// Fields that stand outside the event.
    #[inline]
    fn write_given(&mut self, reading: &mut Reading<'_, '_>) -> Faulty<()> {
        for given in reading.known.fields {
            reading.given |= 1 << given.column;
            let mut value = Scanner::new(given.json, 0, &self.options.limits);
            let field = schema::field(reading.kind, given.column);
            let form = Form::of(given.column, field.ty);
            self.values
                .write(
                    &mut value,
                    &mut reading.row,
                    given.column,
                    form,
                    reading.spot.depth,
                )
                .map_err(|fault| fault.placed(given.at.unwrap_or(reading.spot.start)))?;
        }
        Ok(())
    }

    /// A field that was given outside the event already: it must say the same.
    #[cold]
    fn same_as_given(&mut self, reading: &mut Reading<'_, '_>, column: usize) -> Faulty<()> {
        let Reading {
            scan,
            known,
            spot,
            kind,
            ..
        } = reading;
        let at = scan.at();
        let value = scan.value(spot.depth)?;
        let same = known
            .fields
            .iter()
            .filter(|given| given.column == column)
            .any(|given| same_json(given.json, value));
        if same || value == "null" {
            return Ok(());
        }
        let name = schema::field(*kind, column).name;
        let message = format!("`{name}` is not what the URL or the envelope says");
        Err(Fault::new(Code::ConflictingField, at, message).in_field(name))
    }

    /// `type`; answers the kind if it is another one.
    #[inline]
    fn kind_field(&mut self, reading: &mut Reading<'_, '_>) -> Faulty<Option<Kind>> {
        let at = reading.scan.at();
        let found = self.read_kind(&mut reading.scan, reading.spot.depth)?;
        reading.typed = true;
        if found == reading.kind {
            return Ok(None);
        }
        if reading.known.kind.is_none() {
            return Ok(Some(found));
        }
        let message = format!("`type` is {found}, but a {} is expected here", reading.kind);
        Err(Fault::new(Code::OtherKind, at, message).in_field("type"))
    }

    /// A kind's name.
    #[inline]
    pub(crate) fn read_kind(&mut self, scan: &mut Scanner<'_>, depth: usize) -> Faulty<Kind> {
        let at = scan.at();
        if scan.peek() != Some(b'"') {
            let found = json_type(scan.value(depth)?);
            let problem = FieldProblem::WrongType {
                expected: "a string",
                found,
            };
            return Err(Fault::of_field(FieldError::new("type", problem), at));
        }
        let string = scan.string("a string")?;
        match self.kind {
            Some(kind) if !string.escaped && string.raw == self.spelling => Ok(kind),
            _ => self.learn_kind(string, at),
        }
    }

    fn learn_kind(&mut self, string: Str<'_>, at: usize) -> Faulty<Kind> {
        let fault = |code, message: String| Fault::new(code, at, message).in_field("type");
        let kind: Kind = unescaped(string, &mut self.values.scratch)
            .parse()
            .map_err(|error| fault(Code::UnknownKind, format!("{error}")))?;
        if kind.is_internal() {
            let message = format!("{kind} events are written by the engine only");
            return Err(fault(Code::InternalKind, message));
        }
        self.kind = Some(kind);
        self.spelling.clear();
        if !string.escaped {
            self.spelling.push_str(string.raw);
        }
        Ok(kind)
    }

    /// Looks for `type` in an event whose kind is not known.
    #[cold]
    fn find_kind(&mut self, spot: Spot<'_>) -> Faulty<Kind> {
        let mut scan = Scanner::new(spot.text, spot.start, &self.options.limits);
        if scan.peek() != Some(b'{') {
            return Err(not_an_object(scan, spot.depth - 1));
        }
        if scan.find_member("type", spot.depth, &mut self.values.scratch)? {
            return self.read_kind(&mut scan, spot.depth);
        }
        Err(missing_type(spot.start))
    }

    /// A field the kind does not have.
    fn unknown_field(&mut self, reading: &mut Reading<'_, '_>, key_at: usize) -> Faulty<()> {
        let Reading {
            scan,
            spot,
            kind,
            known,
            ..
        } = reading;
        let key = Scanner::new(spot.text, key_at, &self.options.limits).string_rest()?;
        let at = scan.at();
        let value = scan
            .value(spot.depth)
            .map_err(|fault| fault.in_field(key.raw))?;
        let name = unescaped(key, &mut self.values.scratch);
        if known.not_enveloped && name == SPEC_VERSION && value != "null" {
            let message = "the event is the envelope of another one";
            return Err(Fault::new(Code::BadCloudEvent, key.at, message).in_field(name));
        }
        if self.options.strict {
            let message = format!("{kind} has no field {:?}", shown(name));
            return Err(Fault::new(Code::UnknownField, key.at, message).in_field(name));
        }
        check_extra(name, value, at, self.options.limits.value_bytes)?;
        self.unknown.add(name, key.raw, value, key.at)
    }

    /// Keeps a value that stands outside the event, under a name without escapes.
    pub(crate) fn keep(&mut self, name: &str, json: &str, key_at: usize, at: usize) -> Faulty<()> {
        check_extra(name, json, at, self.options.limits.value_bytes)?;
        self.unknown.add(name, name, json, key_at)
    }

    /// `extra`, as events given out by a log have it.
    #[cold]
    fn extra(&mut self, reading: &mut Reading<'_, '_>, key_at: usize) -> Faulty<()> {
        let at = reading.scan.at();
        if reading.extra_met {
            return Err(repeated("extra", key_at));
        }
        reading.extra_met = true;
        let value = in_field(
            reading.scan.value(reading.spot.depth),
            &reading.row,
            schema::EXTRA,
        )?;
        reading.extra = match value.as_bytes() {
            [b'{', ..] => Some(value),
            b"null" => None,
            _ => {
                let error = reading.row.wrong_type(schema::EXTRA, json_type(value));
                return Err(Fault::of_field(error, at));
            }
        };
        Ok(())
    }

    /// What concerns the event as a whole.
    #[inline]
    fn finish(&mut self, reading: Reading<'_, '_>) -> Faulty<Outcome> {
        let Reading {
            mut scan,
            mut row,
            spot,
            typed,
            extra,
            ..
        } = reading;
        let end = scan.at();
        if !typed {
            return Err(missing_type(spot.start));
        }
        check_size(
            end - spot.start,
            self.options.limits.event_bytes,
            spot.start,
        )?;
        if spot.alone && scan.blanks().is_some() {
            return Err(trailing(scan.at()));
        }
        let whole = |error| Fault::of_field(error, spot.start);
        if !self.unknown.is_empty() {
            self.unknown.write_object(extra, &mut self.values.scratch);
            row.checked_json(schema::EXTRA, &self.values.scratch)
                .map_err(whole)?;
        } else if let Some(extra) = extra {
            row.checked_json(schema::EXTRA, extra).map_err(whole)?;
        }
        row.finish().map_err(whole)?;
        if !self.unknown.is_empty() {
            let names_max = self.options.limits.unknown_fields;
            self.unknown.count_in(&mut self.unknown_fields, names_max);
        }
        Ok(Outcome::Read(end))
    }
}

#[inline]
fn in_field<T>(result: Faulty<T>, row: &RowWriter<'_>, column: usize) -> Faulty<T> {
    result.map_err(|fault| fault.in_field(schema::field(row.kind(), column).name))
}

/// Whether two texts mean the same JSON.
fn same_json(a: &str, b: &str) -> bool {
    let parsed = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || parsed(a).is_some_and(|a| parsed(b) == Some(a))
}

fn check_extra(name: &str, value: &str, at: usize, max: usize) -> Faulty<()> {
    let bytes = value.len();
    if bytes <= max {
        return Ok(());
    }
    let problem = FieldProblem::TooLong { bytes, max };
    Err(Fault::of_field(FieldError::new(shown(name), problem), at))
}

#[cold]
fn repeated(name: &str, at: usize) -> Box<Fault> {
    Fault::of_field(FieldError::new(name, FieldProblem::Repeated), at)
}

#[cold]
fn missing_type(at: usize) -> Box<Fault> {
    Fault::of_field(FieldError::new("type", FieldProblem::Missing), at)
}

/// The fault of something that is no event; the scanner stands before it.
#[cold]
pub(crate) fn not_an_object(mut scan: Scanner<'_>, depth: usize) -> Box<Fault> {
    let at = scan.at();
    match scan.value(depth) {
        Ok(value) => {
            let message = format!("an event is a JSON object, not {}", json_type(value));
            Fault::new(Code::NotAnObject, at, message)
        }
        Err(fault) => fault,
    }
}

#[cold]
pub(crate) fn trailing(at: usize) -> Box<Fault> {
    Fault::new(
        Code::TrailingBytes,
        at,
        "something follows where the text should end",
    )
}

/// Checks how many bytes an event takes as it was sent.
#[inline]
pub(crate) fn check_size(bytes: usize, max: usize, at: usize) -> Faulty<()> {
    if bytes <= max {
        return Ok(());
    }
    let message = format!("the event is {bytes} bytes long, at most {max} are allowed");
    Err(Fault::new(Code::EventTooLarge, at, message))
}
