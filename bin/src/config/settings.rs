//! All settings there are, section by section.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use modelog_engine::live::LiveConfig;
use modelog_engine::{LogConfig, LogError};
use modelog_http::{HttpConfig, HttpError};
use modelog_kafka::{Format, KafkaConfig, KafkaError, OnGap};
use modelog_parquet::{ParquetConfig, ParquetError};
use modelog_prometheus::PrometheusConfig;
use modelog_redis::{RedisConfig, RedisError, Streams};
use modelog_sql::{SqlConfig, SqlStore};

use super::fields::{Fields, Word};

/// The names of settings in no section: the only variables without a section that are ours.
pub(super) const OUTSIDE: &[&str] = &["data", "read_from"];

/// Everything that can be set, ready for those it is for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the log and everything made from it lie.
    pub(crate) data: PathBuf,
    pub(crate) read_from: ReadFrom,
    pub(crate) log: LogConfig,
    pub(crate) http: HttpConfig,
    pub(crate) kafka: Vec<KafkaConfig>,
    pub(crate) memory: LiveConfig,
    /// Without a URL there is no Redis.
    pub(crate) redis: RedisConfig,
    pub(crate) sql: SqlConfig,
    pub(crate) parquet: ParquetConfig,
    pub(crate) backup: BackupConfig,
    pub(crate) prometheus: PrometheusConfig,
    pub(crate) logging: Logging,
}

/// The store that answers reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// What is new from memory, everything else from SQL.
    Memory,
    /// What is new from Redis, everything else from SQL.
    Redis,
    #[default]
    Sql,
}

impl Word for ReadFrom {
    const EXPECTED: &'static str = "\"memory\", \"redis\" or \"sql\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("memory", Self::Memory),
        ("redis", Self::Redis),
        ("sql", Self::Sql),
    ];
}

/// Which backups are made while serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupConfig {
    /// Where; none are made without it.
    pub(crate) path: Option<PathBuf>,
    /// How long after the start of one the next is due.
    pub(crate) every: Duration,
    /// How many are kept.
    pub(crate) keep: u32,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self {
            path: None,
            every: Duration::from_secs(24 * 60 * 60),
            keep: 7,
        }
    }
}

/// How the program says what it does.
#[derive(Clone, Debug)]
pub(crate) struct Logging {
    pub(crate) format: LogFormat,
    /// Levels by module, such as `info,modelog_sql=debug`.
    pub(crate) filter: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Word for LogFormat {
    const EXPECTED: &'static str = "\"text\" or \"json\"";
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            filter: "info".into(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: "modelog-data".into(),
            read_from: ReadFrom::default(),
            log: LogConfig::default(),
            http: HttpConfig::default(),
            kafka: Vec::new(),
            memory: LiveConfig::default(),
            redis: RedisConfig {
                url: String::new(),
                ..RedisConfig::default()
            },
            sql: SqlConfig::default(),
            parquet: ParquetConfig::default(),
            backup: BackupConfig::default(),
            prometheus: PrometheusConfig::default(),
            logging: Logging::default(),
        }
    }
}

impl Settings {
    /// Reads every setting, then checks those that depend on each other. Paths become paths under the data directory.
    pub(super) fn read(&mut self, fields: &mut Fields<'_>) {
        fields.path("data", &mut self.data);
        fields.word("read_from", &mut self.read_from);
        fields.section("log", |fields| log(fields, &mut self.log));
        fields.section("http", |fields| http(fields, &mut self.http));
        fields.sections("kafka", &mut self.kafka, kafka);
        fields.section("memory", |fields| memory(fields, &mut self.memory));
        fields.section("redis", |fields| redis(fields, &mut self.redis));
        if self.read_from == ReadFrom::Redis && self.redis.url.is_empty() {
            fields.refuse("read_from", "is \"redis\", which needs `redis.url`");
        }
        fields.section("sql", |fields| sql(fields, &mut self.sql));
        fields.section("parquet", |fields| parquet(fields, &mut self.parquet));
        fields.section("backup", |fields| backup(fields, &mut self.backup));
        fields.section("prometheus", |fields| {
            prometheus(fields, &mut self.prometheus)
        });
        fields.section("logging", |fields| logging(fields, &mut self.logging));
        self.settle();
        self.check_places(fields);
    }

