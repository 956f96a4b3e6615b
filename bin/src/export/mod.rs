//! `export`: events of the log as NDJSON, CSV or Parquet, through the server that holds the log or from its files.
//!
//! ```text
//! the log's reader: segments, Parquet ─┐            ┌─ lines ─────────────────────▶ output: stdout, a file
//!                                      ├─ filter ──▶┤
//! GET /v1/events: lines, Arrow ────────┘            └─ tables of one kind: CSV, Parquet ─▶ output, or a folder of them
//! ```
//!
//! Both ways give the same rows: NDJSON lines are those of the API, CSV and Parquet are made from the same Arrow columns.
//! Memory holds one piece of the log at a time, and for Parquet one group of rows.
//!
//! # Two kinds of time
//! `--since` and `--to` bound when events happened, as they say it themselves. `--until` is about the log: what it had
//! taken by then, as `restore --until` has it.

mod csv;
mod folder;
mod output;
mod remote;
mod table;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use indicatif::ProgressBar;
use modelog_engine::batch::{self, LoggedBatch};
use modelog_engine::event::Kind;
use modelog_engine::{Engine, LogId, Offset};

use crate::config::Settings;
use crate::exit::Failed;
use crate::filter::{Filter, Span, Until};
use crate::output::counted;
use crate::place::{self, Place, Reach};
use crate::progress;
use folder::Folder;
use output::Output;
use table::{Table, TableFormat};

/// How much of the log is read at a time.
const READ_BYTES: usize = 4 << 20;

/// What a file of events looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileFormat {
    /// A JSON object a line, which `import` takes again, save kinds that only Modelog writes
    Ndjson,
    /// A table of one kind; no value is an empty field, an empty text is ""
    Csv,
    /// A table of one kind, with the columns and settings of the data directory's own; `import` takes it again
    Parquet,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  modelog export --kind PredictionLogged --model resnet50 --since 7d --format csv --out predictions.csv
  modelog export --kind EventRejected | jq -r .message
  modelog export --format parquet --out history/                a file for each kind
  modelog export --until 2026-11-22T17:00:00Z --out then.ndjson  what the log held at that time")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    span: Span,
    /// Only what the log held at this length, or at this time: 41000, 2026-11-22T17:00:00Z, or 24h for a day ago. For
    /// the time of events there are --since and --to
    #[arg(long, value_name = "OFFSET|TIME")]
    until: Option<Until>,
    #[arg(long, value_enum, default_value = "ndjson")]
    format: FileFormat,
    /// The file to write, or a directory, DIR/, for a table of each kind; it appears when it is complete. - is stdout
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    #[command(flatten)]
    reach: Reach,
}

/// Which events are wanted.
struct Wanted {
    filter: Filter,
    span: Span,
    until: Option<Until>,
    /// Filter and span, as rows are asked.
    rows: batch::Filter,
}

/// What the events become.
enum Form {
    Lines(Output),
    Table(Box<Table>),
    Tables(Folder),
}

/// What is written, and how.
struct Job {
    form: Form,
    written: u64,
}

/// Writes events.
///
/// # Errors
/// If the log or the server cannot be read, or the file not written.
pub(crate) async fn run(settings: &Settings, args: ExportArgs) -> Result<()> {
    let plan = Plan::of(&args)?;
    let place = Place::find(&args.reach, settings)?;
    let wanted = Wanted {
        rows: args.filter.of_rows(args.span),
        filter: args.filter.clone(),
        span: args.span,
        until: args.until,
    };
    match place {
        Place::Server(client) => {
            let first = remote::ask(&client, &wanted, plan.first_request()).await?;
            let mut job = Job::new(plan.open(first.log)?);
            remote::read(&mut job, &client, &wanted, first).await?;
            job.finish()
        }
        Place::Directory => {
            let engine = place::open_existing(settings).await?;
            let written = plan.open(Some(engine.log_id())).and_then(|form| {
                let mut job = Job::new(form);
                job.files(&engine, &wanted)?;
                Ok(job)
            });
            let closed = engine.close().await;
            let job = written?;
            closed?;
            job.finish()
        }
    }
}

