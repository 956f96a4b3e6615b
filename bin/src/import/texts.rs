//! The events of an input as they are written, for those who pass them on unread.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::chunk::{Chunk, Cut, CutError, Places};
use super::input::Input;
use super::source::{self, InputFormat};
use crate::exit::Failed;

/// What an input of texts is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TextFormat {
    /// A JSON value a line; blank lines are passed over
    Ndjson,
    /// A JSON value, an array of them, or several one after another
    Json,
    /// Lines of anything, blank ones too
    Lines,
}

/// An input that is being cut.
pub(crate) struct Texts {
    name: String,
    bytes: u64,
    cut: Box<dyn Cut>,
    format: TextFormat,
    read: Arc<AtomicU64>,
}

/// Some of the texts of an input.
#[derive(Debug)]
pub(crate) struct Portion {
    chunk: Chunk,
    format: TextFormat,
    /// How many bytes of the input, as it is stored, were read so far.
    pub(crate) read: u64,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where it starts in the input, from 1.
    pub(crate) line: u64,
}

impl Texts {
    /// Opens a file, or stdin if the path is `-`; compressed or not.
    ///
    /// # Errors
    /// If it cannot be opened, or holds no text.
    pub(crate) fn open(path: &Path, format: Option<TextFormat>) -> Result<Self> {
        let input = Input::new(path);
        let cutting = format.map(|format| match format {
            TextFormat::Ndjson | TextFormat::Lines => InputFormat::Ndjson,
            TextFormat::Json => InputFormat::Json,
        });
        let pieces = source::open(&input, cutting, false).map_err(failed)?;
        let format = match (format, pieces.format) {
            (Some(format), _) => format,
            (None, InputFormat::Ndjson) => TextFormat::Ndjson,
            (None, InputFormat::Json | InputFormat::Cloudevents) => TextFormat::Json,
            (None, InputFormat::Arrow | InputFormat::Parquet) => {
                return Err(Failed::bad_data(format!("{} holds no text", input.name())));
            }
        };
        Ok(Self {
            name: input.name(),
            bytes: input.bytes(),
            cut: pieces.cut,
            format,
            read: pieces.read,
        })
    }

    /// What to call it in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes it has, as it is stored.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What comes next; none at the end.
    ///
    /// # Errors
    /// If the input cannot be read, or its texts not be told apart.
    pub(crate) fn next(&mut self) -> Result<Option<Portion>> {
        let chunk = self.cut.next().map_err(failed)?;
        Ok(chunk.map(|chunk| Portion {
            chunk,
            format: self.format,
            read: self.read.load(Ordering::Relaxed),
        }))
    }
}

fn failed(error: CutError) -> anyhow::Error {
    Failed::caused(error.exit(), error)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Portion {
    /// The texts, in order.
    pub(crate) fn texts(&self) -> Vec<Text<'_>> {
        let bytes = &self.chunk.bytes[..];
        match &self.chunk.places {
            Places::Stretch { line, byte } => {
                let lines = bytes.split_inclusive(|byte| *byte == b'\n');
                let lines = lines.zip(*line..);
                let text = |(bytes, line)| Text { bytes, line };
                let begins = *byte == 0;
                lines
                    .map(text)
                    .filter_map(|text| self.of_line(text, begins))
                    .collect()
            }
            Places::Events(places) => {
                let ends = places.iter().skip(1).map(|next| next.at as usize);
                let ends = ends.chain([bytes.len()]);
                let text = |(place, end): (&super::chunk::EventPlace, usize)| Text {
                    // A comma follows, or the end of the array.
                    bytes: bytes[place.at as usize..end - 1].trim_ascii(),
                    line: place.line,
                };
                places.iter().zip(ends).map(text).collect()
            }
            Places::Rows { .. } | Places::Offsets(_) | Places::Keys(_) => {
                unreachable!("only text is cut for texts")
            }
        }
    }

    /// A line without its end; nothing if it says nothing.
    fn of_line<'a>(&self, line: Text<'a>, begins: bool) -> Option<Text<'a>> {
        let bytes = line.bytes.strip_suffix(b"\n").unwrap_or(line.bytes);
        if self.format == TextFormat::Lines {
            return Some(Text { bytes, ..line });
        }
        let mark = (begins && line.line == 1).then(|| bytes.strip_prefix(BYTE_ORDER_MARK));
        let bytes = mark.flatten().unwrap_or(bytes).trim_ascii();
        (!bytes.is_empty()).then_some(Text { bytes, ..line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str, format: Option<TextFormat>) -> Vec<(String, u64)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut texts = Texts::open(&path, format).unwrap();
        let mut all = Vec::new();
        while let Some(portion) = texts.next().unwrap() {
            let found = portion.texts().into_iter();
            all.extend(
                found.map(|text| (String::from_utf8(text.bytes.into()).unwrap(), text.line)),
            );
        }
        all
    }

    fn expect(texts: &[(&str, u64)]) -> Vec<(String, u64)> {
        texts
            .iter()
            .map(|(text, line)| ((*text).into(), *line))
            .collect()
    }

    #[test]
    fn texts_are_as_they_are_written() {
        let lines = "\u{feff}{\"a\": 1}\r\n\n  {\"b\":[1,\n";
        let ndjson = expect(&[("{\"a\": 1}", 1), ("{\"b\":[1,", 3)]);
        assert_eq!(read("x.ndjson", lines, None), ndjson);
        let all = expect(&[("\u{feff}{\"a\": 1}\r", 1), ("", 2), ("  {\"b\":[1,", 3)]);
        assert_eq!(read("x.ndjson", lines, Some(TextFormat::Lines)), all);
        let json = "[{\"a\": [1, 2]} , \n{\"b\":\"],\"}\n]";
        let elements = expect(&[("{\"a\": [1, 2]}", 1), ("{\"b\":\"],\"}", 2)]);
        assert_eq!(read("x", json, None), elements);
        let several = "{\"a\":1}\n{\"b\":2}";
        let elements = expect(&[("{\"a\":1}", 1), ("{\"b\":2}", 2)]);
        assert_eq!(read("x.json", several, None), elements);
        for format in [TextFormat::Ndjson, TextFormat::Json, TextFormat::Lines] {
            assert_eq!(read("x", "", Some(format)), []);
        }
    }

    #[test]
    fn every_text_of_a_long_input_comes_once() {
        let element = |number| format!("{{\"number\":{number},\"text\":\"{number:0200}\"}}");
        let all: Vec<_> = (0..30_000).map(element).collect();
        let texts = |read: Vec<(String, u64)>| -> Vec<_> {
            read.into_iter().map(|(text, _)| text).collect()
        };
        assert_eq!(texts(read("x", &all.join("\n"), None)), all);
        let array = format!("[{}]", all.join(","));
        assert_eq!(texts(read("x.json", &array, None)), all);
    }
}