    /// What follows from the data directory.
    pub(crate) fn settle(&mut self) {
        self.http.control_socket = Some(self.data.join(CONTROL_SOCKET));
        if let Some(path) = &mut self.http.token_file {
            *path = self.data.join(&*path);
        }
        let redis = &mut self.redis;
        for path in [
            &mut redis.ca_file,
            &mut redis.cert_file,
            &mut redis.key_file,
        ]
        .into_iter()
        .flatten()
        {
            *path = self.data.join(&*path);
        }
        self.sql.directory.clone_from(&self.data);
        self.parquet.path = self.data.join(&self.parquet.path);
        if let Some(path) = &mut self.backup.path {
            *path = self.data.join(&*path);
        }
    }

    /// Nothing may lie where something else does.
    fn check_places(&self, fields: &mut Fields<'_>) {
        let parquet = &self.parquet.path;
        if within(&self.data, parquet) {
            let message = "must be a directory of its own, below the data directory or elsewhere";
            fields.refuse("parquet.path", message);
        }
        for taken in ["log", "snapshots", "sqlite"] {
            if within(parquet, &self.data.join(taken)) {
                let message = format!("must not be in `{taken}`, which holds other files");
                fields.refuse("parquet.path", message);
            }
        }
        if let Some(backup) = &self.backup.path
            && [&self.data, parquet]
                .iter()
                .any(|place| within(backup, place) || within(place, backup))
        {
            fields.refuse("backup.path", OUTSIDE_OF_DATA);
        }
    }

    /// The configuration of an engine on the data directory.
    pub(crate) fn engine(&self) -> modelog_engine::Config {
        modelog_engine::Config {
            path: self.data.clone(),
            log: self.log.clone(),
        }
    }
}

/// The name, in the data directory, of the socket through which commands reach a running server.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

fn log(fields: &mut Fields<'_>, log: &mut LogConfig) {
    fields.size("segment_bytes", &mut log.segment_bytes);
    fields.size("group_bytes_max", &mut log.group_bytes_max);
    fields.size("backlog_bytes_max", &mut log.backlog_bytes_max);
    fields.count("dedupe_window", &mut log.dedupe_window);
    fields.switch("pad_groups", &mut log.pad_groups);
    fields.size("reserve_bytes", &mut log.reserve_bytes);
    fields.duration("keep_segments", &mut log.keep_segments);
    if let Err(LogError::Setting { setting, reason }) = log.check() {
        fields.refuse(setting, reason);
    }
}

fn http(fields: &mut Fields<'_>, http: &mut HttpConfig) {
    fields.address("listen", &mut http.listen);
    fields.texts("allowed_hosts", &mut http.allowed_hosts);
    fields.optional_path("token_file", &mut http.token_file);
    fields.switch("insecure", &mut http.insecure);
    fields.size("body_bytes", &mut http.body_bytes);
    fields.size("decoded_bytes", &mut http.decoded_bytes);
    fields.size("bodies_bytes", &mut http.bodies_bytes);
    fields.size("value_bytes", &mut http.value_bytes);
    fields.size("event_bytes", &mut http.event_bytes);
    fields.count("depth", &mut http.depth);
    fields.count("connections", &mut http.connections);
    fields.duration("first_byte_time", &mut http.first_byte_time);
    fields.duration("head_time", &mut http.head_time);
    fields.duration("body_time", &mut http.body_time);
    fields.duration("write_time", &mut http.write_time);
    fields.duration("drain_time", &mut http.drain_time);
    match http.check() {
        Ok(()) => {}
        Err(HttpError::Setting { setting, reason }) => fields.refuse(setting, reason),
        Err(HttpError::NoTokens { .. }) => fields.refuse("http.listen", beyond(http.listen, "needs `http.token_file`")),
        Err(HttpError::NoEncryption { .. }) => fields.refuse(
            "http.listen",
            beyond(http.listen, "sends tokens and data in the clear: put a proxy with TLS in front and listen on 127.0.0.1, or set `http.insecure = true`"),
        ),
        Err(error) => fields.refuse("http", error.to_string()),
    }
}

