//! Portions come into the log in order, and what is lost does not come.

use modelog_engine::Offset;
use modelog_formats::Options;

use super::*;
use crate::config::Format;
use crate::portion::Raw;

const PATIENCE: Duration = Duration::from_secs(60);

fn pipeline(engine: &Engine, workers: usize) -> Pipeline {
    let template = "{namespace}/{inferenceservicename}".parse().unwrap();
    let decoder = Decoder::new(Format::Json, Options::default(), template, "g".into());
    Pipeline::start(engine.clone(), &decoder, 1 << 20, workers).unwrap()
}

fn assigned(partition: i32) -> Arc<Assigned> {
    Arc::new(Assigned::new("c".into(), "t".into(), None, partition, 0))
}

/// A portion with `count` messages of each of some partitions, from a position on.
fn portion(of: &[&Arc<Assigned>], first: i64, count: i64) -> Portion {
    let mut portion = Portion::with_capacity(1024);
    for assigned in of {
        let stretch = portion.begin(assigned, first);
        for position in first..first + count {
            let partition = assigned.partition;
            let value = format!(
                r#"{{"type":"MetricLogged","run":"p{partition}","name":"n","value":{position}}}"#
            );
            portion.add(
                stretch,
                Raw {
                    position,
                    leader_epoch: 1,
                    value: Some(value.as_bytes()),
                    key: None,
                },
            );
        }
    }
    portion
}

/// Partition and position of every event, in the order of the log.
fn logged(engine: &Engine) -> Vec<(i32, i64)> {
    let mut reader = engine.reader(Offset::ZERO);
    let mut found = Vec::new();
    while reader.position() < engine.tail() {
        for batch in block_on(reader.next(1 << 20)).unwrap() {
            for row in batch.in_order() {
                let mut line = Vec::new();
                row.write_json_line(&mut line);
                let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
                let run = event["run"].as_str().unwrap();
                let partition = run.strip_prefix('p').unwrap().parse().unwrap();
                found.push((partition, event["value"].as_f64().unwrap() as i64));
            }
        }
    }
    found
}

#[test]
fn portions_are_appended_in_the_order_they_were_sent() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let mut pipeline = pipeline(&engine, 4);
    let partition = assigned(7);
    let mut first = 0;
    // Large ones take longer to decode than those behind them.
    for count in (1..60).flat_map(|n| [n * 7, 1]) {
        pipeline.send(portion(&[&partition], first, count));
        first += count;
    }
    assert!(pipeline.wait_until_idle(PATIENCE));
    assert_eq!(pipeline.take_failure(), None);
    assert_eq!(partition.durable(), first);
    let expected: Vec<_> = (0..first).map(|position| (7, position)).collect();
    assert!(logged(&engine) == expected);
    assert_eq!(engine.positions("c")[0].next, first);
}

/// Redpanda Connect let the late results of a partition it had lost pass for those of the one it had been given.
#[test]
fn nothing_of_a_lost_partition_is_appended() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let mut pipeline = pipeline(&engine, 2);
    let (kept, lost) = (assigned(1), assigned(2));
    pipeline.send(portion(&[&kept, &lost], 0, 3));
    assert!(pipeline.wait_until_idle(PATIENCE));
    lost.lose();
    pipeline.send(portion(&[&lost, &kept], 3, 3));
    assert!(pipeline.wait_until_idle(PATIENCE));
    assert_eq!(pipeline.take_failure(), None);
    let of_lost = logged(&engine).iter().filter(|(of, _)| *of == 2).count();
    assert_eq!(of_lost, 3, "late events of a lost partition came");
    assert_eq!((kept.durable(), lost.durable()), (6, 3));
}

/// Positions that do not follow are refused by the log, and everything behind them is lost until it is read again.
#[test]
fn what_does_not_follow_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let mut pipeline = pipeline(&engine, 2);
    let partition = assigned(1);
    pipeline.send(portion(&[&partition], 0, 3));
    pipeline.send(portion(&[&partition], 4, 3));
    pipeline.send(portion(&[&partition], 7, 3));
    assert!(pipeline.wait_until_idle(PATIENCE));
    assert!(matches!(
        pipeline.take_failure(),
        Some(AppendError::OutOfPlace {
            expected: 3,
            found: 4,
            ..
        })
    ));
    assert!(partition.is_lost());
    assert_eq!(engine.tail().0, 3);
}
