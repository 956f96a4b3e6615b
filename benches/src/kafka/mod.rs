//! Rows about Kafka: from a topic into the log, into SQLite, into Parquet; after a `kill -9`; until a follower sees it.
//!
//! The broker is given and shares the cores. The limit is `kcat -C`, a bare consumer of librdkafka, on the same topic. What
//! both need before the first message is not counted: ours is timed from the first events in the log on.
//!
//! Into the log and into Parquet are measured in process, with nothing else that follows; the other rows ask the program as
//! users run it.

mod follow;
mod program;
mod topic;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use modelog_engine::{Engine, Offset};
use modelog_kafka::{KafkaConfig, KafkaSource};

use crate::history::{Opened, Settings};
use crate::inprocess::{MemoryAtStart, memory_row, new_directory};
use crate::measure::{CpuTime, Figure, Stopwatch, in_turns};
use crate::memory::{Process, Watch};
use crate::report::{Mark, Row};
use crate::{Kafka, Options, Size};

use topic::{Kcat, Topic};

/// What a process that reads a backlog may take, in MiB.
const MEMORY_MAX: f64 = 400.0;
/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How long a source may bring nothing.
const SILENCE: Duration = Duration::from_secs(60);

pub(crate) fn measure(
    options: &Options,
    kafka: &Kafka,
    size: Size,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    let kcat = Kcat::find()?;
    options.make_directory()?;
    let start = MemoryAtStart::now()?;
    progress("a topic to read");
    let topic = match &kafka.topic {
        Some(name) => Topic::existing(kafka, name)?,
        // Four times as many events as elsewhere are a backlog of more than a gigabyte.
        None => Topic::filled(options, kafka, size.events * 4)?,
    };
    let mut rows = Vec::new();
    let reading = Reading {
        options,
        topic: &topic,
    };
    // First the row whose memory is compared: what the allocator keeps of others would count in it.
    progress("Kafka → verified Parquet");
    let parquet = reading.parquet(size, start)?;
    progress("Kafka → durable");
    rows.extend(reading.durable(size, start, &kcat)?);
    progress("Kafka → SQLite");
    rows.extend(program::into_sqlite(options, size, &topic)?);
    rows.extend(parquet);
    progress("Kafka, and kill -9");
    rows.push(program::killed(options, size, &topic)?);
    progress("Kafka → a follower of the log");
    rows.extend(follow::measure(options, kafka, size)?);
    Ok(rows)
}

/// A topic that is read in process, again and again by new logs.
struct Reading<'a> {
    options: &'a Options,
    topic: &'a Topic,
}

impl Reading<'_> {
    fn durable(&self, size: Size, start: MemoryAtStart, kcat: &Kcat) -> Result<Vec<Row>> {
        let memory = Watch::start(Process::this());
        let mut cpu = Vec::new();
        let (ours, limit) = in_turns(
            size.servers,
            || {
                let directory = new_directory(&self.options.directory)?;
                let engine = Engine::open(directory.path())?;
                let source = self.source(&engine)?;
                let reading = self.wait(&engine, &source)?;
                source.stop();
                engine.close_blocking()?;
                cpu.push(reading.cpu_each);
                Ok(reading.rate)
            },
            || kcat.rate(self.topic),
        )?;
        Ok(vec![
            Row::new(
                format!("Kafka → durable, {} partitions", self.topic.partitions),
                "events/s",
                ours,
            )
            .beside("kcat -C", limit)
            .mark(Mark::RatioAtLeast(0.5))
            .goal(Mark::RatioAtLeast(0.7)),
            Row::new("  CPU time of all threads", "µs/event", Figure::of(cpu)),
            memory_row("  memory meanwhile", start.growth(&memory), MEMORY_MAX),
        ])
    }

    /// From the first events in the log to the publication of the last file.
    fn parquet(&self, size: Size, start: MemoryAtStart) -> Result<Vec<Row>> {
        let memory = Watch::start(Process::this());
        let (mut rates, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..size.servers {
            let directory = new_directory(&self.options.directory)?;
            let opened = Opened::on(directory.path(), &Settings::default())?;
            let compactor = opened.start_compactor();
            let source = self.source(&opened.engine)?;
            let mut reading = self.wait(&opened.engine, &source)?;
            opened.compact(&compactor)?;
            reading.look();
            rates.push(reading.rate);
            cpu.push(reading.cpu_each);
            source.stop();
            opened.close()?;
        }
        Ok(vec![
            Row::new("Kafka → verified Parquet", "events/s", Figure::of(rates)),
            Row::new("  CPU time of all threads", "µs/event", Figure::of(cpu)),
            memory_row("  memory meanwhile", start.growth(&memory), MEMORY_MAX),
        ])
    }

    fn source(&self, engine: &Engine) -> Result<KafkaSource> {
        let config = KafkaConfig {
            brokers: self.topic.brokers.clone(),
            topics: vec![self.topic.name.clone()],
            group_id: topic::new_name(),
            ..KafkaConfig::default()
        };
        Ok(KafkaSource::start(
            engine.clone(),
            config,
            modelog_formats::Limits::default(),
            0,
        )?)
    }

    /// Waits until the log has the topic.
    fn wait(&self, engine: &Engine, source: &KafkaSource) -> Result<Taken> {
        let mut last = (Offset::ZERO, Stopwatch::start());
        let mut taken = None;
        loop {
            let tail = engine.tail();
            if tail > last.0 {
                last = (tail, Stopwatch::start());
            } else if last.1.elapsed() > SILENCE {
                bail!("nothing comes out of Kafka any more: {:?}", source.status());
            }
            if tail > Offset::ZERO {
                let taken = taken.get_or_insert_with(|| Taken::start(self.topic.messages - tail.0));
                if tail.0 >= self.topic.messages {
                    taken.look();
                    break;
                }
            }
            std::thread::sleep(LOOK);
        }
        let tail = engine.tail();
        ensure!(
            tail.0 == self.topic.messages,
            "{tail} events came of {} messages",
            self.topic.messages
        );
        let taken = taken.expect("there is a message at least");
        ensure!(taken.events > 0, "the topic is too small to be measured");
        Ok(taken)
    }
}

/// What was read since the first events were seen.
struct Taken {
    events: u64,
    watch: Stopwatch,
    cpu: CpuTime,
    /// Events a second.
    rate: f64,
    /// µs an event.
    cpu_each: f64,
}

impl Taken {
    /// Starts, with so many events to come.
    fn start(events: u64) -> Self {
        Self {
            events,
            watch: Stopwatch::start(),
            cpu: CpuTime::start(),
            rate: 0.0,
            cpu_each: 0.0,
        }
    }

    /// They are there.
    fn look(&mut self) {
        let events = self.events as usize;
        self.rate = self.watch.rate(events);
        self.cpu_each = self.cpu.micros_each(events);
    }
}
