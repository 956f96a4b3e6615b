//! Events from a server: its lines as they are, or one Arrow stream for each kind, all up to the same place in its log.

use std::io::Write;

use anyhow::{Context, Result};
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::Schema;
use modelog_engine::event::{Kind, schema};
use modelog_engine::{LogId, Offset};
use reqwest::{Method, Response};

use super::{Form, Job, Wanted};
use crate::client::{self, Client};
use crate::exit::Failed;
use crate::filter::{Filter, Until};
use crate::output::counted;

/// An answer that has begun.
pub(super) struct Answer {
    response: Response,
    /// The kind of an Arrow stream; lines have none.
    table: Option<Kind>,
    /// Whose events they are. A server that is older does not say.
    pub(super) log: Option<LogId>,
    /// Where the stretch ends that was answered.
    end: Option<Offset>,
}

/// Asks for events: those of a kind as Arrow, else all as lines.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub(super) async fn ask(client: &Client, wanted: &Wanted, table: Option<Kind>) -> Result<Answer> {
    ask_until(client, wanted, table, wanted.until).await
}

async fn ask_until(
    client: &Client,
    wanted: &Wanted,
    table: Option<Kind>,
    until: Option<Until>,
) -> Result<Answer> {
    let filter = Filter {
        kind: table.or(wanted.filter.kind),
        ..wanted.filter.clone()
    };
    let until = [("until", until.map(|until| until.to_string()))];
    let parts = [&filter.query()[..], &wanted.span.query()[..], &until[..]].concat();
    let accepted = match table {
        Some(_) => "application/vnd.apache.arrow.stream",
        None => "application/x-ndjson",
    };
    let request = client
        .request(Method::GET, &format!("/v1/events{}", client::query(&parts)))
        .header("accept", accepted);
    let response = client.send(request).await?;
    let header = |name| response.headers().get(name)?.to_str().ok();
    Ok(Answer {
        table,
        log: header("modelog-log").and_then(|log| log.parse().ok().map(LogId)),
        end: header("modelog-offset").and_then(|end| end.parse().ok().map(Offset)),
        response,
    })
}

/// Reads the answer that has begun, and asks for the other kinds if tables of all of them are wanted.
///
/// # Errors
/// If the server ends before its answer does, or the file cannot be written.
pub(super) async fn read(
    job: &mut Job,
    client: &Client,
    wanted: &Wanted,
    first: Answer,
) -> Result<()> {
    let several = matches!(job.form, Form::Tables(_)) && wanted.filter.kind.is_none();
    // The log grows meanwhile, and all tables are to be of one moment.
    let end = first.end.map(Until::Offset).or(wanted.until);
    let begun = first.table;
    columns_or_lines(job, client, first).await?;
    if several {
        for kind in Kind::ALL.into_iter().filter(|kind| Some(*kind) != begun) {
            let answer = ask_until(client, wanted, Some(kind), end).await?;
            columns_or_lines(job, client, answer).await?;
        }
    }
    Ok(())
}

async fn columns_or_lines(job: &mut Job, client: &Client, answer: Answer) -> Result<()> {
    match answer.table {
        Some(kind) => columns(job, client, answer.response, kind).await,
        None => lines(job, client, answer.response).await,
    }
}

async fn lines(job: &mut Job, client: &Client, mut response: Response) -> Result<()> {
    let spinner = job.spinner();
    // A log that cannot be read on cuts the connection, which is an error here.
    while let Some(bytes) = response
        .chunk()
        .await
        .map_err(|error| client.unreachable(error))?
    {
        job.written += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        let Form::Lines(out) = &mut job.form else {
            unreachable!("lines are asked for as such");
        };
        out.write_all(&bytes)?;
        spinner.set_message(counted(job.written, "event"));
    }
    spinner.finish_and_clear();
    Ok(())
}

async fn columns(job: &mut Job, client: &Client, mut response: Response, kind: Kind) -> Result<()> {
    let spinner = job.spinner();
    let unreadable = || format!("{} sent an Arrow stream that cannot be read", client.what());
    let mut decoder = StreamDecoder::new();
    while let Some(bytes) = response
        .chunk()
        .await
        .map_err(|error| client.unreachable(error))?
    {
        let mut buffer = arrow_buffer::Buffer::from(bytes);
        while let Some(rows) = decoder.decode(&mut buffer).with_context(unreadable)? {
            check(client, kind, rows.schema_ref())?;
            job.write(kind, &rows)?;
        }
        spinner.set_message(counted(job.written, "event"));
    }
    decoder.finish().with_context(unreadable)?;
    spinner.finish_and_clear();
    Ok(())
}

/// The files are to have the columns that this program knows.
fn check(client: &Client, kind: Kind, found: &Schema) -> Result<()> {
    if found.fields() == schema::arrow_schema(kind).fields() {
        return Ok(());
    }
    Err(Failed::bad_data(format!(
        "{} is of another version: its {kind} has other columns than this program knows",
        client.what()
    )))
}