/// What is asked for, once it is known to make sense.
enum Plan<'a> {
    Lines(&'a Path),
    Table(TableFormat, Kind, &'a Path),
    Tables(TableFormat, Option<Kind>, &'a Path),
}

impl<'a> Plan<'a> {
    fn of(args: &'a ExportArgs) -> Result<Self> {
        let out = args.out.as_path();
        let named = out.as_os_str().as_encoded_bytes();
        let directory = named != b"-" && (out.is_dir() || named.ends_with(b"/"));
        let format = match args.format {
            FileFormat::Ndjson if directory => {
                return Err(Failed::usage(
                    "NDJSON holds events of all kinds in one file: name a file with --out",
                ));
            }
            FileFormat::Ndjson => return Ok(Self::Lines(out)),
            FileFormat::Csv => TableFormat::Csv,
            FileFormat::Parquet => TableFormat::Parquet,
        };
        if directory {
            return Ok(Self::Tables(format, args.filter.kind, out));
        }
        let Some(kind) = args.filter.kind else {
            return Err(Failed::usage(format!(
                "a {format} file holds one kind of events: name it with --kind, or have a file for each kind with --out DIR/"
            )));
        };
        if format == TableFormat::Parquet
            && out == Path::new("-")
            && std::io::stdout().is_terminal()
        {
            return Err(Failed::usage(
                "a Parquet file is nothing to read on a terminal: name a file with --out",
            ));
        }
        Ok(Self::Table(format, kind, out))
    }

    /// What a server is asked first: lines, or the table of a kind.
    fn first_request(&self) -> Option<Kind> {
        match self {
            Self::Lines(_) => None,
            Self::Table(_, kind, _) => Some(*kind),
            Self::Tables(_, kind, _) => kind.or(Some(Kind::ALL[0])),
        }
    }

    fn open(&self, log: Option<LogId>) -> Result<Form> {
        match self {
            Self::Lines(path) => Output::open(path).map(Form::Lines),
            Self::Table(format, kind, path) => {
                let table = Table::begin(*format, *kind, log, Output::open(path)?)?;
                Ok(Form::Table(Box::new(table)))
            }
            Self::Tables(format, _, path) => Folder::open(path, *format, log).map(Form::Tables),
        }
    }
}

impl Job {
    fn new(form: Form) -> Self {
        Self { form, written: 0 }
    }

    fn files(&mut self, engine: &Engine, wanted: &Wanted) -> Result<()> {
        let tail = engine.tail();
        let end = wanted
            .until
            .and_then(Until::offset)
            .map_or(tail, |end| end.min(tail));
        let bar = self.bar(end.0);
        let mut reader = engine.reader(Offset::ZERO);
        'log: while reader.position() < end {
            for batch in reader.read(READ_BYTES)? {
                let over = |until: Until| until.is_before(batch.first_offset, batch.append_time);
                if wanted.until.is_some_and(over) {
                    break 'log;
                }
                self.take(&batch, &wanted.rows, end)?;
                bar.set_position(batch.end().0);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Writes the wanted events of a batch that lie before `end`.
    fn take(&mut self, batch: &LoggedBatch, wanted: &batch::Filter, end: Offset) -> Result<()> {
        let Form::Lines(out) = &mut self.form else {
            return self.take_tables(batch, wanted, end);
        };
        let mut line = Vec::new();
        for row in batch.in_order() {
            if row.offset() < end && wanted.takes(row) {
                line.clear();
                row.write_json_line(&mut line);
                line.push(b'\n');
                out.write_all(&line)?;
                self.written += 1;
            }
        }
        Ok(())
    }

    fn take_tables(
        &mut self,
        batch: &LoggedBatch,
        wanted: &batch::Filter,
        end: Offset,
    ) -> Result<()> {
        for table in &batch.tables {
            let Some(filter) = wanted.on(table) else {
                continue;
            };
            let taken: BooleanArray = batch
                .rows_of(table)
                .map(|row| Some(row.offset() < end && filter.takes(row)))
                .collect();
            if taken.true_count() == 0 {
                continue;
            }
            let mut rows = table.to_record_batch(batch.first_offset, batch.append_time);
            if taken.true_count() < taken.len() {
                rows = filter_record_batch(&rows, &taken)?;
            }
            self.write(table.kind(), &rows)?;
        }
        Ok(())
    }

    /// Writes rows of a kind.
    fn write(&mut self, kind: Kind, rows: &RecordBatch) -> Result<()> {
        match &mut self.form {
            Form::Table(table) => table.write(rows)?,
            Form::Tables(folder) => folder.write(kind, rows)?,
            Form::Lines(_) => unreachable!("lines are not made of columns"),
        }
        self.written += rows.num_rows() as u64;
        Ok(())
    }

    /// Where it goes, if that is a place with a name.
    fn path(&self) -> Option<&Path> {
        match &self.form {
            Form::Lines(out) => out.file(),
            Form::Table(table) => table.file(),
            Form::Tables(folder) => Some(folder.path()),
        }
    }

    /// Gives what was written its name, and says so.
    fn finish(self) -> Result<()> {
        let events = counted(self.written, "event");
        let path = self.path().map(|path| path.display().to_string());
        let files = match self.form {
            Form::Lines(out) => out.finish().map(|()| None)?,
            Form::Table(table) => table.finish().map(|()| None)?,
            Form::Tables(folder) => folder.finish().map(Some)?,
        };
        match (path, files) {
            (Some(path), Some(files)) => {
                eprintln!("{events} in {} in {path}", counted(files as u64, "file"));
            }
            (Some(path), None) => eprintln!("{events} in {path}"),
            (None, _) => {}
        }
        Ok(())
    }

    /// Progress is shown beside a file only: rows on the same terminal would tear it apart.
    fn bar(&self, total: u64) -> ProgressBar {
        match self.path() {
            Some(_) => progress::events(total, "exporting"),
            None => ProgressBar::hidden(),
        }
    }

    fn spinner(&self) -> ProgressBar {
        match self.path() {
            Some(_) => progress::spinner("exporting"),
            None => ProgressBar::hidden(),
        }
    }
}
