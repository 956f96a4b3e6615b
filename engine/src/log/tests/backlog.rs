//! How much may wait to be written.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};

use tokio::sync::{Semaphore, oneshot};

use crate::Offset;
use crate::batch::EventBatchBuilder;
use crate::log::item::{Content, Item, Waiter};
use crate::log::state::Changes;

/// A caller that looks, at the moment of its answer, how much room there is.
struct Caller {
    budget: Arc<Semaphore>,
    seen: AtomicUsize,
}

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        self.seen
            .store(self.budget.available_permits(), Ordering::Relaxed);
    }
}

/// One that sends one call after the other must never be told that its own last call is still waiting.
#[test]
fn a_caller_that_is_answered_has_its_room_back() {
    let budget = Arc::new(Semaphore::new(3));
    let (answer, receiver) = oneshot::channel();
    let waiter = Waiter {
        answer,
        permit: Some(Arc::clone(&budget).try_acquire_many_owned(3).unwrap()),
    };
    let content = Content::Built(EventBatchBuilder::new());
    let item = Item::new(Offset::ZERO, 0, 0, content, Changes::default(), waiter);
    let caller = Arc::new(Caller {
        budget: Arc::clone(&budget),
        seen: AtomicUsize::new(0),
    });
    let waker = Arc::clone(&caller).into();
    let mut receiver = pin!(receiver);
    let waiting = receiver.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(waiting.is_pending());
    item.answer(&Ok(()));
    assert_eq!(caller.seen.load(Ordering::Relaxed), 3);
}
