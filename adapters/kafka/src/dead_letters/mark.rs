//! The checkpoint, as a committed position of a consumer group.
//!
//! The position is the offset in our log; the text beside it, `modelog:<log>:<epoch>:<fold version>`, says in which log.

use modelog_engine::{Checkpoint, LogId, Offset};

const PREFIX: &str = "modelog:";

/// The text beside a position.
pub(super) fn text(checkpoint: &Checkpoint) -> String {
    let Checkpoint {
        log,
        epoch,
        fold_version,
        ..
    } = checkpoint;
    format!("{PREFIX}{log}:{epoch}:{fold_version}")
}

/// The checkpoint that a position and its text are; none if somebody else wrote them.
pub(super) fn read(position: i64, text: &str) -> Option<Checkpoint> {
    let mut parts = text.strip_prefix(PREFIX)?.split(':');
    let mut part = || parts.next();
    let (log, epoch, fold_version) = (part()?, part()?, part()?);
    if part().is_some() {
        return None;
    }
    Some(Checkpoint {
        log: LogId(log.parse().ok()?),
        epoch: epoch.parse().ok()?,
        offset: Offset(position.try_into().ok()?),
        fold_version: fold_version.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let checkpoint = Checkpoint {
            log: LogId(uuid::Uuid::from_u128(77)),
            epoch: 1_795_366_800,
            offset: Offset(1 << 40),
            fold_version: 1,
        };
        let written = text(&checkpoint);
        assert_eq!(
            written,
            "modelog:00000000-0000-0000-0000-00000000004d:1795366800:1"
        );
        assert_eq!(read(1 << 40, &written), Some(checkpoint));
    }

    #[test]
    fn what_others_wrote_is_none() {
        let log = "00000000-0000-0000-0000-00000000004d";
        for text in [
            String::new(),
            "modelog:".into(),
            // What the source commits beside the positions it has read.
            format!("modelog:{log}:12"),
            format!("modelog:{log}:1:1:1"),
            format!("modelog:{log}:-1:1"),
            format!("modelog:{log}:1:x"),
            "modelog:77:1:1".into(),
            format!("{log}:1:1"),
        ] {
            assert_eq!(read(7, &text), None, "{text}");
        }
        assert_eq!(read(-1, &format!("modelog:{log}:1:1")), None);
    }
}
