//! Databases that follow the convention and were written by others, by hand: read as events.
//!
//! ```text
//! SCAN ─▶ names of keys, sorted ─▶ entities: their names first, then events
//!                               ─▶ parameters, points, artifacts ─▶ events, in the order of the keys
//!                               ─▶ ends of runs, predictions, feedback ─▶ sorted by time ─▶ events
//! ```
//!
//! Such a database was filled by a script that somebody wrote for it, so nothing is taken for granted but the names of keys
//! (`key`). Fields go by the names that are in use for them:
//!
//! | key | fields, and what becomes of them |
//! |---|---|
//! | `model:1` | `model`, `name`, `model_name`; `architecture`, `arch`; `framework`; `task_type`, `task`; `description`; `aliases` |
//! | `version:3` | `model_id`, or `model` by name or number; `version`, `version_number`, `version_name`, `name`; `checkpoint_path`, `path`, `uri`, …; `config`; `signature`; `digest`, `checksum`, …; `run_id`; `description` |
//! | `dataset:2` | `dataset`, `name`; `version`; `uri`, `path`, …; `split_info`, `splits`; `row_count`, `rows`, `num_samples`, …; `digest`; `schema` |
//! | `experiment:1` | `experiment`, `name`; `description` |
//! | `run:5` | `run`, `run_id`, `uuid`, else its number; `name`; `parent_run_id`; `experiment_id`, or the sets `exprun:1:runs`; `version_id`, or `model` and `version`; `dataset_id`; `user`; `git_commit`; `started_at`, `start_time`, …; `status`; `finished_at`, `end_time`, …; `error`; `params`; `artifacts` |
//! | `hyperparam:5`, `hyperparam:5:lr` | a hash, or a string each: JSON where it is JSON, else text |
//! | `metric:5:loss:train`, `metric:version:3:loss` | a sorted set by step, a list, a stream; a point is a number, `step:value`, `step:value:time`, or JSON, also behind an offset of 20 digits (`points`) |
//! | `artifact:7` | `run_id` or a version; `uri`, `path`, …; `name`; `media_type`; `size_bytes`; `digest`; `metadata` |
//! | `prediction:17` | a version; `input`, `features`; `output`, `prediction`; `predicted_class`; `confidence`; `latency_ms`; …; `true_label`, `ground_truth`, `correct`, `feedback`: feedback on it |
//! | `feedback:17` | `prediction_id`; the truth, as above; `label`; `score` |
//!
//! What a hash has beside goes into `tags`, or into `extra` where the kind has no tags. A string that is a JSON object is
//! as good as a hash. Times are read as `values::time` says; `""`, `None` and `null` are nothing.
//!
//! # Invariants
//! H1. Nothing is written, and no command looks at more than a piece: `SCAN`, `HGETALL`, `ZRANGE` by ranks and the like.
//! H2. The same database gives the same events in the same order, whatever order SCAN has: keys are sorted, predictions
//!     by time and then by key.
//! H3. An event's id is made of what it says (`event`). A database that has changed gives other events for what has
//!     changed, and the same ones for the rest.
//! H4. Memory holds the names of entities, and pieces. Names of keys and predictions are sorted on disk (`sort`).
//! H5. Every key is taken, or counted as left out with a reason, or bad. Bad is what has no meaning: a reference to what is
//!     not there, another type, a value that cannot be read. What depends on something bad is counted, not complained about.
//!
//! # Keys that change meanwhile
//! A database may be in use. What vanishes is left out, what changes is read as it is. A sorted set that is added to below
//! the rank that was read shows a member twice, which is the same event twice; one that is removed from hides a member,
//! until the next import.
//!
//! # Why not the projection's reader
//! That one reads what this program wrote, and refuses everything else, for good reason.

mod bad;
mod entities;
mod event;
mod fetch;
mod fields;
mod key;
mod names;
mod naming;
mod order;
mod outcomes;
mod points;
mod predictions;
mod reading;
mod runs;
mod series;
mod sort;
mod source;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::io;

use modelog_engine::LogId;

pub use source::Handwritten;

use crate::connection::{Connection, command, int, list, text};
use crate::error::RedisError;
use crate::hash::Hash;
use bad::Bad;
use key::Key;
use reading::Reading;

/// How many bad things are described; all are counted.
const BAD_MAX: usize = 100;
/// How many sorts of keys are told apart in counts.
const SORTS_MAX: usize = 1000;
/// How much is looked at for other prefixes, where there is nothing below the one that was given.
const LOOK_ROUNDS: usize = 50;
const LOOK_KEYS: usize = 1000;
const PREFIXES_MAX: usize = 10;

/// Takes what is read.
pub trait Taker {
    /// An event, as flat JSON; `key` is where it comes from, and the digest a hash of it.
    ///
    /// # Errors
    /// Nothing more is read.
    fn event(&mut self, key: &str, json: &str, digest: u64) -> io::Result<()>;

    /// So many keys hold events.
    fn found(&mut self, keys: u64);

    /// So many more of them were read.
    fn passed(&mut self, keys: u64);
}

/// What there is to say about a database that was read.
#[derive(Debug, Default)]
pub struct Report {
    /// What is bad: the first of it, each with its key.
    pub bad: Vec<String>,
    /// How much is bad.
    pub bad_total: u64,
    /// Keys, or parts of them, that became no event, by sort of key and reason.
    pub left_out: BTreeMap<(String, String), u64>,
    /// Events for which no time was found.
    pub without_time: u64,
    /// Predictions whose payloads the writer of the database had left out.
    pub without_payload: u64,
}

