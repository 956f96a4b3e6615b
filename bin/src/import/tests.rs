//! Cutting: what the pieces hold together, and where errors point.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Float64Array, RecordBatch, StringArray};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use indicatif::ProgressBar;
use modelog_engine::event::{Kind, schema};
use modelog_engine::{AppendOptions, Engine, LogId, Offset, Timestamp};
use modelog_formats::{Format, Options, decode};
use modelog_parquet::files::FileWriter as ParquetWriter;
use uuid::Uuid;

use super::check::{CheckedInput, check};
use super::chunk::{CHUNK_BYTES, Chunk, Cut, CutError, EVENT_BYTES_MAX, Spot};
use super::elements::Elements;
use super::history;
use super::identity::Identity;
use super::input::{Blocks, Input};
use super::lines::Lines;
use super::pieces::Pieces;
use super::prepare::Preparing;
use super::send::Prepared;
use super::source::{InputFormat, open};
use super::{AtomicU64, ImportOptions, Outlet, Refusal, mpsc};

fn blocks(text: &[u8]) -> Blocks {
    Blocks::start(Box::new(Cursor::new(text.to_vec())), true, false)
}

fn all(mut cut: impl Cut) -> Result<Vec<Chunk>, CutError> {
    let mut chunks = Vec::new();
    while let Some(chunk) = cut.next()? {
        assert_eq!(chunk.index, chunks.len() as u64);
        chunks.push(chunk);
    }
    assert!(cut.digest()?.is_some());
    Ok(chunks)
}

fn lines(text: &[u8]) -> Result<Vec<Chunk>, CutError> {
    all(Lines::new("f".into(), blocks(text)))
}

fn elements(text: &[u8]) -> Result<Vec<Chunk>, CutError> {
    all(Elements::new("f".into(), blocks(text), Format::Json))
}

fn events(count: usize) -> Vec<String> {
    let event = |number: usize| {
        format!(
            "{{\"type\":\"EventLogged\",\"name\":\"n{number}\",\"data\":\"{}]}}\\\"\"}}",
            "x".repeat(number * 13 % 7000)
        )
    };
    (0..count).map(event).collect()
}

/// The names in all pieces, in order, as the format understands them.
fn names(chunks: &[Chunk]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    for chunk in chunks {
        let decoded = decode(&chunk.bytes, chunk.format, &Options::default())
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(u64::from(decoded.batch.rows()), chunk.events);
        engine
            .append_blocking(decoded.batch, AppendOptions::default())
            .unwrap();
    }
    let mut reader = engine.reader(Offset::ZERO);
    let mut names = Vec::new();
    while reader.position() < engine.tail() {
        for batch in reader.read(1 << 20).unwrap() {
            for row in batch.in_order() {
                let column = schema::find_column(row.kind(), "name").unwrap();
                names.push(row.text(column).unwrap().to_owned());
            }
        }
    }
    names
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("n{number}")).collect()
}

#[test]
fn lines_are_cut_between_lines_and_nothing_is_lost() {
    let count = 2_000;
    let text = events(count).join("\n");
    let chunks = lines(text.as_bytes()).unwrap();
    assert!(chunks.len() > 2);
    let joined: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| chunk.bytes.clone())
        .collect();
    assert_eq!(joined, text.as_bytes());
    for chunk in &chunks[..chunks.len() - 1] {
        assert!(chunk.bytes.ends_with(b"\n") && chunk.bytes.len() <= CHUNK_BYTES);
    }
    assert_eq!(names(&chunks), expected(count));
}

