//! Whether the server keeps what it is given.
//!
//! A server with a bound on its memory and a policy to match throws keys away, ours among them, and tells only how many. Once
//! it has since the store was filled, nothing it still holds can be told from all of it: the store says that it is not whole,
//! until it is built again, and reads go elsewhere.

use redis::Value;

use crate::connection::{Commands, Connection, command, text};
use crate::error::RedisError;
use crate::keys::Keys;

/// The field of the checkpoint that says that keys were thrown away.
pub(crate) const NOT_WHOLE: &str = "not_whole";
/// Fields of the checkpoint: which server it was, and how many keys it had thrown away, when that was looked at last.
const SERVER: &str = "server";
const EVICTED: &str = "evicted";

/// What the server says of itself.
#[derive(Debug, Default)]
struct Info {
    run_id: String,
    evicted: u64,
    policy: String,
    bounded: bool,
}

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(crate) not_whole: bool,
    /// Which server it was, and how many keys it had thrown away.
    seen: Option<(String, u64)>,
    /// Why it may come to that.
    policy: Option<String>,
}

impl Health {
    /// The fields of the checkpoint that are about it.
    pub(crate) const FIELDS: [&str; 3] = [SERVER, EVICTED, NOT_WHOLE];

    /// What to tell a person.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.not_whole {
            let what = "Redis has thrown keys away (evicted_keys): reads come from SQL; give it more memory or \
                        `maxmemory-policy noeviction`, then run `modelog rebuild redis`";
            return Some(what.into());
        }
        let policy = self.policy.as_ref()?;
        Some(format!(
            "Redis may throw keys away (maxmemory-policy {policy}); set noeviction, so that nothing is missing that should be there"
        ))
    }

    /// Says of a store that keys of it may have been thrown away.
    pub(crate) async fn mark(keys: &Keys, server: &mut Connection) -> Result<(), RedisError> {
        let mut noted = command("HSET", &keys.checkpoint());
        noted.arg(NOT_WHOLE).arg(1);
        server.one(noted).await?;
        Ok(())
    }

    /// Looks at the server. `fresh` says that nothing is in the store yet. What was known before goes before what the
    /// checkpoint says, which may have been thrown away itself.
    pub(crate) async fn look(
        &self,
        keys: &Keys,
        fresh: bool,
        server: &mut Connection,
    ) -> Result<Self, RedisError> {
        let mut known = command("HMGET", &keys.checkpoint());
        known.arg(&Self::FIELDS);
        let known = crate::connection::list(server.one(known).await?);
        let get = |at: usize| known.get(at).and_then(text);
        let info = match info(server).await {
            Ok(info) => info,
            // Whoever may not ask is not told.
            Err(RedisError::Refused { code, .. }) if code == "NOPERM" => Info::default(),
            Err(error) => return Err(error),
        };
        let written = get(0).map(|run_id| {
            let evicted = get(1).and_then(|text| text.parse().ok());
            (run_id.to_owned(), evicted.unwrap_or(0))
        });
        // A server that was started again counts from nought.
        let before = match self.seen.clone().or(written) {
            Some((run_id, evicted)) if run_id == info.run_id => evicted,
            None if fresh => info.evicted,
            _ => 0,
        };
        let not_whole = self.not_whole || get(2) == Some("1") || info.evicted > before;
        let mut commands = Commands::default();
        let mut noted = command("HSET", &keys.checkpoint());
        noted
            .arg(SERVER)
            .arg(&info.run_id)
            .arg(EVICTED)
            .arg(info.evicted);
        noted.arg(NOT_WHOLE).arg(u8::from(not_whole));
        commands.push(noted);
        server.run(commands).await?;
        let policy =
            Some(info.policy).filter(|policy| info.bounded && policy.starts_with("allkeys"));
        Ok(Self {
            not_whole,
            seen: Some((info.run_id, info.evicted)),
            policy,
        })
    }
}

async fn info(server: &mut Connection) -> Result<Info, RedisError> {
    let mut commands = Commands::default();
    for section in ["server", "stats", "memory"] {
        commands.push(command("INFO", section));
    }
    let mut info = Info::default();
    for reply in server.run(commands).await? {
        let said = match &reply {
            Value::VerbatimString { text, .. } => text,
            other => text(other).unwrap_or_default(),
        };
        for line in said.lines() {
            match line.split_once(':') {
                Some(("run_id", value)) => info.run_id = value.into(),
                Some(("evicted_keys", value)) => info.evicted = value.parse().unwrap_or(0),
                Some(("maxmemory_policy", value)) => info.policy = value.into(),
                Some(("maxmemory", value)) => info.bounded = value != "0",
                _ => {}
            }
        }
    }
    Ok(info)
}
