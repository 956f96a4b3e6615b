//! What is set about a source, and what librdkafka is told because of it.

use std::collections::BTreeMap;
use std::time::Duration;

use modelog_engine::{LogId, Timestamp};
use modelog_formats::ModelTemplate;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError as Library;

use crate::error::KafkaError;
use crate::topics::Topics;

/// A source: a consumer group's member that reads some topics.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// Where to ask first, as `host:port`.
    pub brokers: Vec<String>,
    /// Names, or regular expressions that start with `^`.
    pub topics: Vec<String>,
    pub group_id: String,
    pub group_instance_id: InstanceId,
    pub format: Format,
    /// The model a KServe inference log belongs to, from what its events say of themselves.
    pub kserve_model: String,
    /// Where a partition is read from that neither the log nor the group knows.
    pub start: StartAt,
    pub on_gap: OnGap,
    /// Where messages go that cannot be understood, beside the record of them in the log.
    pub dead_letter_topic: Option<String>,
    /// How long the group waits for a member that says nothing.
    pub session_timeout: Duration,
    /// How much may be fetched and not yet be durable in the log: half of it is librdkafka's, half on its way into the log.
    pub buffer_bytes: usize,
    /// How often positions are committed to the group.
    pub commit_interval: Duration,
    /// How long a partition may stand still with events before it, until it is reported and read anew.
    pub stall_time: Duration,
    /// Passed on to librdkafka.
    pub properties: BTreeMap<String, String>,
}

/// Who a member of the group is across its restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InstanceId {
    /// The log's identity: a restarted process has its partitions back at once, without a rebalance.
    #[default]
    Log,
    /// Somebody new each time: who leaves gives its partitions away at once.
    None,
    Named(String),
}

/// How messages are understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// By their headers, and by what they look like.
    #[default]
    Auto,
    Json,
    CloudEvents,
    KServe,
}

/// Where to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    #[default]
    Earliest,
    Latest,
    /// With the first event that is not older.
    Time(Timestamp),
}

/// What to do about events that nobody can read any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGap {
    /// The partition is not read until a person decides.
    #[default]
    Halt,
    /// It goes on behind the gap, which is recorded as `SourceGapRecorded`.
    Skip,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topics: Vec::new(),
            group_id: "modelog".into(),
            group_instance_id: InstanceId::default(),
            format: Format::default(),
            kserve_model: "{namespace}/{inferenceservicename}".into(),
            start: StartAt::default(),
            on_gap: OnGap::default(),
            dead_letter_topic: None,
            session_timeout: Duration::from_secs(45),
            buffer_bytes: 32 << 20,
            commit_interval: Duration::from_secs(1),
            stall_time: Duration::from_secs(60),
            properties: BTreeMap::new(),
        }
    }
}

/// Properties that are not passed on, and the setting that is there instead.
const OWN: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("group.id", "use `group_id`"),
    ("group.instance.id", "use `group_instance_id`"),
    ("session.timeout.ms", "use `session_timeout`"),
    (
        "heartbeat.interval.ms",
        "use `session_timeout`, of which it is a third",
    ),
    ("queued.max.messages.kbytes", "use `buffer_bytes`"),
    ("queued.min.messages", "use `buffer_bytes`"),
    ("auto.offset.reset", "use `start` and `on_gap`"),
    (
        "enable.auto.commit",
        "positions are committed after the log has the events",
    ),
    ("auto.commit.interval.ms", "use `commit_interval`"),
    (
        "enable.auto.offset.store",
        "positions are committed after the log has the events",
    ),
    ("enable.partition.eof", "the source does without"),
    ("partition.assignment.strategy", "it is cooperative-sticky"),
    ("group.protocol", "it is classic"),
    ("statistics.interval.ms", "lag is measured with it"),
    ("log.queue", "the program's own log is used"),
];

/// What is said of a name that cannot be one.
const NO_TOPIC: &str =
    "which no topic can be called: letters, digits, `.`, `_` and `-` are, up to 249 of them";

/// Members whose largest response would not fit are refused by the library.
const FETCH_BYTES: usize = 16 << 20;
const QUEUE_BACKOFF_MILLIS: &str = "2";
const MESSAGE_BYTES: usize = 128 << 20;

