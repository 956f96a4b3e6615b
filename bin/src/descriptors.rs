//! Open files: as many as connections, the log and the stores need together.
//!
//! A connection takes a descriptor, and most systems give a process 1,024 unless it asks for more. Were connections let
//! in until none is left, the log could not begin its next file, which poisons it, and stores could not open theirs.
//! So the limit is raised as far as it is needed and allowed, and there are no more connections than it has room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything but connections over the network: the log, SQLite with all its readers, Parquet files
/// that are read and written, a backup, connections over the control socket.
const OTHERS: usize = 384;

/// Makes room for so many connections; tells how many there may be.
pub(crate) fn make_room(connections: usize) -> usize {
    let needed = connections.saturating_add(OTHERS);
    let limit = raise(needed);
    let possible = possible(connections, limit);
    if possible < connections {
        tracing::warn!(
            limit,
            connections = possible,
            "`http.connections` is {connections}, which the limit of open files does not allow: \
             raise it (`ulimit -Hn`, LimitNOFILE=) to {needed}"
        );
    }
    possible
}

/// How many connections a limit has room for: half of it at least, and one.
fn possible(connections: usize, limit: usize) -> usize {
    let room = limit.saturating_sub(OTHERS).max(limit / 2);
    connections.min(room.max(1))
}

/// Raises the limit to what is needed, as far as it goes; the limit then.
fn raise(needed: usize) -> usize {
    let limits = getrlimit(Resource::Nofile);
    // None is no limit.
    let count = |limit: Option<u64>| {
        limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        })
    };
    let current = count(limits.current);
    let wanted = needed.min(count(limits.maximum));
    if wanted <= current {
        return current;
    }
    let raised = Rlimit {
        current: Some(wanted as u64),
        maximum: limits.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_everything_else() {
        assert_eq!(possible(1024, 1_048_576), 1024);
        assert_eq!(possible(1024, 1024 + OTHERS), 1024);
        assert_eq!(possible(1024, 1024), 1024 - OTHERS);
        assert_eq!(possible(1024, 256), 128);
        assert_eq!(possible(10, 256), 10);
        assert_eq!(possible(10, 1), 1);
    }

    #[test]
    fn a_limit_is_never_lowered() {
        let before = raise(0);
        assert!(raise(before.saturating_add(1)) >= before);
        assert!(raise(1) >= before);
    }
}