impl Report {
    fn leave_out(&mut self, pattern: String, reason: String) {
        let entry = (pattern, reason);
        let full = self.left_out.len() >= SORTS_MAX && !self.left_out.contains_key(&entry);
        let entry = if full { ("…".into(), entry.1) } else { entry };
        *self.left_out.entry(entry).or_default() += 1;
    }

    fn bad(&mut self, bad: &Bad, pattern: String) {
        self.leave_out(pattern, bad.reason());
        if bad.what == bad::Why::Orphan {
            return;
        }
        self.bad_total += 1;
        if self.bad.len() < BAD_MAX {
            self.bad.push(bad.to_string());
        }
    }
}

impl Handwritten {
    /// The log whose live view this is, if it is one: then a Modelog wrote it, and its predictions are the newest ones only.
    ///
    /// # Errors
    /// The server cannot be reached, or does not let us in.
    pub async fn live_view_of(&self) -> Result<Option<LogId>, RedisError> {
        let mut server = self.open().await?;
        let checkpoint = self.checkpoint(&mut server).await?;
        let log = checkpoint.as_ref().and_then(|hash| hash.get("log"));
        Ok(log.and_then(|log| serde_json::from_value(log.into()).ok()))
    }

    /// The checkpoint, if it is one of a program like this.
    async fn checkpoint(&self, server: &mut Connection) -> Result<Option<Hash>, RedisError> {
        let key = format!("{}:checkpoint", self.prefix);
        let reply = match server.one(command("HGETALL", &key)).await {
            // Somebody else's, then.
            Err(RedisError::Refused { code, .. }) if code == "WRONGTYPE" => return Ok(None),
            reply => reply?,
        };
        let hash = Hash::read(key, reply).ok().flatten();
        Ok(hash.filter(|hash| hash.get(crate::checkpoint::OURS).is_some()))
    }

    /// Reads everything.
    ///
    /// # Errors
    /// The server goes away or refuses something, the disk has no room to sort, or there is nothing below the prefix. What is
    /// bad is no error here: the report says it.
    pub async fn read(&self, taker: &mut dyn Taker) -> Result<Report, RedisError> {
        let mut server = self.open().await?;
        let live_view = self.checkpoint(&mut server).await?.is_some();
        let mut reading = Reading::new(self, server, live_view, taker);
        reading.run().await?;
        let Reading {
            report,
            mut server,
            seen,
            ..
        } = reading;
        if seen == 0 {
            return Err(RedisError::Empty {
                database: self.name().into(),
                found: self.prefixes(&mut server).await?,
            });
        }
        Ok(report)
    }

    async fn open(&self) -> Result<Connection, RedisError> {
        match Connection::open(&self.config).await {
            Err(RedisError::Unreachable { address, source }) if is_denial(&source) => {
                Err(RedisError::Denied { address, source })
            }
            opened => opened,
        }
    }

    /// Prefixes below which there seem to be such databases, in words.
    async fn prefixes(&self, server: &mut Connection) -> Result<String, RedisError> {
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        let mut cursor = "0".to_owned();
        let mut whole = false;
        for _ in 0..LOOK_ROUNDS {
            let mut scan = command("SCAN", &cursor);
            scan.arg("COUNT").arg(LOOK_KEYS);
            let (next, keys) = scanned(server.one(scan).await?);
            for key in &keys {
                let key = String::from_utf8_lossy(key);
                let prefixes = key
                    .match_indices(':')
                    .map(|(at, _)| (&key[..at], &key[at + 1..]));
                let prefix = prefixes
                    .into_iter()
                    .find(|(_, rest)| Key::of(rest).is_fact());
                if let Some((prefix, _)) = prefix {
                    *found.entry(prefix.to_owned()).or_default() += 1;
                }
            }
            whole = next == "0";
            if whole {
                break;
            }
            cursor = next;
        }
        let looked = if whole { "" } else { " among the first keys" };
        if found.is_empty() {
            return Ok(format!(
                "keys of the convention were found{looked} below no other prefix either"
            ));
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(_, keys)| std::cmp::Reverse(*keys));
        found.truncate(PREFIXES_MAX);
        let names = found
            .iter()
            .map(|(prefix, keys)| format!("{} ({keys})", prefix.escape_debug()));
        let names = names.collect::<Vec<_>>().join(", ");
        Ok(format!("such keys were found{looked} below {names}"))
    }
}

/// Whether a server was there, and did not take the user, the password or the database.
fn is_denial(error: &redis::RedisError) -> bool {
    use redis::{ErrorKind, ServerErrorKind};
    matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed
            | ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoPerm)
    )
}

/// What SCAN answers: where to go on, and keys.
fn scanned(reply: redis::Value) -> (String, Vec<Vec<u8>>) {
    let mut reply = list(reply).into_iter();
    let next = reply.next().and_then(|next| match int(&next) {
        // Cursors are numbers, and some do not fit into ours.
        Some(number) if number >= 0 => Some(number.to_string()),
        _ => text(&next).map(str::to_owned),
    });
    let bytes = |key| match key {
        redis::Value::BulkString(bytes) => Some(bytes),
        _ => None,
    };
    let keys = list(reply.next().unwrap_or(redis::Value::Nil)).into_iter();
    (
        next.unwrap_or_else(|| "0".into()),
        keys.filter_map(bytes).collect(),
    )
}
