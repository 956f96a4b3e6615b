//! What may happen to a log, in any order: every act makes sense in every state, so that a case can be shortened anywhere.

use modelog_engine::sim::{Crash, Fault};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use super::door::{Plan, Trouble, Who};
use super::events::{Said, said};

/// How a log is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// How many identities are remembered.
    pub(super) window: usize,
    /// Whether groups are padded; then crashes may spoil whole blocks.
    pub(super) padded: bool,
    /// Whether the disk may fill up.
    pub(super) may_fill: bool,
}

/// A call, as its caller means it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) caller: usize,
    pub(super) how: How,
    pub(super) said: Vec<Said>,
    /// Conflicts are recorded, not refused.
    pub(super) record: bool,
    /// Entities must be new.
    pub(super) must_be_new: bool,
    /// It is refused when too much waits.
    pub(super) hurried: bool,
    /// It waits for its answer.
    pub(super) waits: bool,
}

/// How a call can be told from others.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// By the ids of its events only.
    Plain,
    /// One of the caller's earlier calls, the so-manieth last, sent again.
    Again(usize),
    Key(u8),
    /// The next of its producer.
    Next,
    /// Calls of the producer are left out before it.
    Skipping(u64),
    /// A number that was used, perhaps, with whatever it says.
    Back(u64),
    NewEpoch,
    OldEpoch,
}

/// Where a log is restored from.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    /// Its own directory, in use.
    Itself,
    /// A backup that was taken, by number.
    Backup(usize),
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Calls that are under way together, admitted in this order.
    Calls(Vec<Asked>),
    Seal,
    /// The log becomes Parquet files: all of it, or as far as they are full.
    Compact {
        all: bool,
    },
    /// Segments that are no longer needed go, after the time they are kept; or the log is only asked to delete them.
    Retire {
        in_time: bool,
    },
    /// Time passes, in hours.
    Pass(u16),
    /// The time of day jumps, in hours.
    Jump(i32),
    /// The follower reads on.
    Follow {
        bytes: usize,
    },
    Close,
    Crash(Crash),
    /// Trouble waits for an I/O.
    Plan(Plan),
    /// So much is left on the disk, in KiB.
    Fill(u64),
    Free,
    Backup {
        place: u8,
        keep: usize,
    },
    /// Up to a part, in 256ths, or all.
    Restore {
        from: From,
        until: Option<u8>,
    },
    /// Snapshots are caches: they may go.
    LoseSnapshots,
}

fn asked() -> impl Strategy<Value = Asked> {
    let how = prop_oneof![
        4 => Just(How::Plain),
        5 => (0..3_usize).prop_map(How::Again),
        2 => (0..4_u8).prop_map(How::Key),
        5 => Just(How::Next),
        1 => (1..3_u64).prop_map(How::Skipping),
        2 => (1..11_u64).prop_map(How::Back),
        1 => Just(How::NewEpoch),
        1 => Just(How::OldEpoch),
    ];
    let one_in = |times: u32| prop::bool::weighted(1.0 / f64::from(times));
    let flags = (one_in(3), one_in(3), one_in(4), one_in(5));
    (0..2_usize, how, vec(said(), 0..5), flags).prop_map(
        |(caller, how, said, (record, must_be_new, hurried, gone))| Asked {
            caller,
            how,
            said,
            record,
            must_be_new,
            hurried,
            waits: !gone,
        },
    )
}

fn crash(padded: bool) -> impl Strategy<Value = Crash> {
    let seed = 0..1000_u64;
    prop_oneof![
        Just(Crash::LoseAll),
        seed.clone().prop_map(|seed| Crash::Kill { seed }),
        (seed, any::<bool>()).prop_map(move |(seed, torn)| Crash::PowerLoss {
            seed,
            torn_blocks: torn && padded,
        }),
    ]
}

fn plan(setup: Setup) -> impl Strategy<Value = Plan> {
    let who = prop_oneof![
        4 => Just(Who::Writer),
        1 => Just(Who::Ahead),
        2 => Just(Who::Compactor),
        2 => Just(Who::Caller),
        1 => Just(Who::Anybody),
    ];
    let mut faults = vec![Fault::Io, Fault::ShortWrite, Fault::LosingSync];
    if setup.may_fill {
        faults.push(Fault::Full);
    }
    let trouble = prop_oneof![
        3 => crash(setup.padded).prop_map(Trouble::Crash),
        2 => prop::sample::select(faults).prop_map(Trouble::Fault),
    ];
    let after = prop_oneof![4 => 0..8_u16, 2 => 0..40_u16];
    (who, after, trouble).prop_map(|(who, after, trouble)| Plan {
        who,
        after,
        trouble,
    })
}

fn act(setup: Setup) -> BoxedStrategy<Act> {
    let from = prop_oneof![
        1 => Just(From::Itself),
        2 => (0..8_usize).prop_map(From::Backup),
    ];
    let until = prop_oneof![1 => Just(None), 3 => any::<u8>().prop_map(Some)];
    let space = if setup.may_fill {
        prop_oneof![2 => (0..9_000_u64).prop_map(Act::Fill), 1 => Just(Act::Free)].boxed()
    } else {
        Just(Act::Free).boxed()
    };
    prop_oneof![
        14 => vec(asked(), 1..4).prop_map(Act::Calls),
        2 => Just(Act::Seal),
        4 => any::<bool>().prop_map(|all| Act::Compact { all }),
        2 => any::<bool>().prop_map(|in_time| Act::Retire { in_time }),
        1 => (1..30_u16).prop_map(Act::Pass),
        2 => (-9000..9000_i32).prop_map(Act::Jump),
        3 => (1..50_000_usize).prop_map(|bytes| Act::Follow { bytes }),
        2 => Just(Act::Close),
        2 => crash(setup.padded).prop_map(Act::Crash),
        5 => plan(setup).prop_map(Act::Plan),
        3 => space,
        2 => (0..2_u8, 1..4_usize).prop_map(|(place, keep)| Act::Backup { place, keep }),
        2 => (from, until).prop_map(|(from, until)| Act::Restore { from, until }),
        1 => Just(Act::LoseSnapshots),
    ]
    .boxed()
}

/// What generates acts: they depend on how the log is set up, and on nothing else.
#[derive(Debug)]
pub(super) struct Acts;

impl ReferenceStateMachine for Acts {
    type State = Setup;
    type Transition = Act;

    fn init_state() -> BoxedStrategy<Setup> {
        let window = prop_oneof![
            Just((1000, true)),
            (0..12_usize).prop_map(|few| (few, false))
        ];
        (window, any::<bool>())
            .prop_map(|((window, may_fill), padded)| Setup {
                window,
                padded,
                may_fill,
            })
            .boxed()
    }

    fn transitions(setup: &Setup) -> BoxedStrategy<Act> {
        act(*setup)
    }

    fn apply(setup: Setup, _: &Act) -> Setup {
        setup
    }
}
