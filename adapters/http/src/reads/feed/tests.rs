//! Readers whose rest is gone when they come back.

use modelog_engine::Engine;
use modelog_engine::event::{Event, EventLogged, Kind, RunFinished};

use super::super::arrow_events::ArrowEvents;
use super::*;

/// A log of frames of several sizes: larger than a step writes, of several kinds, of one event.
async fn log(directory: &std::path::Path) -> Engine {
    let engine = Engine::open(directory).unwrap();
    for (frame, rows) in [1, 1500, 2, 40, 9000, 1, 1, 300].into_iter().enumerate() {
        let events: Vec<Event> = (0..rows)
            .map(|row| match row % 7 {
                6 => Event::from(RunFinished {
                    run: format!("r{frame}-{row}"),
                    status: "finished".to_owned(),
                    error: None,
                }),
                _ => Event::from(EventLogged {
                    name: format!("{frame}-{row}-{}", "x".repeat(row % 100)),
                    data: None,
                }),
            })
            .collect();
        engine.append_events(&events).await.unwrap();
    }
    engine
}

fn write(row: Row<'_>, _: u32, out: &mut Vec<u8>) {
    row.write_json_line(out);
    out.push(b'\n');
}

fn only(kind: Kind) -> Filter {
    Filter {
        kinds: Some([kind].into_iter().collect()),
        ..Filter::default()
    }
}

/// Steps of several readers in turn; what each wrote.
async fn lines(engine: &Engine, reading: &Reading, filters: &[Filter]) -> Vec<Vec<u8>> {
    let until = Some(engine.tail());
    let mut readers: Vec<_> = filters
        .iter()
        .map(|filter| {
            let from = Offset(5);
            let feed = Feed::new(engine.reader(from), until);
            let events = Events::new(reading, feed, filter.clone(), from, engine.epoch());
            (Some(events), Vec::new())
        })
        .collect();
    while readers.iter().any(|(events, _)| events.is_some()) {
        for (events, written) in &mut readers {
            let Some(taken) = events.take() else { continue };
            let (left, out, step) = taken.step_elsewhere(write).await.unwrap();
            written.extend(out);
            *events = (step == Step::More).then_some(left);
        }
    }
    readers.into_iter().map(|(_, written)| written).collect()
}

async fn arrow(engine: &Engine, reading: &Reading, kinds: &[Kind]) -> Vec<Vec<u8>> {
    let until = Some(engine.tail());
    let mut readers: Vec<_> = kinds
        .iter()
        .map(|kind| {
            let from = Offset(5);
            let feed = Feed::new(engine.reader(from), until);
            let events = ArrowEvents::new(reading, feed, only(*kind), *kind, from);
            (Some(events.unwrap()), Vec::new())
        })
        .collect();
    while readers.iter().any(|(events, _)| events.is_some()) {
        for (events, written) in &mut readers {
            let Some(taken) = events.take() else { continue };
            let (left, out, step) = taken.step_elsewhere().await.unwrap();
            written.extend(out);
            *events = (step == Step::More).then_some(left);
        }
    }
    readers.into_iter().map(|(_, written)| written).collect()
}

/// The offsets in an Arrow stream.
fn offsets(stream: &[u8]) -> Vec<u64> {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    arrow_ipc::reader::StreamReader::try_new(stream, None)
        .unwrap()
        .flat_map(|batch| {
            let batch = batch.unwrap();
            let offsets = batch.column(0).as_primitive::<Int64Type>().values();
            offsets.iter().map(|at| *at as u64).collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test]
async fn what_is_gone_is_read_again_and_nothing_is_missed_or_repeated() {
    let directory = tempfile::tempdir().unwrap();
    drop(log(directory.path()).await);
    // From files, whose batches nobody else holds.
    let engine = Engine::open(directory.path()).unwrap();
    let filters = [
        Filter::default(),
        only(Kind::RunFinished),
        only(Kind::ModelCreated),
        Filter::default(),
    ];
    let kept = lines(&engine, &Reading::new(2), &filters).await;
    let gone = lines(&engine, &Reading::with_shelves(1, 0), &filters).await;
    assert_eq!(gone, kept);
    let first: Vec<u64> = String::from_utf8(kept[0].clone())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["log_offset"].as_u64())
        .map(Option::unwrap)
        .collect();
    assert_eq!(first, (5..engine.tail().0).collect::<Vec<_>>());

    let kinds = [Kind::EventLogged, Kind::RunFinished, Kind::EventLogged];
    let kept = arrow(&engine, &Reading::new(2), &kinds).await;
    let gone = arrow(&engine, &Reading::with_shelves(1, 0), &kinds).await;
    for (kept, gone) in kept.iter().zip(&gone) {
        assert_eq!(offsets(gone), offsets(kept));
    }
    let both: std::collections::BTreeSet<u64> = kept[..2]
        .iter()
        .flat_map(|stream| offsets(stream))
        .collect();
    assert_eq!(both.len() as u64, engine.tail().0 - 5);
}

#[tokio::test]
async fn readers_that_stand_still_hold_what_the_shelf_has_room_for() {
    let directory = tempfile::tempdir().unwrap();
    drop(log(directory.path()).await);
    let engine = Engine::open(directory.path()).unwrap();
    let room = 1 << 20;
    let reading = Reading::with_shelves(1, room);
    let mut still = Vec::new();
    let mut most = 0;
    for _ in 0..50 {
        let feed = Feed::new(engine.reader(Offset::ZERO), None);
        let events = Events::new(&reading, feed, Filter::default(), Offset::ZERO, 0);
        let (events, _, step) = events.step_elsewhere(write).await.unwrap();
        assert_eq!(step, Step::More);
        assert!(events.cursor.is_none() && events.feed.held.is_empty());
        most = most.max(reading.lines.bytes());
        still.push(events);
    }
    assert!(
        most > room / 2 && most <= room.max(still[0].feed.bytes()),
        "{most}"
    );
    drop(still);
    assert_eq!(reading.lines.bytes(), 0);
}
