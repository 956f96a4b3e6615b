//! How long after a message is sent a follower of the log has its event.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use modelog_kafka::{Outgoing, Target, TopicProducer};
use reqwest::Response;
use serde::Deserialize;

use super::program::Installed;
use super::topic::Topic;
use crate::measure::{Figure, Spread, Stopwatch};
use crate::report::{Mark, Row};
use crate::{Kafka, Options, Size};

/// Messages a second.
const RATE: u32 = 1_000;
/// How long the last messages may take to be sent.
const SENDING: Duration = Duration::from_millis(10);

pub(super) fn measure(options: &Options, kafka: &Kafka, size: Size) -> Result<Vec<Row>> {
    let topic = Topic::empty(kafka)?;
    let installed = Installed::new(options, &topic)?;
    let server = installed.start()?;
    let producer = TopicProducer::open(&Target {
        brokers: kafka.brokers.clone(),
        topic: topic.name.clone(),
        compression: None,
        properties: [].into(),
    })?;
    let count = u64::from(RATE * size.seconds);
    // The first one says that the source is reading.
    let sending = Sending {
        producer,
        watch: Arc::new(Stopwatch::start()),
    };
    let (sending, _) = sending.send(0..1)?;
    installed.wait(&server, |place| place.tail() == 1)?;

    let watch = Arc::clone(&sending.watch);
    let url = server.url("/v1/tail");
    let waits = installed.runtime().block_on(async {
        let stream = installed.client().get(&url).send().await?;
        let following = tokio::spawn(follow(stream.error_for_status()?, count, watch));
        let sent = tokio::task::spawn_blocking(move || sending.send(1..count + 1))
            .await??
            .1;
        let seen = following.await??;
        let wait = |(number, at): &(u64, Duration)| {
            let sent = sent
                .get(*number as usize - 1)
                .context("an event nobody sent")?;
            Ok(at.saturating_sub(*sent).as_secs_f64() * 1e3)
        };
        seen.iter().map(wait).collect::<Result<Vec<_>>>()
    })?;
    ensure!(
        waits.len() as u64 == count,
        "{} of {count} events were seen",
        waits.len()
    );
    let waits = Spread::of(waits);
    let at = |share| Figure::of(vec![waits.at(share)]);
    Ok(vec![
        Row::new(
            "message sent → seen through /v1/tail, 1,000 a second, p50",
            "ms",
            at(0.5),
        ),
        Row::new("  p99", "ms", at(0.99)).mark(Mark::AtMost(50.0)),
    ])
}

/// Sends numbered events, and notes when.
struct Sending {
    producer: TopicProducer,
    watch: Arc<Stopwatch>,
}

impl Sending {
    /// Answers when each was sent.
    fn send(mut self, numbers: std::ops::Range<u64>) -> Result<(Self, Vec<Duration>)> {
        let begun = self.watch.elapsed();
        let mut sent = Vec::new();
        for number in numbers {
            let due = begun + Duration::from_secs(1) / RATE * sent.len() as u32;
            if let Some(early) = due.checked_sub(self.watch.elapsed()) {
                std::thread::sleep(early);
            }
            let event = format!(
                r#"{{"type":"MetricLogged","run":"bench","name":"loss","value":0.5,"step":{number}}}"#
            );
            let message = Outgoing {
                value: event.as_bytes(),
                key: None,
                headers: &[],
            };
            sent.push(self.watch.elapsed());
            while !self.producer.try_send(&message)? {
                self.producer.wait(SENDING)?;
            }
        }
        while !self.producer.is_settled() {
            self.producer.wait(SENDING)?;
        }
        Ok((self, sent))
    }
}

/// Reads so many events of the log, and notes when each came, by its number.
async fn follow(
    mut stream: Response,
    count: u64,
    watch: Arc<Stopwatch>,
) -> Result<Vec<(u64, Duration)>> {
    #[derive(Deserialize)]
    struct Event {
        step: u64,
    }
    let mut seen = Vec::new();
    let mut said = Vec::new();
    while (seen.len() as u64) < count {
        let piece = stream.chunk().await?.context("the stream ended")?;
        let at = watch.elapsed();
        said.extend_from_slice(&piece);
        let whole = said
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        for line in said[..whole].split(|byte| *byte == b'\n') {
            if let Some(event) = line.strip_prefix(b"data: ") {
                let event: Event = serde_json::from_slice(event)?;
                seen.push((event.step, at));
            }
        }
        said.drain(..whole);
    }
    Ok(seen)
}
