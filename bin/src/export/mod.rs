//! `export`: events of the log as NDJSON or CSV, through the server that holds the log or from its files.
//!
//! Both ways give the same bytes: NDJSON lines are those of the API, CSV is made from the same Arrow columns. Memory
//! holds one piece of the log at a time.

mod csv;
mod output;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_ipc::reader::StreamDecoder;
use indicatif::ProgressBar;
use modelog_engine::batch::{self, LoggedBatch};
use modelog_engine::event::{Kind, schema};
use modelog_engine::{Engine, Offset};
use reqwest::Method;

use crate::client::Client;
use crate::config::Settings;
use crate::exit::Failed;
use crate::filter::{self, Filter, Span};
use crate::output::counted;
use crate::place::{self, Place, Reach};
use crate::progress;
use output::Output;

/// How much of the log is read at a time.
const READ_BYTES: usize = 4 << 20;

/// What a file of events looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileFormat {
    /// A JSON object a line, which `import` takes again
    Ndjson,
    /// A table of one kind; no value is an empty field, an empty text is ""
    Csv,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  modelog export --kind PredictionLogged --model resnet50 --since 7d --format csv --out predictions.csv
  modelog export --kind EventRejected | jq -r .message
  modelog export --out everything.ndjson")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    span: Span,
    #[arg(long, value_enum, default_value = "ndjson")]
    format: FileFormat,
    /// The file to write; it appears when it is complete. - is stdout
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    #[command(flatten)]
    reach: Reach,
}

/// What is written, and how.
struct Job {
    filter: Filter,
    span: Span,
    /// Both, as rows are asked.
    wanted: batch::Filter,
    /// The kind of a CSV file; NDJSON has none.
    table: Option<Kind>,
    out: Output,
    written: u64,
}

/// Writes events.
///
/// # Errors
/// If the log or the server cannot be read, or the file not written.
pub(crate) async fn run(settings: &Settings, args: ExportArgs) -> Result<()> {
    let table = match (args.format, args.filter.kind) {
        (FileFormat::Ndjson, _) => None,
        (FileFormat::Csv, Some(kind)) => Some(kind),
        (FileFormat::Csv, None) => {
            return Err(Failed::usage(
                "a CSV file holds one kind of events: name it with --kind",
            ));
        }
    };
    let place = Place::find(&args.reach, settings)?;
    let engine = match &place {
        Place::Server(_) => None,
        Place::Directory => Some(place::open_existing(settings).await?),
    };
    let mut job = Job {
        out: Output::open(&args.out)?,
        wanted: args.filter.of_rows(args.span),
        filter: args.filter,
        span: args.span,
        table,
        written: 0,
    };
    if let Some(kind) = table {
        let mut line = Vec::new();
        csv::header(&schema::arrow_schema(kind), &mut line);
        job.out.write_all(&line)?;
    }
    match (&place, &engine) {
        (Place::Server(client), _) if table.is_some() => job.server_columns(client).await?,
        (Place::Server(client), _) => job.server_lines(client).await?,
        (Place::Directory, Some(engine)) => job.files(engine)?,
        (Place::Directory, None) => unreachable!("a directory was opened above"),
    }
    if let Some(engine) = engine {
        engine.close().await?;
    }
    let done = job
        .out
        .file()
        .map(|path| format!("{} in {}", counted(job.written, "event"), path.display()));
    job.out.finish()?;
    if let Some(done) = done {
        eprintln!("{done}");
    }
    Ok(())
}

impl Job {
    fn files(&mut self, engine: &Engine) -> Result<()> {
        let tail = engine.tail();
        let bar = self.bar(tail.0);
        let mut reader = engine.reader(Offset::ZERO);
        while reader.position() < tail {
            for batch in reader.read(READ_BYTES)? {
                match self.table {
                    Some(kind) => self.columns(kind, &batch)?,
                    None => self.lines(&batch)?,
                }
                bar.set_position(batch.end().0);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn lines(&mut self, batch: &Arc<LoggedBatch>) -> io::Result<()> {
        let mut line = Vec::new();
        for row in batch.in_order() {
            if self.wanted.takes(row) {
                line.clear();
                row.write_json_line(&mut line);
                line.push(b'\n');
                self.out.write_all(&line)?;
                self.written += 1;
            }
        }
        Ok(())
    }

    fn columns(&mut self, kind: Kind, batch: &Arc<LoggedBatch>) -> io::Result<()> {
        let Some(table) = batch.table(kind) else {
            return Ok(());
        };
        let record = table.to_record_batch(batch.first_offset, batch.append_time);
        let mut line = Vec::new();
        for (at, row) in batch.rows_of(table).enumerate() {
            if self.wanted.takes(row) {
                line.clear();
                csv::row(&record, at, &mut line)?;
                self.out.write_all(&line)?;
                self.written += 1;
            }
        }
        Ok(())
    }

    async fn server_lines(&mut self, client: &Client) -> Result<()> {
        let path = filter::path("/v1/events", &self.filter, self.span);
        let request = client
            .request(Method::GET, &path)
            .header("accept", "application/x-ndjson");
        let mut response = client.send(request).await?;
        let spinner = self.spinner();
        // A log that cannot be read on cuts the connection, which is an error here.
        while let Some(bytes) = response
            .chunk()
            .await
            .map_err(|error| client.unreachable(error))?
        {
            self.written += memchr::memchr_iter(b'\n', &bytes).count() as u64;
            self.out.write_all(&bytes)?;
            spinner.set_message(counted(self.written, "event"));
        }
        spinner.finish_and_clear();
        Ok(())
    }

    async fn server_columns(&mut self, client: &Client) -> Result<()> {
        let path = filter::path("/v1/events", &self.filter, self.span);
        let request = client
            .request(Method::GET, &path)
            .header("accept", "application/vnd.apache.arrow.stream");
        let mut response = client.send(request).await?;
        let spinner = self.spinner();
        let unreadable = || format!("{} sent an Arrow stream that cannot be read", client.what());
        let mut decoder = StreamDecoder::new();
        let mut line = Vec::new();
        while let Some(bytes) = response
            .chunk()
            .await
            .map_err(|error| client.unreachable(error))?
        {
            let mut buffer = arrow_buffer::Buffer::from(bytes);
            while let Some(batch) = decoder.decode(&mut buffer).with_context(unreadable)? {
                for row in 0..batch.num_rows() {
                    line.clear();
                    csv::row(&batch, row, &mut line)?;
                    self.out.write_all(&line)?;
                }
                self.written += batch.num_rows() as u64;
            }
            spinner.set_message(counted(self.written, "event"));
        }
        decoder.finish().with_context(unreadable)?;
        spinner.finish_and_clear();
        Ok(())
    }

    /// Progress is shown beside a file only: rows on the same terminal would tear it apart.
    fn bar(&self, total: u64) -> ProgressBar {
        match self.out.file() {
            Some(_) => progress::events(total, "exporting"),
            None => ProgressBar::hidden(),
        }
    }

    fn spinner(&self) -> ProgressBar {
        match self.out.file() {
            Some(_) => progress::spinner("exporting"),
            None => ProgressBar::hidden(),
        }
    }
}