impl KafkaConfig {
    /// Checks what the types do not, and that librdkafka takes the properties.
    ///
    /// # Errors
    /// [`KafkaError::Setting`] with the first setting that cannot be.
    pub fn check(&self) -> Result<(), KafkaError> {
        let wrong = |setting: &str, reason: String| {
            Err(KafkaError::Setting {
                setting: setting.into(),
                reason,
            })
        };
        let empty = |texts: &[String]| texts.is_empty() || texts.iter().any(String::is_empty);
        if empty(&self.brokers) {
            return wrong(
                "brokers",
                "must name at least one broker, as \"host:port\"".into(),
            );
        }
        if empty(&self.topics) {
            return wrong("topics", "must name at least one topic".into());
        }
        if let Some((broker, reason)) = self.brokers.iter().find_map(|broker| {
            let reason = no_address(broker)?;
            Some((broker, reason))
        }) {
            return wrong("brokers", format!("has {broker:?}, which {reason}"));
        }
        let illegal = |topic: &&String| !topic.starts_with('^') && !is_topic(topic);
        if let Some(topic) = self.topics.iter().find(illegal) {
            let reason = format!("has {topic:?}, {NO_TOPIC}; a regular expression starts with `^`");
            return wrong("topics", reason);
        }
        for pattern in self.topics.iter().filter(|topic| topic.starts_with('^')) {
            if let Err(error) = regex::Regex::new(pattern) {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim();
                let reason = format!("has {pattern:?}, which is no regular expression: {reason}");
                return wrong("topics", reason);
            }
        }
        if let Err(error) = self.kserve_model.parse::<ModelTemplate>() {
            return wrong("kserve_model", error.to_string());
        }
        if let Some(dead) = &self.dead_letter_topic {
            self.check_dead_letters(dead)?;
        }
        if self.group_id.is_empty() {
            return wrong("group_id", "must not be empty".into());
        }
        if self.buffer_bytes < 1 << 20 {
            return wrong("buffer_bytes", "must be at least 1MiB".into());
        }
        for (setting, time) in [
            ("session_timeout", self.session_timeout),
            ("commit_interval", self.commit_interval),
            ("stall_time", self.stall_time),
        ] {
            if time < Duration::from_millis(100) || time > Duration::from_secs(24 * 60 * 60) {
                return wrong(setting, "must be at least 100ms and at most 24h".into());
            }
        }
        for name in self.properties.keys() {
            if let Some((_, instead)) = OWN.iter().find(|(own, _)| own == name) {
                return wrong(
                    &format!("properties.{name}"),
                    format!("cannot be set: {instead}"),
                );
            }
        }
        let native = self
            .client(LogId(uuid::Uuid::nil()), 0)
            .create_native_config();
        match native {
            Ok(_) => Ok(()),
            Err(Library::ClientConfig(_, problem, name, _)) => {
                let reason = format!("is refused by librdkafka: {problem}");
                wrong(&format!("properties.{name}"), reason)
            }
            Err(error) => wrong("properties", error.to_string()),
        }
    }

    fn check_dead_letters(&self, topic: &str) -> Result<(), KafkaError> {
        let wrong = |setting: &str, reason: String| {
            Err(KafkaError::Setting {
                setting: setting.into(),
                reason,
            })
        };
        if !is_topic(topic) {
            return wrong("dead_letter_topic", format!("is {topic:?}, {NO_TOPIC}"));
        }
        match Topics::new(&self.topics) {
            Ok(read) if read.have(topic) => wrong(
                "dead_letter_topic",
                format!(
                    "is {topic:?}, which is among `topics`: what is rejected would come again without end"
                ),
            ),
            Ok(_) => Ok(()),
            Err(error) => wrong(
                "topics",
                format!("has {error}, and `dead_letter_topic` needs it to be understood"),
            ),
        }
    }

    /// What librdkafka is told. Sources of the same group in one process are told apart by `number`.
    pub(crate) fn client(&self, log: LogId, number: usize) -> ClientConfig {
        let mut client = ClientConfig::new();
        let millis = |time: Duration| time.as_millis().to_string();
        let kilobytes = (self.buffer_bytes >> 11).to_string();
        client
            .set("client.id", "modelog")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set(
                "max.poll.interval.ms",
                millis(self.session_timeout.max(POLL_INTERVAL)),
            )
            .set("fetch.message.max.bytes", "1048576")
            .set("fetch.max.bytes", FETCH_BYTES.to_string())
            // How long it fetches nothing when its queue is full; a second unless told otherwise.
            .set("fetch.queue.backoff.ms", QUEUE_BACKOFF_MILLIS)
            .set("receive.message.max.bytes", MESSAGE_BYTES.to_string())
            .set("check.crcs", "true")
            .set("allow.auto.create.topics", "false");
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        // Its log tells that a topic was made again.
        let debug = self
            .properties
            .get("debug")
            .map_or(String::new(), |own| format!(",{own}"));
        client
            .set("debug", format!("metadata{debug}"))
            .set_log_level(RDKafkaLogLevel::Debug);
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("group.id", &self.group_id)
            .set("session.timeout.ms", millis(self.session_timeout))
            .set(
                "heartbeat.interval.ms",
                millis((self.session_timeout / 3).min(Duration::from_secs(3))),
            )
            .set("queued.max.messages.kbytes", kilobytes)
            .set("queued.min.messages", "1000000")
            .set("auto.offset.reset", "error")
            // What is stored is committed by librdkafka, which knows when the group is at rest; nothing is stored by itself.
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", millis(self.commit_interval))
            .set("enable.auto.offset.store", "false")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("statistics.interval.ms", millis(STATISTICS_INTERVAL));
        match &self.group_instance_id {
            InstanceId::None => {}
            InstanceId::Named(name) => {
                client.set("group.instance.id", name);
            }
            InstanceId::Log if number == 0 => {
                client.set("group.instance.id", format!("modelog-{log}"));
            }
            InstanceId::Log => {
                client.set("group.instance.id", format!("modelog-{log}-{number}"));
            }
        }
        client
    }
}

