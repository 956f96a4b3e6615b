//! What goes to stdout: tables for people, JSON for programs. Colour only on a terminal.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// One JSON value.
    Json,
    /// A JSON object a line.
    Ndjson,
}

/// Whether a terminal may be coloured (<https://no-color.org>).
pub(crate) fn colour_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How a cell should strike the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

/// Rows with a header.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Table,
    colour: bool,
}

impl Rows {
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(header.iter().copied());
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let colour = io::stdout().is_terminal() && colour_allowed();
        Self { table, colour }
    }

    /// Adds a row; cells that are no more than text are plain.
    pub(crate) fn push(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        let colour = self.colour;
        self.table.add_row(cells.into_iter().map(|(text, tone)| {
            let cell = Cell::new(text);
            match tone {
                Tone::Good if colour => cell.fg(Color::Green),
                Tone::Warning if colour => cell.fg(Color::Yellow),
                Tone::Bad if colour => cell.fg(Color::Red),
                _ => cell,
            }
        }));
    }

    /// Adds a row of plain cells.
    pub(crate) fn plain<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.push(
            cells
                .into_iter()
                .map(|cell| (cell.to_string(), Tone::Plain)),
        );
    }

    /// Prints all rows.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for line in self.table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        out.flush()
    }
}

/// Prints a line.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints one JSON value over several lines.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

/// Prints a JSON object a line.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn ndjson<T: Serialize>(items: impl IntoIterator<Item = T>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for item in items {
        serde_json::to_writer(&mut out, &item)?;
        writeln!(out)?;
    }
    out.flush()
}

/// A number with its thousands parted: 1,797.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 event`, `1,797 events`.
pub(crate) fn counted(number: u64, singular: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {singular}{plural}", thousands(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_797), "1,797");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(counted(1, "event"), "1 event");
        assert_eq!(counted(0, "event"), "0 events");
    }
}
