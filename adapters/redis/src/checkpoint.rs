//! The checkpoint: whose keys these are, how far they are, and whether the store is being built again.

use modelog_engine::{Checkpoint, LogId, Offset};

use crate::connection::{Commands, Connection, command, int};
use crate::error::RedisError;
use crate::fold::predictions::{CLAIMS, SHARED};
use crate::hash::Hash;
use crate::health::Health;
use crate::keys::Keys;

/// The field that says whose keys these are.
pub(crate) const OURS: &str = "modelog";
/// The field that says how far a rebuild aside is.
pub(crate) const REBUILD: &str = "rebuild";
/// The fields of the checkpoint proper; without them nothing is done.
pub(crate) const FIELDS: [&str; 5] = ["log", "epoch", "offset", "fold_version", "before"];

/// The checkpoint as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) at: Checkpoint,
    /// Where it was some seconds before.
    pub(crate) before: Offset,
}

/// What the checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// It was emptied to be built again.
    Cleared,
    At(Stand),
}

impl Found {
    pub(crate) fn stand(self) -> Option<Stand> {
        match self {
            Self::At(stand) => Some(stand),
            Self::Nothing | Self::Cleared => None,
        }
    }
}

/// How far a rebuild aside is (see `aside`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Filling,
    Removing,
    Renaming,
}

impl Step {
    const ALL: [Self; 3] = [Self::Filling, Self::Removing, Self::Renaming];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Removing => "removing",
            Self::Renaming => "renaming",
        }
    }

    /// The step of a name; none if it is unknown.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    /// Whether keys are changing places, so that what is there is partly old and partly new.
    pub(crate) fn is_mixed(self) -> bool {
        self != Self::Filling
    }
}

/// What the checkpoint says, and how far a rebuild aside is, if there is one.
pub(crate) async fn read(
    keys: &Keys,
    server: &mut Connection,
) -> Result<(Found, Option<Step>), RedisError> {
    let reply = server.one(command("HGETALL", &keys.checkpoint())).await?;
    let Some(hash) = Hash::read(keys.checkpoint(), reply)? else {
        return Ok((Found::Nothing, None));
    };
    let step = match hash.get(REBUILD) {
        None => None,
        Some(name) => {
            let unknown = || hash.content(format!("{REBUILD} is {name}"));
            Some(Step::of(name).ok_or_else(unknown)?)
        }
    };
    let Some(log) = hash.get("log") else {
        return Ok((Found::Cleared, step));
    };
    let log: LogId =
        serde_json::from_value(log.into()).map_err(|error| hash.content(error.to_string()))?;
    let number = |name: &str| {
        let number = hash.number::<u64>(name)?;
        number.ok_or_else(|| hash.content(format!("no {name}")))
    };
    let stand = Stand {
        at: Checkpoint {
            log,
            epoch: number("epoch")? as u32,
            offset: Offset(number("offset")?),
            fold_version: number("fold_version")? as u32,
        },
        before: Offset(number("before")?),
    };
    Ok((Found::At(stand), step))
}

/// Says that what is there is ours.
pub(crate) async fn claim(keys: &Keys, server: &mut Connection) -> Result<(), RedisError> {
    let mut ours = command("HSET", &keys.checkpoint());
    ours.arg(OURS).arg(1);
    server.one(ours).await?;
    Ok(())
}

/// Says that nothing is done, and that what is there is ours. A server without memory for the latter is told the former.
pub(crate) async fn forget(keys: &Keys, server: &mut Connection) -> Result<(), RedisError> {
    let mut commands = Commands::default();
    let mut fields = command("HDEL", &keys.checkpoint());
    fields.arg(&FIELDS).arg(&Health::FIELDS);
    fields.arg(SHARED).arg(CLAIMS).arg(REBUILD);
    commands.push(fields);
    server.run(commands).await?;
    match claim(keys, server).await {
        Err(error) if error.is_full() => Ok(()),
        claimed => claimed,
    }
}

/// Moves the checkpoint; answers how many of its fields were not there.
pub(crate) async fn write(
    stand: Stand,
    keys: &Keys,
    server: &mut Connection,
) -> Result<usize, RedisError> {
    let mut command = command("HSET", &keys.checkpoint());
    command.arg(OURS).arg(1);
    command.arg("log").arg(stand.at.log.to_string());
    command.arg("epoch").arg(stand.at.epoch);
    command.arg("offset").arg(stand.at.offset.0);
    command.arg("fold_version").arg(stand.at.fold_version);
    command.arg("before").arg(stand.before.0);
    let new = server.one(command).await?;
    Ok(int(&new).unwrap_or(0) as usize)
}

/// Says how far a rebuild aside is.
pub(crate) async fn step(
    step: Step,
    keys: &Keys,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let mut at = command("HSET", &keys.checkpoint());
    at.arg(REBUILD).arg(step.name());
    server.one(at).await?;
    Ok(())
}
