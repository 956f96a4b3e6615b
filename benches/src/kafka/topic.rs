//! Topics to be read, and kcat, which reads them too.

use std::io::{BufWriter, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::corpus::{Naming, Predictions};
use crate::measure::Stopwatch;
use crate::server::plain_command;
use crate::{Kafka, Options};

/// As many as the cores of a small machine can share out in more than one way.
const PARTITIONS: i32 = 4;
const SEED: u64 = 6;
/// How long brokers may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A topic of events, each a message.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) brokers: Vec<String>,
    pub(super) name: String,
    pub(super) messages: u64,
    pub(super) partitions: usize,
    /// It was made here, and is deleted with this.
    is_ours: bool,
}

/// A name that nobody has, for topics and groups.
pub(super) fn new_name() -> String {
    format!("modelog-bench-{:016x}", rand::random::<u64>())
}

impl Topic {
    /// A topic that is there.
    ///
    /// # Errors
    /// If it is not, or empty.
    pub(super) fn existing(kafka: &Kafka, name: &str) -> Result<Self> {
        let consumer: BaseConsumer = client(&kafka.brokers).create()?;
        let metadata = consumer
            .fetch_metadata(Some(name), ANSWER_TIME)
            .with_context(|| format!("asking {} for {name}", kafka.brokers.join(",")))?;
        let found = metadata.topics().first().context("brokers say nothing")?;
        if let Some(code) = found.error() {
            bail!("{name}: {}", RDKafkaErrorCode::from(code));
        }
        let partitions = found.partitions();
        let mut messages = 0;
        for partition in partitions {
            let (first, end) = consumer.fetch_watermarks(name, partition.id(), ANSWER_TIME)?;
            messages += u64::try_from(end - first).unwrap_or(0);
        }
        ensure!(messages > 0, "the topic {name} has no messages");
        Ok(Self {
            brokers: kafka.brokers.clone(),
            name: name.to_owned(),
            messages,
            partitions: partitions.len(),
            is_ours: false,
        })
    }

    /// A new topic without messages.
    ///
    /// # Errors
    /// If brokers do not answer, or do not make it.
    pub(super) fn empty(kafka: &Kafka) -> Result<Self> {
        let topic = Self {
            brokers: kafka.brokers.clone(),
            name: new_name(),
            messages: 0,
            partitions: PARTITIONS as usize,
            is_ours: true,
        };
        let new = NewTopic::new(&topic.name, PARTITIONS, TopicReplication::Fixed(1));
        let made = pollster::block_on(topic.admin()?.create_topics([&new], &patience()))
            .with_context(|| format!("making a topic on {}", kafka.brokers.join(",")))?;
        if let Some(Err((name, code))) = made.into_iter().next() {
            bail!("the topic {name} could not be made: {code}");
        }
        Ok(topic)
    }

    /// A new topic with events of the corpus, compressed with LZ4.
    ///
    /// # Errors
    /// The same, or if they cannot be sent.
    pub(super) fn filled(options: &Options, kafka: &Kafka, events: usize) -> Result<Self> {
        let mut topic = Self::empty(kafka)?;
        let mut producing = plain_command(&options.program)
            .args(["produce", "-", "--format", "ndjson", "--compression", "lz4"])
            .args(["--topic", &topic.name])
            .arg("--brokers")
            .arg(kafka.brokers.join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = BufWriter::new(producing.stdin.take().expect("stdin is piped"));
        let mut line = String::new();
        let mut written = Ok(());
        for prediction in Predictions::new(SEED).take(events) {
            line.clear();
            prediction.push_json(Naming::PredictionId, &mut line);
            written = input.write_all(line.as_bytes());
            if written.is_err() {
                break;
            }
        }
        let written = written.and_then(|()| input.flush());
        drop(input);
        let done = producing.wait_with_output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "events could not be sent: {said}");
        written.context("sending events")?;
        topic.messages = events as u64;
        Ok(topic)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(client(&self.brokers).create()?)
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if self.is_ours
            && let Ok(admin) = self.admin()
        {
            // Should brokers be gone there is nobody to tell.
            let _ = pollster::block_on(admin.delete_topics(&[&self.name], &patience()));
        }
    }
}

/// librdkafka's own command.
#[derive(Clone, Debug)]
pub(super) struct Kcat(PathBuf);

impl Kcat {
    /// Finds it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn find() -> Result<Self> {
        let command = PathBuf::from("kcat");
        Command::new(&command)
            .arg("-V")
            .output()
            .context("kcat cannot be started; the benchmark reads Kafka with it too (Debian's package `kcat`)")?;
        Ok(Self(command))
    }

    /// Messages a second that it reads, from the first one it prints to the last. It prints a line break for each, so that
    /// printing costs it and us next to nothing.
    pub(super) fn rate(&self, topic: &Topic) -> Result<f64> {
        let mut child = Command::new(&self.0)
            .args([
                "-C",
                "-q",
                "-e",
                "-o",
                "beginning",
                "-f",
                "\\n",
                "-t",
                &topic.name,
                "-b",
            ])
            .arg(topic.brokers.join(","))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut output = child.stdout.take().expect("stdout is piped");
        let mut piece = vec![0; 64 << 10];
        let first = output.read(&mut piece)?;
        let watch = Stopwatch::start();
        let (mut printed, mut seconds) = (first, 0.0);
        loop {
            match output.read(&mut piece)? {
                0 => break,
                more => {
                    printed += more;
                    seconds = watch.elapsed().as_secs_f64();
                }
            }
        }
        let done = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "kcat failed: {said}");
        ensure!(
            printed as u64 == topic.messages,
            "kcat read {printed} of {} messages",
            topic.messages
        );
        ensure!(printed > first, "the topic is too small to be measured");
        Ok((printed - first) as f64 / seconds)
    }
}

fn client(brokers: &[String]) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers.join(","));
    client
}

fn patience() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER_TIME))
        .operation_timeout(Some(ANSWER_TIME))
}
