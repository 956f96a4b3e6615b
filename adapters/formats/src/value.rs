//! Values of JSON into the columns of a row.

use modelog_engine::Timestamp;
use modelog_engine::batch::RowWriter;
use modelog_engine::event::{FieldError, FieldProblem, json_type, schema};

use crate::error::{Fault, Faulty, shown};
use crate::fields::Form;
use crate::options::Limits;
use crate::scan::{Number, Scanner, Str};

/// Writes values, with a buffer for those whose text is not what stands there.
#[derive(Debug)]
pub(crate) struct ValueWriter<'o> {
    pub(crate) limits: &'o Limits,
    pub(crate) scratch: String,
}

impl ValueWriter<'_> {
    /// Reads the value at a place into a column. It lies in `depth` objects and arrays.
    pub(crate) fn write(
        &mut self,
        scan: &mut Scanner<'_>,
        row: &mut RowWriter<'_>,
        column: usize,
        form: Form,
        depth: usize,
    ) -> Faulty<()> {
        let at = scan.at();
        let read = self.written(scan, row, column, form, depth);
        match read {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::of_field(error, at)),
            Err(fault) => Err(fault.in_field(schema::field(row.kind(), column).name)),
        }
    }

    #[inline]
    fn written(
        &mut self,
        scan: &mut Scanner<'_>,
        row: &mut RowWriter<'_>,
        column: usize,
        form: Form,
        depth: usize,
    ) -> Faulty<Result<(), FieldError>> {
        // By what stands there, then by what is wanted: so each kind of value is read at one place.
        Ok(match scan.peek() {
            Some(b'n') => {
                scan.word("null")?;
                row.null(column)
            }
            _ if form == Form::Json => {
                let value = scan.value(depth)?;
                if value.len() > self.limits.value_bytes {
                    return Ok(Err(self.too_long(row, column, value)));
                }
                row.checked_json(column, value)
            }
            Some(b'"') => {
                let string = scan.string("a string")?;
                self.string(string, row, column, form)
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = scan.number()?;
                write_number(number, row, column, form)
            }
            Some(b't') if form == Form::Bool => {
                scan.word("true")?;
                row.boolean(column, true)
            }
            Some(b'f') if form == Form::Bool => {
                scan.word("false")?;
                row.boolean(column, false)
            }
            _ => Err(row.wrong_type(column, json_type(scan.value(depth)?))),
        })
    }

    #[inline]
    fn string(
        &mut self,
        string: Str<'_>,
        row: &mut RowWriter<'_>,
        column: usize,
        form: Form,
    ) -> Result<(), FieldError> {
        match form {
            Form::Text if string.raw.len() > self.limits.value_bytes => {
                Err(self.too_long(row, column, string.raw))
            }
            Form::Text => row.text(column, unescaped(string, &mut self.scratch)),
            Form::Float => match non_finite(string.raw) {
                Some(value) => row.float(column, value),
                None => {
                    Err(row.wrong_type(column, "a string other than NaN, Infinity or -Infinity"))
                }
            },
            Form::Time => match Timestamp::parse(unescaped(string, &mut self.scratch)) {
                Ok(time) => row.time(time),
                Err(problem) => Err(row.error(column, FieldProblem::Time(problem))),
            },
            _ => Err(row.wrong_type(column, "a string")),
        }
    }

    #[cold]
    fn too_long(&self, row: &RowWriter<'_>, column: usize, value: &str) -> FieldError {
        let (bytes, max) = (value.len(), self.limits.value_bytes);
        row.error(column, FieldProblem::TooLong { bytes, max })
    }
}

#[inline]
fn write_number(
    number: Number<'_>,
    row: &mut RowWriter<'_>,
    column: usize,
    form: Form,
) -> Result<(), FieldError> {
    let whole = if form == Form::Float {
        None
    } else {
        number.to_int()
    };
    match (form, whole) {
        (Form::Float, _) => match number.to_float() {
            value if value.is_finite() => row.float(column, value),
            _ => Err(too_large(row, column, number)),
        },
        (Form::Int | Form::Time, Some(value)) => row.int(column, value),
        (Form::Int, None) if number.integer => Err(too_large(row, column, number)),
        (Form::Int, None) => row.float(column, number.to_float()),
        (Form::Time, None) => Err(row.wrong_type(column, "a fraction or a number beyond 64 bits")),
        _ => Err(row.wrong_type(column, "a number")),
    }
}

#[cold]
fn too_large(row: &RowWriter<'_>, column: usize, number: Number<'_>) -> FieldError {
    row.error(column, FieldProblem::TooLarge(shown(number.raw)))
}

/// The number that a string spells.
fn non_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The string without its escapes.
#[inline]
pub(crate) fn unescaped<'s>(string: Str<'s>, scratch: &'s mut String) -> &'s str {
    if !string.escaped {
        return string.raw;
    }
    scratch.clear();
    string.unescape_into(scratch);
    scratch
}