/// How long a member may be busy without asking for more.
const POLL_INTERVAL: Duration = Duration::from_secs(300);
/// How often librdkafka tells where partitions stand.
const STATISTICS_INTERVAL: Duration = Duration::from_millis(500);

/// What is wrong with a broker's address.
fn no_address(broker: &str) -> Option<&'static str> {
    let Some((host, port)) = broker.rsplit_once(':') else {
        return Some("has no port: write \"host:port\"");
    };
    let named = !host.is_empty() && !host.contains(['/', ' ', ',']);
    let numbered = port.parse::<u16>().is_ok_and(|port| port > 0);
    (!named || !numbered).then_some("is no \"host:port\"")
}

pub(crate) fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= 249 && name != "." && name != ".." && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig {
            brokers: vec!["localhost:9092".into()],
            topics: vec!["ml-events".into()],
            ..KafkaConfig::default()
        }
    }

    fn refused(change: impl FnOnce(&mut KafkaConfig)) -> String {
        let mut config = config();
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    fn property(name: &str, value: &str) -> String {
        refused(|config| {
            config.properties.insert(name.into(), value.into());
        })
    }

    #[test]
    fn a_source_needs_brokers_and_topics_and_little_else() {
        config().check().unwrap();
        let mut regular = config();
        regular.topics = vec!["^ml-.*".into(), "a.b_c-1".into()];
        regular.check().unwrap();
        assert!(refused(|config| config.brokers.clear()).starts_with("`brokers` must name"));
        assert!(refused(|config| config.topics.clear()).starts_with("`topics` must name"));
        let spaced = refused(|config| config.topics.push("ml events".into()));
        assert!(
            spaced.contains("\"ml events\", which no topic can be called"),
            "{spaced}"
        );
        for broker in [
            "localhost",
            "localhost:",
            ":9092",
            "localhost:port",
            "http://a:1",
            "a:0",
        ] {
            let said = refused(|config| config.brokers.push(broker.into()));
            assert!(
                said.starts_with(&format!("`brokers` has {broker:?}")),
                "{said}"
            );
        }
        let pattern = refused(|config| config.topics.push("^(".into()));
        assert!(
            pattern.starts_with("`topics` has \"^(\", which is no regular"),
            "{pattern}"
        );
        let model = refused(|config| config.kserve_model = "{who}".into());
        assert!(model.starts_with("`kserve_model` "), "{model}");
        assert!(refused(|config| config.group_id.clear()).starts_with("`group_id` must not"));
        assert!(refused(|config| config.buffer_bytes = 7).starts_with("`buffer_bytes` must"));
        let now = |config: &mut KafkaConfig| config.commit_interval = Duration::ZERO;
        assert!(refused(now).starts_with("`commit_interval` must"));
    }

    #[test]
    fn properties_are_those_of_librdkafka_without_what_the_source_depends_on() {
        let mut secure = config();
        secure.properties = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "u"),
            ("sasl.password", "p"),
            ("ssl.ca.location", "/etc/ssl/certs"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        secure.check().unwrap();
        assert_eq!(
            property("enable.auto.commit", "true"),
            "`properties.enable.auto.commit` cannot be set: positions are committed after the log has the events"
        );
        let unknown = property("fetch.maximum", "1");
        assert!(
            unknown.starts_with("`properties.fetch.maximum` is refused by librdkafka"),
            "{unknown}"
        );
        let value = property("security.protocol", "carrier pigeon");
        assert!(
            value.starts_with("`properties.security.protocol` is refused"),
            "{value}"
        );
    }

    #[test]
    fn each_source_of_a_log_is_a_member_of_its_own() {
        let log = LogId(uuid::Uuid::from_u128(7));
        let id = |config: &KafkaConfig, number| {
            config
                .client(log, number)
                .get("group.instance.id")
                .map(str::to_owned)
        };
        let member = "modelog-00000000-0000-0000-0000-000000000007";
        assert_eq!(id(&config(), 0).as_deref(), Some(member));
        assert_eq!(id(&config(), 1), Some(format!("{member}-1")));
        let mut named = config();
        named.group_instance_id = InstanceId::Named("gpu-7".into());
        assert_eq!(id(&named, 0).as_deref(), Some("gpu-7"));
        named.group_instance_id = InstanceId::None;
        assert_eq!(id(&named, 0), None);
    }
}
