//! The store built again aside, while readers have the old one.
//!
//! ```text
//! aidb:checkpoint says     aidb:rebuild:{…}                          aidb:…
//! filling                  emptied, then filled from the log         whole, as it was; stays where it is
//! removing                 whole, and as far as the other            keys that have no successor go
//! renaming                 each key takes the place of the old one   old and new; the checkpoint comes last
//! ─                        nothing                                   whole, and new
//! ```
//!
//! # Invariants
//! A1. Whatever is broken off at any command is found and ended by whoever opens the store next: every step may be done
//!     again, and what is aside is whole before the first key of the old store changes.
//! A2. While the store is partly old and partly new, the checkpoint says so, and questions go elsewhere. Whoever reads keys
//!     by himself finds each of them old or new, never half.
//! A3. Streams are not of the store: they stay, with the places of their readers, and go on where they were.
//! A4. A key is renamed within its slot; nothing relies on two keys changing at the same moment.

use redis::{RedisResult, Value};

use crate::checkpoint::{self, Found, Step};
use crate::connection::{Commands, Connection, command, refused};
use crate::error::RedisError;
use crate::keys::Keys;
use crate::scan::{self, Scan};

/// Begins: what was aside before is gone then, and nothing is done there yet.
pub(crate) async fn begin(keys: &Keys, server: &mut Connection) -> Result<(), RedisError> {
    // First of all, so that what is left when this is broken off does not count as filled.
    server
        .one(command("UNLINK", &keys.aside().checkpoint()))
        .await?;
    checkpoint::step(Step::Filling, keys, server).await?;
    empty(keys, server).await
}

/// Goes on after whatever was broken off; answers whether the store is being filled aside.
pub(crate) async fn resume(
    step: Step,
    keys: &Keys,
    server: &mut Connection,
) -> Result<bool, RedisError> {
    if step.is_mixed() {
        replace(step, keys, server).await?;
        return Ok(false);
    }
    let (found, _) = checkpoint::read(&keys.aside(), server).await?;
    if found == Found::Nothing {
        empty(keys, server).await?;
    }
    Ok(true)
}

/// Removes everything aside, and says that nothing is done there.
async fn empty(keys: &Keys, server: &mut Connection) -> Result<(), RedisError> {
    let aside = keys.aside();
    scan::remove(&aside, |_| false, server).await?;
    checkpoint::claim(&aside, server).await
}

/// Gives up: everything aside is gone then, also on a server that has no memory to note anything.
pub(crate) async fn abandon(keys: &Keys, server: &mut Connection) -> Result<(), RedisError> {
    let aside = keys.aside();
    server.one(command("UNLINK", &aside.checkpoint())).await?;
    scan::remove(&aside, |_| false, server).await
}

/// Lets what is aside take the place of the store, from a step on.
pub(crate) async fn replace(
    from: Step,
    keys: &Keys,
    server: &mut Connection,
) -> Result<(), RedisError> {
    if from != Step::Renaming {
        checkpoint::step(Step::Removing, keys, server).await?;
        remove_what_has_no_successor(keys, server).await?;
        checkpoint::step(Step::Renaming, keys, server).await?;
    }
    let aside = keys.aside();
    let mut scan = Scan::new(&aside);
    while let Some(found) = scan.next(server).await? {
        let mut commands = Commands::default();
        for key in found.iter().filter(|key| **key != aside.checkpoint()) {
            if let Some(place) = keys.place_of(key) {
                let mut rename = command("RENAME", key);
                rename.arg(place);
                commands.push(rename);
            }
        }
        let renamed = |command: &redis::Cmd, reply: RedisResult<Value>| match reply {
            // It came twice, or has expired.
            Err(error) if error.to_string().contains("no such key") => Ok(()),
            Err(error) => Err(refused(command, error)),
            Ok(_) => Ok(()),
        };
        server.each(commands, renamed).await?;
    }
    // With it goes what the old one says of the rebuild.
    let mut last = command("RENAME", &aside.checkpoint());
    last.arg(keys.checkpoint());
    server.one(last).await?;
    Ok(())
}

/// Removes the keys of the old store that are not in the new one.
async fn remove_what_has_no_successor(
    keys: &Keys,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let streams = keys.streams();
    let mut scan = Scan::new(keys);
    while let Some(mut found) = scan.next(server).await? {
        found.retain(|key| {
            let is_aside = keys.place_of(key).is_some();
            !is_aside && !key.starts_with(&streams) && *key != keys.checkpoint()
        });
        let mut commands = Commands::default();
        for key in &found {
            commands.push(command("EXISTS", &keys.of_place(key)));
        }
        let replies = server.run(commands).await?;
        let mut commands = Commands::default();
        for (key, exists) in found.iter().zip(replies) {
            if exists == Value::Int(0) {
                commands.push(command("UNLINK", key));
            }
        }
        server.run(commands).await?;
    }
    Ok(())
}
