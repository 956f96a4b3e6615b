//! A cluster in this process, and events for it.

use std::ops::Range;
use std::time::Duration;

use modelog_engine::sources::SourceStatus;
use modelog_engine::{Engine, Offset};
use modelog_formats::Limits;
use modelog_kafka::{InstanceId, KafkaConfig, KafkaSource};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

pub(crate) const TOPIC: &str = "events";
pub(crate) const PARTITIONS: i32 = 4;

/// How long to wait for something that must come; a test that waits for this long hangs.
const HANG: Duration = Duration::from_secs(60);

/// Brokers, and a producer.
pub(crate) struct Cluster {
    pub(crate) mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Cluster {
    pub(crate) fn new(brokers: i32) -> Self {
        let mock = MockCluster::new(brokers).unwrap();
        mock.create_topic(TOPIC, PARTITIONS, brokers).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", mock.bootstrap_servers())
            .set("linger.ms", "1")
            .create()
            .unwrap();
        Self { mock, producer }
    }

    /// Sends events with these numbers, by turns to all partitions.
    pub(crate) fn produce(&self, numbers: Range<u64>) {
        for number in numbers {
            let value = event(number);
            let partition = (number % PARTITIONS as u64) as i32;
            let mut record = BaseRecord::<(), _>::to(TOPIC)
                .partition(partition)
                .payload(&value);
            while let Err((_, back)) = self.producer.send(record) {
                self.producer.poll(Duration::from_millis(10));
                record = back;
            }
        }
        self.producer.flush(HANG).unwrap();
    }

    /// The settings of a source that reads all of it.
    pub(crate) fn config(&self) -> KafkaConfig {
        let quick = [
            ("topic.metadata.refresh.interval.ms", "500"),
            ("reconnect.backoff.max.ms", "200"),
            ("retry.backoff.ms", "50"),
            ("retry.backoff.max.ms", "200"),
        ];
        let brokers = self.mock.bootstrap_servers();
        KafkaConfig {
            brokers: brokers.split(',').map(str::to_owned).collect(),
            topics: vec![TOPIC.into()],
            group_instance_id: InstanceId::None,
            commit_interval: Duration::from_millis(100),
            session_timeout: Duration::from_secs(6),
            properties: quick
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            ..KafkaConfig::default()
        }
    }
}

fn event(number: u64) -> String {
    format!(
        r#"{{"type":"PredictionLogged","model":"m","version":"v","prediction_id":"p-{number}","predicted_value":{number}}}"#
    )
}

pub(crate) fn start(engine: &Engine, config: KafkaConfig) -> KafkaSource {
    KafkaSource::start(engine.clone(), config, Limits::default(), 0).unwrap()
}

/// The numbers of all events in a log, in order.
pub(crate) fn logged(engine: &Engine) -> Vec<u64> {
    let mut reader = engine.reader(Offset::ZERO);
    let mut numbers = Vec::new();
    while reader.position() < engine.tail() {
        for batch in pollster::block_on(reader.next(1 << 20)).unwrap() {
            for row in batch.in_order() {
                let mut line = Vec::new();
                row.write_json_line(&mut line);
                let text = String::from_utf8(line).unwrap();
                let number = text.split_once("\"predicted_value\":").unwrap().1;
                let number = number.split([',', '}', '.']).next().unwrap();
                numbers.push(number.parse().unwrap());
            }
        }
    }
    numbers
}

/// Every number is there once, and those of a partition are in order.
pub(crate) fn assert_exactly_once(engine: &Engine, numbers: Range<u64>) {
    let found = logged(engine);
    for partition in 0..PARTITIONS as u64 {
        let of_partition = |number: &u64| *number % PARTITIONS as u64 == partition;
        let expected: Vec<u64> = numbers.clone().filter(of_partition).collect();
        let found: Vec<u64> = found.iter().copied().filter(of_partition).collect();
        assert!(
            found == expected,
            "partition {partition}: {} of {} events, the first that differs is number {:?}",
            found.len(),
            expected.len(),
            found.iter().zip(&expected).position(|(a, b)| a != b)
        );
    }
}

/// Waits until something holds.
pub(crate) fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..HANG.as_millis() / 10 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain: {what}");
}

/// Waits until a log has so many events.
pub(crate) fn wait_for_events(engine: &Engine, source: &KafkaSource, events: u64) {
    let mut last = None;
    for _ in 0..HANG.as_millis() / 10 {
        if engine.tail() >= Offset(events) {
            return;
        }
        last = Some(source.status());
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} of {events} events came: {last:#?}", engine.tail());
}

/// The sum of what the group has of a source's partitions.
pub(crate) fn committed(status: &SourceStatus) -> i64 {
    let partitions = status.partitions.iter();
    partitions
        .map(|partition| partition.committed.unwrap_or(0))
        .sum()
}
