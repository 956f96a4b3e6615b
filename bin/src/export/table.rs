//! A file of one kind of events, as a table.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use arrow_array::RecordBatch;
use modelog_engine::LogId;
use modelog_engine::event::{Kind, schema};
use modelog_parquet::files::{EncodeError, FileWriter};

use super::csv;
use super::output::Output;
use crate::exit::Failed;

/// What a table is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableFormat {
    Csv,
    Parquet,
}

impl TableFormat {
    /// How such files end.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

impl fmt::Display for TableFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
        })
    }
}

/// A file in the making.
pub(super) struct Table(Kinded);

enum Kinded {
    Csv { out: Output, line: Vec<u8> },
    Parquet(Box<FileWriter<Output>>),
}

impl Table {
    /// Begins a file of events of a kind, which are of this log.
    ///
    /// # Errors
    /// If nothing can be written there, or it is not known of which log the events are and a file has to say it.
    pub(super) fn begin(
        format: TableFormat,
        kind: Kind,
        log: Option<LogId>,
        mut out: Output,
    ) -> Result<Self> {
        Ok(Self(match format {
            TableFormat::Csv => {
                let mut line = Vec::new();
                csv::header(&schema::arrow_schema(kind), &mut line);
                out.write_all(&line)?;
                Kinded::Csv { out, line }
            }
            TableFormat::Parquet => {
                let log = log.ok_or_else(|| {
                    Failed::unavailable(
                        "the server does not say of which log its events are: it is older than this program",
                    )
                })?;
                let writer = FileWriter::new(out, kind, log);
                Kinded::Parquet(Box::new(writer.map_err(unwritten)?))
            }
        }))
    }

    /// Whether it goes to a file, so that there is something to say when it is done.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.0 {
            Kinded::Csv { out, .. } => out.file(),
            Kinded::Parquet(writer) => writer.inner().file(),
        }
    }

    /// Writes rows, which have all columns of the kind.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        match &mut self.0 {
            Kinded::Csv { out, line } => {
                for row in 0..rows.num_rows() {
                    line.clear();
                    csv::row(rows, row, line)?;
                    out.write_all(line)?;
                }
                Ok(())
            }
            Kinded::Parquet(writer) => writer.write(rows).map_err(unwritten),
        }
    }

    /// How much it holds back in memory until it makes a piece of the file, in bytes.
    pub(super) fn pending_bytes(&self) -> usize {
        match &self.0 {
            Kinded::Csv { .. } => 0,
            Kinded::Parquet(writer) => writer.pending_bytes(),
        }
    }

    /// Makes a piece of the file of what it holds back.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn write_pending(&mut self) -> Result<()> {
        match &mut self.0 {
            Kinded::Csv { .. } => Ok(()),
            Kinded::Parquet(writer) => writer.flush().map_err(unwritten),
        }
    }

    /// Ends the file, and gives it its name.
    ///
    /// # Errors
    /// If the disk refuses; a file of that name is then as it was.
    pub(super) fn finish(self) -> Result<()> {
        match self.0 {
            Kinded::Csv { out, .. } => out.finish(),
            Kinded::Parquet(writer) => writer.finish().map_err(unwritten)?.finish(),
        }
    }
}

/// What the disk said, if it was the disk: that decides how the program ends.
fn unwritten(error: EncodeError) -> anyhow::Error {
    match error {
        EncodeError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => anyhow::Error::new(*error),
            Err(cause) => anyhow::Error::from_boxed(cause),
        },
        error => anyhow::Error::new(error),
    }
}