#[test]
fn a_line_longer_than_a_piece_is_a_piece() {
    let long = format!(
        "{{\"type\":\"EventLogged\",\"name\":\"n1\",\"extra\":{{\"x\":\"{}\"}}}}",
        "y".repeat(CHUNK_BYTES)
    );
    let text = format!("{}\n{long}\n{}\n", events(1)[0], events(3)[2]);
    let chunks = lines(text.as_bytes()).unwrap();
    let lengths: Vec<_> = chunks.iter().map(|chunk| chunk.events).collect();
    assert_eq!(lengths, [1, 1, 1]);
    let endless = vec![b'x'; EVENT_BYTES_MAX + CHUNK_BYTES];
    let error = lines(&endless).unwrap_err().to_string();
    assert!(
        error.starts_with("f:1: byte 0: the line is longer than"),
        "{error}"
    );
}

#[test]
fn blank_lines_are_no_events() {
    let chunks = lines(b"\n  \n{\"type\":\"EventLogged\",\"name\":\"n0\"}\r\n\n").unwrap();
    assert_eq!(names(&chunks), ["n0"]);
    assert!(lines(b"").unwrap().is_empty());
}

#[test]
fn errors_in_lines_point_into_the_file() {
    let mut text = events(2_000);
    text[1_900] = "{\"type\":\"EventLogged\"}".into();
    let text = text.join("\n");
    let chunks = lines(text.as_bytes()).unwrap();
    let (errors, chunk) = chunks
        .iter()
        .find_map(|chunk| {
            let errors = decode(&chunk.bytes, chunk.format, &Options::default()).err()?;
            Some((errors, chunk))
        })
        .unwrap();
    let error = &errors.errors[0];
    let place = chunk.locate(&Spot {
        event: Some(error.event),
        line: error.line,
        byte: error.byte,
    });
    assert!(place.starts_with(":1901: byte "), "{place}");
    let byte: usize = place
        .trim_start_matches(":1901: byte ")
        .trim_end_matches(": ")
        .parse()
        .unwrap();
    assert_eq!(text[..byte].matches('\n').count(), 1_900);
}

#[test]
fn json_is_cut_however_it_is_laid_out() {
    let count = 2_000;
    let events = events(count);
    for text in [
        format!("[{}]", events.join(",")),
        format!("\u{feff} [\n{}\n]\n", events.join(",\n  ")),
        events.join(""),
        events.join("\n\n"),
    ] {
        let chunks = elements(text.as_bytes()).unwrap();
        assert!(chunks.len() > 2);
        assert_eq!(names(&chunks), expected(count));
    }
    assert!(elements(b" \n").unwrap().is_empty());
    assert!(elements(b"[ ]").unwrap().is_empty());
    let pretty = b"{\n  \"type\": \"EventLogged\",\n  \"name\": \"n0\"\n}\n";
    assert_eq!(names(&elements(pretty).unwrap()), ["n0"]);
}

#[test]
fn json_that_cannot_be_cut_is_told_where() {
    for (text, said) in [
        (
            "[{}, {}",
            "f:1: byte 7: the input ends before the array does",
        ),
        ("[{},\n]", "f:2: byte 5: an event is missing before ']'"),
        (
            "[{}\n {}]",
            "f:2: byte 5: a comma or the end of the array is missing here",
        ),
        (
            "[{}] {}",
            "f:1: byte 5: something follows the end of the array",
        ),
        ("{}\n,{}", "f:2: byte 3: an event is missing before ','"),
        (
            "[{}, {\"a\":\n[1}",
            "f:2: byte 14: the input ends within the event that starts at line 1",
        ),
        (
            "{\"a\":\"b",
            "f:1: byte 7: the input ends within the event that starts at line 1",
        ),
        ("[", "f:1: byte 1: the input ends before the array does"),
    ] {
        assert_eq!(
            elements(text.as_bytes()).unwrap_err().to_string(),
            said,
            "{text}"
        );
    }
    let mut endless = b"[{\"a\":\"".to_vec();
    endless.resize(EVENT_BYTES_MAX + CHUNK_BYTES, b'x');
    let error = elements(&endless).unwrap_err().to_string();
    assert!(
        error.starts_with("f:1: byte 1: the event that starts here"),
        "{error}"
    );
}