impl Word for Format {
    const EXPECTED: &'static str = "\"auto\", \"json\", \"cloudevents\" or \"kserve\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("json", Self::Json),
        ("cloudevents", Self::CloudEvents),
        ("kserve", Self::KServe),
    ];
}

impl Word for OnGap {
    const EXPECTED: &'static str = "\"halt\" or \"skip\"";
    const WORDS: &'static [(&'static str, Self)] = &[("halt", Self::Halt), ("skip", Self::Skip)];
}

fn kafka(fields: &mut Fields<'_>, kafka: &mut KafkaConfig) {
    fields.texts("brokers", &mut kafka.brokers);
    fields.texts("topics", &mut kafka.topics);
    fields.text("group_id", &mut kafka.group_id);
    fields.instance_id("group_instance_id", &mut kafka.group_instance_id);
    fields.word("format", &mut kafka.format);
    fields.text("kserve_model", &mut kafka.kserve_model);
    fields.start_at("start", &mut kafka.start);
    fields.word("on_gap", &mut kafka.on_gap);
    fields.optional_text("dead_letter_topic", &mut kafka.dead_letter_topic);
    fields.duration("session_timeout", &mut kafka.session_timeout);
    fields.size("buffer_bytes", &mut kafka.buffer_bytes);
    fields.duration("commit_interval", &mut kafka.commit_interval);
    fields.duration("stall_time", &mut kafka.stall_time);
    fields.properties("properties", &mut kafka.properties);
    match kafka.check() {
        Ok(()) => {}
        Err(KafkaError::Setting { setting, reason }) => fields.refuse_here(&setting, reason),
        Err(error) => fields.refuse_here("brokers", error.to_string()),
    }
}

fn beyond(listen: SocketAddr, remedy: &str) -> String {
    format!("is {listen}, which other machines can reach, and {remedy}")
}

/// Files smaller than this hold hardly more than their footers.
const FILE_BYTES_MIN: u64 = 64 << 10;
const SECOND: Duration = Duration::from_secs(1);
/// What is said of a place for backups that does not lie apart.
pub(crate) const OUTSIDE_OF_DATA: &str = "must lie outside of the data directory, and not around it: what destroys the one must not destroy the other";

fn parquet(fields: &mut Fields<'_>, parquet: &mut ParquetConfig) {
    fields.path("path", &mut parquet.path);
    fields.size("target_file_bytes", &mut parquet.target_file_bytes);
    fields.duration("max_delay", &mut parquet.max_delay);
    if let Err(ParquetError::Setting { setting, reason }) = parquet.check() {
        return fields.refuse(setting, reason);
    }
    if parquet.target_file_bytes < FILE_BYTES_MIN {
        fields.refuse("parquet.target_file_bytes", "must be at least 64KiB");
    }
    if parquet.max_delay < SECOND {
        fields.refuse("parquet.max_delay", "must be at least 1s");
    }
}

fn backup(fields: &mut Fields<'_>, backup: &mut BackupConfig) {
    fields.optional_path("path", &mut backup.path);
    fields.duration("every", &mut backup.every);
    fields.count("keep", &mut backup.keep);
    if backup.every < SECOND {
        fields.refuse("backup.every", "must be at least 1s");
    }
    if backup.keep == 0 {
        fields.refuse("backup.keep", "must be at least 1");
    }
}

/// Whether a path is another one or below it, by what they spell: links are not followed.
pub(crate) fn within(path: &Path, place: &Path) -> bool {
    spelled(path).starts_with(spelled(place))
}

/// A path from the root on, without `.` and `..`.
fn spelled(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut spelled = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                spelled.pop();
            }
            Component::CurDir => {}
            part => spelled.push(part),
        }
    }
    spelled
}

/// With less, the live view hardly holds anything.
const LIVE_BYTES_MIN: usize = 1 << 20;

