//! All keys of a store, some at a time: a server is never asked for all of them at once.

use crate::connection::{Commands, Connection, command, int, list, text};
use crate::error::RedisError;
use crate::keys::Keys;

/// How many keys are looked at, or removed, at a time.
const SCAN_KEYS: usize = 1000;

/// The place in a walk over all keys.
#[derive(Debug)]
pub(crate) struct Scan {
    pattern: String,
    cursor: Option<String>,
}

impl Scan {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self {
            pattern: keys.pattern(),
            cursor: Some("0".into()),
        }
    }

    /// Some keys, maybe none; `None` behind the last. A key that is there all the while comes at least once.
    pub(crate) async fn next(
        &mut self,
        server: &mut Connection,
    ) -> Result<Option<Vec<String>>, RedisError> {
        let Some(cursor) = self.cursor.take() else {
            return Ok(None);
        };
        let mut command = command("SCAN", &cursor);
        command.arg("MATCH").arg(&self.pattern);
        command.arg("COUNT").arg(SCAN_KEYS);
        let mut reply = list(server.one(command).await?).into_iter();
        let next = reply.next();
        let next = next.as_ref().and_then(|next| match int(next) {
            Some(number) => Some(number.to_string()),
            None => text(next).map(str::to_owned),
        });
        self.cursor = next.filter(|next| next != "0");
        let found = list(reply.next().unwrap_or(redis::Value::Nil));
        let found = found.iter().filter_map(|key| Some(text(key)?.to_owned()));
        Ok(Some(found.collect()))
    }
}

/// A key of a store, if there is any.
pub(crate) async fn any(
    keys: &Keys,
    server: &mut Connection,
) -> Result<Option<String>, RedisError> {
    let mut scan = Scan::new(keys);
    while let Some(found) = scan.next(server).await? {
        if let Some(key) = found.into_iter().next() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Removes the keys of a store that are not to stay.
pub(crate) async fn remove(
    keys: &Keys,
    stays: impl Fn(&str) -> bool,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let mut scan = Scan::new(keys);
    while let Some(found) = scan.next(server).await? {
        let mut commands = Commands::default();
        for key in found.iter().filter(|key| !stays(key)) {
            commands.push(command("UNLINK", key));
        }
        server.run(commands).await?;
    }
    Ok(())
}