#[test]
fn errors_in_json_point_into_the_file() {
    let text = "[\n{\"type\":\"EventLogged\",\"name\":\"a\"},\n\n{\"type\":\n\"EventLogged\",\n\"name\":5}]";
    let chunks = elements(text.as_bytes()).unwrap();
    let errors = decode(&chunks[0].bytes, Format::Json, &Options::default()).unwrap_err();
    let error = &errors.errors[0];
    let spot = Spot {
        event: Some(error.event),
        line: error.line,
        byte: error.byte,
    };
    let byte = text.find('5').unwrap();
    assert_eq!(chunks[0].locate(&spot), format!(":6: byte {byte}: "));
    // Numbers, words and texts are for the format to refuse, one by one.
    let chunks = elements(b"[1, \"a\", null, {}]").unwrap();
    let errors = decode(&chunks[0].bytes, Format::Json, &Options::default()).unwrap_err();
    assert_eq!(errors.total, 4);
}

#[test]
fn cuts_do_not_depend_on_how_bytes_arrive() {
    struct Trickle(Cursor<Vec<u8>>, usize);
    impl std::io::Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = self.1 * 31 % 100_003 + 1;
            let limit = buffer.len().min(self.1);
            self.0.read(&mut buffer[..limit])
        }
    }
    let text = events(1_800).join("\n").into_bytes();
    let trickle = || {
        let reader = Trickle(Cursor::new(text.clone()), 7);
        Blocks::start(Box::new(reader), true, false)
    };
    let bytes = |chunks: Vec<Chunk>| -> Vec<Vec<u8>> {
        chunks.into_iter().map(|chunk| chunk.bytes).collect()
    };
    assert_eq!(
        bytes(all(Lines::new("f".into(), trickle())).unwrap()),
        bytes(lines(&text).unwrap())
    );
    assert_eq!(
        bytes(all(Elements::new("f".into(), trickle(), Format::Json)).unwrap()),
        bytes(elements(&text).unwrap())
    );
}

fn batch(rows: usize) -> RecordBatch {
    let names: DictionaryArray<Int32Type> = (0..rows)
        .map(|row| Some(["loss", "accuracy"][row % 2]))
        .collect();
    let runs = StringArray::from_iter_values((0..rows).map(|row| format!("r{row}")));
    let values = Float64Array::from_iter_values((0..rows).map(|row| row as f64));
    RecordBatch::try_from_iter([
        ("name", Arc::new(names) as ArrayRef),
        ("run", Arc::new(runs)),
        ("value", Arc::new(values)),
    ])
    .unwrap()
}

fn arrow(bytes: &[u8]) -> Result<Vec<Chunk>, CutError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.arrow");
    std::fs::write(&path, bytes).unwrap();
    let pieces = open(&Input::File(path), None, true)?;
    assert_eq!(pieces.format, InputFormat::Arrow);
    let mut cut = pieces.cut;
    let mut chunks = Vec::new();
    while let Some(chunk) = cut.next()? {
        chunks.push(chunk);
    }
    assert!(cut.digest()?.is_some());
    Ok(chunks)
}

#[test]
fn arrow_is_cut_into_streams_of_their_own() {
    let rows = 100_000;
    let batches = [batch(rows), batch(0), batch(3)];
    let mut stream = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    let mut file = FileWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    for batch in &batches {
        stream.write(batch).unwrap();
    }
    // A file has one dictionary for all its batches.
    file.write(&batches[0]).unwrap();
    let stream = stream.into_inner().unwrap();
    let file = file.into_inner().unwrap();
    let options = Options {
        kind: Some(Kind::MetricLogged),
        ..Options::default()
    };
    for (bytes, expected) in [(&stream, rows + 3), (&file, rows)] {
        let chunks = arrow(bytes).unwrap();
        assert!(chunks.len() > 3);
        let mut decoded = 0;
        for chunk in &chunks {
            let batch = decode(&chunk.bytes, chunk.format, &options).unwrap().batch;
            assert_eq!(u64::from(batch.rows()), chunk.events);
            assert_eq!(
                chunk.locate(&Spot {
                    event: Some(1),
                    ..Spot::default()
                }),
                format!(": row {}: ", decoded + 1)
            );
            decoded += chunk.events;
        }
        assert_eq!(decoded, expected as u64);
    }
    for end in [9, stream.len() / 2, stream.len() - 300] {
        assert!(
            matches!(arrow(&stream[..end]), Err(CutError::Arrow { .. })),
            "{end}"
        );
    }
}

