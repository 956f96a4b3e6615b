//! What an opening passes over makes no difference: the state is the one that all rows give.

use proptest::prelude::*;

use super::*;
use crate::log::snapshot;
use crate::log::state::State;

/// A call: of so many events, of these sorts in turn.
#[derive(Clone, Debug)]
struct Call {
    events: u64,
    sorts: Vec<Sort>,
    /// The log is closed, and a snapshot written, before it.
    close: bool,
}

#[derive(Clone, Copy, Debug)]
enum Sort {
    Known,
    Nameless,
    Creating,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let sort = prop_oneof![
        Just(vec![Sort::Known]),
        Just(vec![Sort::Nameless]),
        Just(vec![Sort::Known, Sort::Nameless]),
        Just(vec![Sort::Nameless, Sort::Known, Sort::Creating]),
        Just(vec![Sort::Creating]),
    ];
    let call =
        (1..100_u64, sort, prop::bool::weighted(0.1)).prop_map(|(events, sorts, close)| Call {
            events,
            sorts,
            close,
        });
    prop::collection::vec(call, 1..40)
}

fn event(sort: Sort, number: u64) -> Event {
    match sort {
        Sort::Known => prediction(number),
        Sort::Nameless => Event {
            id: None,
            ..prediction(number)
        },
        Sort::Creating => Event::from(ModelCreated {
            model: format!("model {}", number % 7),
            framework: Some("torch".into()),
            ..ModelCreated::default()
        })
        .with_id(format!("e{number}")),
    }
}

/// A state's bytes, the window aside; and what the window holds.
fn told(state: &mut State) -> (Vec<(u128, u64, Offset)>, Vec<u8>) {
    let seen = state.window.iter();
    let held = seen
        .map(|seen| (seen.key, seen.content, seen.offset))
        .collect();
    state.window.forget_from(Offset::ZERO);
    (held, snapshot::encode(state, LogId(uuid::Uuid::nil()), 1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_opening_finds_the_state_that_all_rows_give(
        calls in calls(),
        window in prop::sample::select(vec![0, 1, 30, 200, 10_000]),
        sealed in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let mut config = config(&data);
        config.log.dedupe_window = window;
        config.log.segment_bytes = if sealed { 16 << 10 } else { 1 << 20 };
        let mut engine = Engine::open(config.clone()).unwrap();
        let mut numbers = 0..;
        for call in &calls {
            if call.close {
                close(engine);
                engine = Engine::open(config.clone()).unwrap();
            }
            let sorts = call.sorts.iter().cycle();
            let events: Vec<_> = sorts
                .zip(numbers.by_ref().take(call.events as usize))
                .map(|(sort, number)| event(*sort, number))
                .collect();
            append(&engine, &events).unwrap();
        }
        let killed = directory.path().join("killed");
        copy(&data, &killed);
        let mut plain = State::new(window);
        let mut reader = engine.reader(Offset::ZERO);
        while plain.next < engine.tail() {
            for batch in reader.read(1 << 20).unwrap() {
                prop_assert!(plain.fold(&batch));
            }
        }
        close(engine);

        let log = Log::open(&killed, config.log, parts()).unwrap();
        let opened = {
            let mut queue = log.shared.queue();
            prop_assert_eq!(queue.state.next, plain.next);
            told(&mut queue.state)
        };
        let (held, rest) = told(&mut plain);
        prop_assert_eq!(&opened.0, &held);
        prop_assert_eq!(&opened.1, &rest);
    }
}
