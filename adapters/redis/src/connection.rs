//! A connection: commands go out in pipelines of bounded size, and every reply is looked at.
//!
//! Commands come from iterators, so that many of them are made one pipeline after the other, while the server is at work
//! on those before, and never stand in memory all at once.

use std::iter::Peekable;
use std::sync::Arc;

use futures_util::StreamExt as _;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisResult, Value};

use crate::config::RedisConfig;
use crate::error::RedisError;

/// The most commands of a pipeline.
const PIPELINE_COMMANDS: usize = 1000;
/// Its most bytes, but for a single command that is larger.
const PIPELINE_BYTES: usize = 1 << 20;
/// How many of them are under way: while the server is at work on one, the next is put together, and the replies to the
/// one before are looked at.
const PIPELINES: usize = 3;

/// Commands on their way, in order.
pub(crate) type Commands = Vec<Cmd>;

/// Commands that are made one after the other as they are sent.
pub(crate) type Made<'a> = Box<dyn Iterator<Item = Cmd> + Send + 'a>;

/// Commands as they are made. The compiler cannot follow the types of closures through what waits; so they are hidden.
pub(crate) fn made<'a>(commands: impl Iterator<Item = Cmd> + Send + 'a) -> Made<'a> {
    Box::new(commands)
}

/// A command of a name on a key.
pub(crate) fn command(name: &str, key: &str) -> Cmd {
    command_of(name, key, 8, 64)
}

/// The same, with room for so many more arguments, of so many bytes together.
pub(crate) fn command_of(name: &str, key: &str, arguments: usize, bytes: usize) -> Cmd {
    let mut command = Cmd::with_capacity(arguments + 2, name.len() + key.len() + bytes);
    command.arg(name).arg(key);
    command
}

fn bytes(command: &Cmd) -> usize {
    let arguments = command.args_iter().map(|argument| match argument {
        redis::Arg::Simple(bytes) => bytes.len() + 16,
        _ => 16,
    });
    arguments.sum()
}

/// The next commands, as many as go together.
fn next_pipeline(rest: &mut Peekable<impl Iterator<Item = Cmd>>) -> Option<Pipeline> {
    rest.peek()?;
    let (_, most) = rest.size_hint();
    let room = most.map_or(PIPELINE_COMMANDS, |most| most.min(PIPELINE_COMMANDS));
    let mut pipeline = Pipeline::with_capacity(room);
    pipeline.ignore_errors();
    let (mut count, mut size) = (0, 0);
    while let Some(command) = rest.next_if(|command| {
        size += bytes(command);
        count += 1;
        count == 1 || count <= PIPELINE_COMMANDS && size <= PIPELINE_BYTES
    }) {
        pipeline.add_command(command);
    }
    Some(pipeline)
}

/// A connection to the server.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    address: Arc<str>,
    server: MultiplexedConnection,
}

impl Connection {
    pub(crate) async fn open(config: &RedisConfig) -> Result<Self, RedisError> {
        let address = config.address();
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_time))
            .set_response_timeout(Some(config.response_time));
        let client = config.client()?;
        let server = client.get_multiplexed_async_connection_with_config(&settings);
        match server.await {
            Ok(server) => Ok(Self {
                address: address.into(),
                server,
            }),
            Err(source) => Err(RedisError::Unreachable { address, source }),
        }
    }

    /// Sends commands, and answers with their replies, in order.
    ///
    /// # Errors
    /// The first command that was refused; some of those behind it were done all the same.
    pub(crate) async fn run<I>(&mut self, commands: I) -> Result<Vec<Value>, RedisError>
    where
        I: IntoIterator<Item = Cmd, IntoIter: Send>,
    {
        let commands = commands.into_iter();
        let mut replies = Vec::with_capacity(commands.size_hint().0);
        self.each(commands, |command, reply| {
            replies.push(reply.map_err(|error| refused(command, error))?);
            Ok(())
        })
        .await?;
        Ok(replies)
    }

    /// Sends commands, and shows each with its reply, in order.
    ///
    /// # Errors
    /// The first error that `see` answers with, or that the server cannot be reached.
    pub(crate) async fn each<I>(
        &mut self,
        commands: I,
        mut see: impl FnMut(&Cmd, RedisResult<Value>) -> Result<(), RedisError>,
    ) -> Result<(), RedisError>
    where
        I: IntoIterator<Item = Cmd, IntoIter: Send>,
    {
        let mut rest = commands.into_iter().peekable();
        let pipelines = std::iter::from_fn(move || next_pipeline(&mut rest));
        let server = self.server.clone();
        let sent = pipelines.map(|pipeline| {
            let mut server = server.clone();
            async move {
                let replies = pipeline.query_async::<Vec<RedisResult<Value>>>(&mut server);
                let replies = replies.await;
                (pipeline, replies)
            }
        });
        let mut answered = futures_util::stream::iter(sent).buffered(PIPELINES);
        while let Some((pipeline, replies)) = answered.next().await {
            let replies = replies.map_err(|source| self.lost(source))?;
            for (command, reply) in pipeline.cmd_iter().zip(replies) {
                see(command, reply)?;
            }
        }
        Ok(())
    }

    /// The reply to one command.
    pub(crate) async fn one(&mut self, command: Cmd) -> Result<Value, RedisError> {
        Ok(self.run([command]).await?.pop().unwrap_or(Value::Nil))
    }

    fn lost(&self, source: redis::RedisError) -> RedisError {
        RedisError::Unreachable {
            address: self.address.to_string(),
            source,
        }
    }
}

/// What the server said to a command that it did not do.
pub(crate) fn refused(command: &Cmd, error: redis::RedisError) -> RedisError {
    refused_with(command, error.code().unwrap_or("ERR"), error.to_string())
}

/// The same, by the code of the reply and all of it.
pub(crate) fn refused_with(command: &Cmd, code: &str, reply: String) -> RedisError {
    let mut arguments = command.args_iter().map(|argument| match argument {
        redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    });
    RedisError::Refused {
        command: arguments.next().unwrap_or_default(),
        key: arguments.next().unwrap_or_default(),
        code: code.to_owned(),
        reply,
    }
}

/// A reply as text; none if it is nil or something else.
pub(crate) fn text(reply: &Value) -> Option<&str> {
    match reply {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The same, without a copy of it.
pub(crate) fn into_text(reply: Value) -> Option<String> {
    match reply {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// A reply as a number.
pub(crate) fn int(reply: &Value) -> Option<i64> {
    match reply {
        Value::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}

/// The elements of a reply that is a list; nothing if it is not.
pub(crate) fn list(reply: Value) -> Vec<Value> {
    match reply {
        Value::Array(all) | Value::Set(all) => all,
        Value::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(key, value)| [key, value])
            .collect(),
        _ => Vec::new(),
    }
}