#[test]
fn a_file_that_changes_under_the_import_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.ndjson");
    std::fs::write(&path, events(3).join("\n")).unwrap();
    let input = Input::File(path.clone());
    let options = Arc::new(ImportOptions {
        format: None,
        kind: None,
        skips: false,
        strict: false,
        decoding: Options::default(),
    });
    let (identity, places) = check(&input, &options, &ProgressBar::hidden()).unwrap();
    assert_eq!(places.total, 0);
    let prepared = |identity: Identity| -> Vec<Result<Prepared, Refusal>> {
        let (sender, mut receiver) = mpsc::channel(10);
        let checked = CheckedInput {
            input: input.clone(),
            identity: Some(identity),
        };
        let outlet = Outlet {
            sender,
            known_below: Arc::new(AtomicU64::new(0)),
        };
        Preparing::new(checked, Arc::clone(&options), true).run(&outlet);
        drop(outlet);
        std::iter::from_fn(|| receiver.blocking_recv()).collect()
    };
    assert!(matches!(prepared(identity.clone())[..], [Ok(_)]));
    std::fs::write(&path, events(4).join("\n")).unwrap();
    assert!(matches!(
        prepared(identity)[..],
        [Ok(_), Err(Refusal::Changed)]
    ));
}

/// Where the pieces of a file end, and what they hold, if its row groups have so many rows.
fn pieces_of(rows: &RecordBatch, group_rows: usize) -> Vec<(Vec<u64>, usize)> {
    let log = LogId(Uuid::from_u128(1));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.parquet");
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ParquetWriter::new(file, Kind::EventLogged, log).unwrap();
    for start in (0..rows.num_rows()).step_by(group_rows) {
        let length = group_rows.min(rows.num_rows() - start);
        writer.write(&rows.slice(start, length)).unwrap();
        writer.flush().unwrap();
    }
    writer.finish().unwrap();
    let history = history::gather(&[path]).unwrap().remove(0);
    assert_eq!(history.stretches.len(), 1);
    let mut pieces = Pieces::new(history.log, &history.stretches[0], true);
    let mut found = Vec::new();
    while let Some(piece) = pieces.next(None).unwrap() {
        assert_eq!(piece.index, found.len() as u64);
        assert_eq!(piece.batch.rows() as usize, piece.offsets.len());
        found.push((piece.offsets, piece.batch.bytes()));
    }
    found
}

#[test]
fn where_a_piece_of_history_ends_depends_on_its_events_alone() {
    let text = events(6_000).join("\n");
    let decoded = decode(text.as_bytes(), Format::Ndjson, &Options::default()).unwrap();
    let batch = decoded
        .batch
        .into_logged(Offset(70), Timestamp::from_micros(1_700_000_000_000_000));
    let rows = batch.tables[0].to_record_batch(batch.first_offset, batch.append_time);
    let whole = pieces_of(&rows, rows.num_rows());
    assert!(whole.len() > 3, "{}", whole.len());
    let offsets: Vec<_> = whole
        .iter()
        .flat_map(|(offsets, _)| offsets.clone())
        .collect();
    assert_eq!(offsets, Vec::from_iter(70..6_070));
    for group_rows in [1_777, 64] {
        assert_eq!(pieces_of(&rows, group_rows), whole);
    }
}
