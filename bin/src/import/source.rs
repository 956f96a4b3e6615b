//! From an input to its pieces: which format it has, and what cuts it.

use modelog_formats::Format;

use super::arrow::{ArrowRows, FILE_MAGIC};
use super::chunk::{Cut, CutError};
use super::elements::Elements;
use super::history;
use super::input::{Blocks, Input};
use super::lines::Lines;

/// What an input is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InputFormat {
    /// An event a line
    Ndjson,
    /// An event, an array of events, or events one after another
    Json,
    /// CloudEvents 1.0 in JSON: one, an array, or one after another
    Cloudevents,
    /// An Arrow IPC stream or file, of one kind of events
    Arrow,
    /// Parquet files that a Modelog wrote, or directories of them
    Parquet,
}

/// What an Arrow stream begins with: the mark of its first message.
const STREAM_MAGIC: &[u8] = &[0xff; 4];

impl InputFormat {
    /// The word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Json => "json",
            Self::Cloudevents => "cloudevents",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// Makes out what an input is: by its first bytes, then by its name.
    pub(super) fn of(input: &Input, head: &[u8]) -> Self {
        if head.starts_with(FILE_MAGIC) || head.starts_with(STREAM_MAGIC) {
            return Self::Arrow;
        }
        if head.starts_with(history::MAGIC) {
            return Self::Parquet;
        }
        if head.trim_ascii_start().starts_with(b"[") {
            return Self::Json;
        }
        let name = input.name().to_ascii_lowercase();
        let name = name
            .strip_suffix(".gz")
            .or_else(|| name.strip_suffix(".zst"))
            .unwrap_or(&name);
        if name.ends_with(".json") {
            Self::Json
        } else if [".arrow", ".arrows", ".feather", ".ipc"]
            .iter()
            .any(|ending| name.ends_with(ending))
        {
            Self::Arrow
        } else {
            Self::Ndjson
        }
    }
}

/// An input, about to be cut.
pub(super) struct Pieces {
    pub(super) cut: Box<dyn Cut>,
    pub(super) format: InputFormat,
    /// How many bytes of the input, as it is stored, were read so far.
    pub(super) read: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

/// Opens an input and finds what cuts it. With `hashed` the cutter tells the hash of everything at the end.
pub(super) fn open(
    input: &Input,
    format: Option<InputFormat>,
    hashed: bool,
) -> Result<Pieces, CutError> {
    let name = input.name();
    let opened = input.open().map_err(|source| CutError::Io {
        name: name.clone(),
        source,
    })?;
    let format = format.unwrap_or_else(|| InputFormat::of(input, &opened.head));
    let read = opened.read;
    if format == InputFormat::Arrow && opened.head.starts_with(FILE_MAGIC) {
        let cut = match (input, opened.compressed) {
            (Input::File(path), false) => Box::new(ArrowRows::file(name, path, hashed)?),
            _ => {
                return Err(CutError::Arrow {
                    name,
                    message: "an Arrow file, unlike a stream, can be read from disk only, and not compressed".into(),
                });
            }
        };
        return Ok(Pieces { cut, format, read });
    }
    let pauses = *input == Input::Stdin;
    let blocks = Blocks::start(opened.reader, hashed, pauses);
    let cut: Box<dyn Cut> = match format {
        InputFormat::Ndjson => Box::new(Lines::new(name, blocks)),
        InputFormat::Json => Box::new(Elements::new(name, blocks, Format::Json)),
        InputFormat::Cloudevents => Box::new(Elements::new(name, blocks, Format::CloudEventBatch)),
        InputFormat::Arrow => Box::new(ArrowRows::stream(name, blocks)?),
        InputFormat::Parquet => {
            return Err(CutError::Arrow {
                name,
                message: "Parquet can be read from files only, whose ends say what they hold"
                    .into(),
            });
        }
    };
    Ok(Pieces { cut, format, read })
}
