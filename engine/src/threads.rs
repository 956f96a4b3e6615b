//! The only door to threads, locks, waiting and timers.
//!
//! Everything here is the standard library's or tokio's own. The crate `engine/simulation` compiles the engine with another
//! module in this place (`simulated_threads`), whose threads take turns as a seed says and whose timers follow a
//! simulated clock: so the order in which things happen can be chosen, and had again.
//!
//! # Rules for the engine
//! T1. Whatever waits for another thread waits through this door; nothing spins.
//! T2. While the guard of one of tokio's values is held, nothing else of this door is used: simulated threads share one
//!     thread of the machine, which such a guard would block.
//! T3. Which of several things that are ready goes first is said (`biased`), not left to chance.

use std::future::Future;
use std::io;
use std::time::Duration;

pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, mpsc,
};
pub(crate) use std::thread::JoinHandle;

pub(crate) use pollster::block_on;
pub(crate) use tokio::sync::{
    Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch,
};

/// Starts a thread.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(body)
}

/// Starts a task of the tokio runtime this is called in.
pub(crate) fn spawn_task(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Holds this thread for some time.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Lets time pass.
pub(crate) async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// What a future gives, unless it takes longer than that.
pub(crate) async fn timeout<F: Future>(patience: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(patience, future).await.ok()
}
