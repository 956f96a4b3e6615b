//! Reading keys, some at a time: as many as make a reply of a useful size.

use redis::{Cmd, RedisResult, Value};

use super::bad::Bad;
use super::fields::Fields;
use crate::connection::{Commands, Connection, command, list, refused, text};
use crate::error::RedisError;

/// How much one round of replies should take, about.
pub(super) const REPLY_BYTES: usize = 4 << 20;
/// The most keys, or members, that are asked for at once.
const ROUND_MAX: usize = 1000;
const ROUND_FIRST: usize = 64;

/// How much to ask for at once, by what came so far.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) items: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { items: ROUND_FIRST }
    }

    /// So many items took so many bytes.
    pub(super) fn saw(&mut self, items: usize, bytes: usize) {
        let fitting = items.saturating_mul(REPLY_BYTES) / bytes.max(1);
        // What comes next may be larger than what came.
        self.items = fitting.clamp(1, (self.items * 2).min(ROUND_MAX));
    }
}

/// What was found at a key that should have fields.
#[derive(Debug)]
pub(super) enum Content {
    Fields(Fields),
    /// A string that is no JSON object.
    Text(String),
    Bad(Bad),
    /// It was there a moment ago.
    Gone,
}

/// A reply, or that the key is of another type.
pub(super) enum Reply {
    Value(Value),
    OtherType,
}

/// Sends commands, of which each is about a key of the type it needs, or of another.
pub(super) async fn ask(
    commands: impl IntoIterator<Item = Cmd>,
    server: &mut Connection,
) -> Result<Vec<Reply>, RedisError> {
    let commands: Commands = commands.into_iter().collect();
    let mut replies = Vec::with_capacity(commands.len());
    let see = |command: &Cmd, reply: RedisResult<Value>| {
        replies.push(match reply {
            Ok(value) => Reply::Value(value),
            Err(error) if error.code() == Some("WRONGTYPE") => Reply::OtherType,
            Err(error) => return Err(refused(command, error)),
        });
        Ok(())
    };
    server.each(commands, see).await?;
    Ok(replies)
}

/// The bytes of a reply, about.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::BulkString(bytes) => bytes.len() + 16,
        Value::Array(all) => all.iter().map(size).sum(),
        _ => 16,
    }
}

/// The elements of a reply in pairs, as bytes.
pub(super) fn pairs(reply: Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = |value| match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        _ => Vec::new(),
    };
    let mut parts = list(reply).into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        pairs.push((bytes(name), bytes(value)));
    }
    pairs
}

/// The fields at keys: of hashes, and of strings that are JSON objects.
pub(super) async fn contents(
    keys: &[String],
    pace: &mut Pace,
    server: &mut Connection,
) -> Result<Vec<Content>, RedisError> {
    let hashes = keys.iter().map(|key| command("HGETALL", key));
    let mut bytes = 0;
    let mut found = Vec::with_capacity(keys.len());
    let mut others = Vec::new();
    for (at, reply) in ask(hashes, server).await?.into_iter().enumerate() {
        found.push(match reply {
            Reply::Value(value) => {
                bytes += size(&value);
                match Fields::of_hash(&keys[at], pairs(value)) {
                    Ok(fields) if fields.is_empty() => Content::Gone,
                    Ok(fields) => Content::Fields(fields),
                    Err(bad) => Content::Bad(bad),
                }
            }
            Reply::OtherType => {
                others.push(at);
                Content::Gone
            }
        });
    }
    let types = types(others.iter().map(|at| &*keys[*at]), server).await?;
    let mut strings = Vec::new();
    for (at, ty) in others.into_iter().zip(types) {
        match &*ty {
            "string" => strings.push(at),
            // It has changed, or is gone.
            "none" | "hash" => {}
            ty => found[at] = Content::Bad(Bad::of_type(&keys[at], ty)),
        }
    }
    let asked = strings.iter().map(|at| command("GET", &keys[*at]));
    let replies = ask(asked, server).await?;
    for (at, reply) in strings.into_iter().zip(replies) {
        if let Reply::Value(Value::BulkString(value)) = reply {
            bytes += value.len();
            found[at] = string(&keys[at], value);
        }
    }
    pace.saw(keys.len(), bytes);
    Ok(found)
}

fn string(key: &str, value: Vec<u8>) -> Content {
    let Ok(text) = String::from_utf8(value) else {
        return Content::Bad(Bad::of_key(key, "the value is not UTF-8"));
    };
    Fields::of_json(key, &text).map_or(Content::Text(text), Content::Fields)
}

/// The types of keys.
pub(super) async fn types(
    keys: impl Iterator<Item = &str>,
    server: &mut Connection,
) -> Result<Vec<String>, RedisError> {
    let asked = keys.map(|key| command("TYPE", key)).collect::<Vec<_>>();
    let types = ask(asked, server).await?.into_iter();
    let word = |reply| match reply {
        Reply::Value(value) => text(&value).unwrap_or("none").to_owned(),
        Reply::OtherType => "none".to_owned(),
    };
    Ok(types.map(word).collect())
}

/// All elements of a small set, sorted set or list.
pub(super) async fn elements(
    key: &str,
    server: &mut Connection,
) -> Result<Vec<String>, RedisError> {
    let commands = || {
        let mut ranks = command("ZRANGE", key);
        ranks.arg(0).arg(-1);
        let mut list = command("LRANGE", key);
        list.arg(0).arg(-1);
        [command("SMEMBERS", key), ranks, list]
    };
    for reply in ask(commands(), server).await? {
        if let Reply::Value(value) = reply {
            let all = list(value);
            return Ok(all
                .iter()
                .filter_map(|value| Some(text(value)?.to_owned()))
                .collect());
        }
    }
    Ok(Vec::new())
}