fn memory(fields: &mut Fields<'_>, memory: &mut LiveConfig) {
    fields.count("predictions_window", &mut memory.predictions_window);
    fields.count("metrics_window", &mut memory.metrics_window);
    fields.size("bytes_max", &mut memory.bytes_max);
    if memory.predictions_window == 0 {
        fields.refuse("memory.predictions_window", "must be at least 1");
    }
    if memory.metrics_window == 0 {
        fields.refuse("memory.metrics_window", "must be at least 1");
    }
    if memory.bytes_max < LIVE_BYTES_MIN {
        fields.refuse("memory.bytes_max", "must be at least 1MiB");
    }
}

fn redis(fields: &mut Fields<'_>, redis: &mut RedisConfig) {
    fields.url("url", &mut redis.url);
    fields.text("prefix", &mut redis.prefix);
    fields.count("predictions_window", &mut redis.predictions_window);
    fields.count("metrics_window", &mut redis.metrics_window);
    fields.size("payload_bytes_max", &mut redis.payload_bytes_max);
    let all = redis.streams.names().map(str::to_owned);
    let mut names: Vec<String> = all.collect();
    fields.texts("streams", &mut names);
    match Streams::of(names.iter().map(String::as_str)) {
        Ok(streams) => redis.streams = streams,
        Err(unknown) => {
            let message = format!(
                "must be some of \"predictions\", \"metrics\" and \"events\", not {unknown:?}"
            );
            fields.refuse("redis.streams", message);
        }
    }
    fields.count("stream_length", &mut redis.stream_length);
    fields.optional_path("ca_file", &mut redis.ca_file);
    fields.optional_path("cert_file", &mut redis.cert_file);
    fields.optional_path("key_file", &mut redis.key_file);
    fields.duration("connect_time", &mut redis.connect_time);
    fields.duration("response_time", &mut redis.response_time);
    fields.duration("rewind", &mut redis.rewind);
    // Last: shown as a configuration, it is a section of its own behind this one.
    fields.section("ttl", |fields| {
        fields.period("predictions", &mut redis.predictions_ttl);
    });
    if redis.url.is_empty() {
        return;
    }
    match redis.check() {
        Ok(()) => {}
        Err(RedisError::Setting { setting, reason }) => {
            fields.refuse(&format!("redis.{setting}"), reason);
        }
        Err(error) => fields.refuse("redis", error.to_string()),
    }
}

/// Each of them is a connection and a thread.
const READERS_MAX: u32 = 1024;
/// SQLite counts milliseconds in 31 bits.
const BUSY_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 24 * 60 * 60);

fn sql(fields: &mut Fields<'_>, sql: &mut SqlConfig) {
    fields.url("url", &mut sql.url);
    fields.period("predictions_keep", &mut sql.predictions_keep);
    fields.count("readers", &mut sql.readers);
    fields.size("cache_bytes", &mut sql.cache_bytes);
    fields.duration("busy_timeout", &mut sql.busy_timeout);
    if let Err(error) = SqlStore::new(sql.clone()) {
        fields.refuse("sql.url", format!("cannot be used: {error}"));
    }
    if !(1..=READERS_MAX).contains(&sql.readers) {
        fields.refuse("sql.readers", format!("must be 1 to {READERS_MAX}"));
    }
    if sql.busy_timeout > BUSY_TIMEOUT_MAX {
        fields.refuse("sql.busy_timeout", "must be at most 24d");
    }
}

fn prometheus(fields: &mut Fields<'_>, prometheus: &mut PrometheusConfig) {
    fields.count("max_series", &mut prometheus.max_series);
    fields.texts("run_metrics", &mut prometheus.run_metrics);
}

fn logging(fields: &mut Fields<'_>, logging: &mut Logging) {
    fields.word("format", &mut logging.format);
    fields.text("filter", &mut logging.filter);
    if let Err(error) = crate::logging::parse_filter(&logging.filter) {
        fields.refuse(
            "logging.filter",
            format!("is no list of levels by module: {error}"),
        );
    }
}
