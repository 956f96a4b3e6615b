//! The door to threads, locks, waiting and timers, simulated: threads take turns, and time passes when it is told to.
//!
//! It stands in the place of `engine/src/threads.rs`. Locks, channels and threads are shuttle's: each thread is a coroutine
//! on one thread of the machine, and at each operation the scheduler chooses who goes on. tokio's values need no
//! runtime, so they are the product's own, each operation behind a [`point`] at which others may go first. Timers
//! follow a clock of their own, which whoever simulates moves by [`time::advance_to`].
//!
//! # Invariants
//! D1. Between two points nothing else runs; so a value's guard, which is never held over one, is never waited for.
//! D2. Nothing here asks the machine for time or chance: what runs follows from the scheduler's choices.
//!
//! # Why not tokio's values as shuttle has them
//! Those are written anew: what would be tested is not what is run.

use std::future::Future;
use std::io;
use std::time::Duration;

pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, mpsc};
pub(crate) use shuttle::thread::JoinHandle;
pub(crate) use std::sync::PoisonError;

pub use shuttle::future::block_on;
pub(crate) use tokio::sync::TryAcquireError;

/// A moment at which the scheduler may let others go first.
pub fn point() {
    // While a failed run is unwound there is nobody to choose.
    if !std::thread::panicking() {
        shuttle::thread::yield_now();
    }
}

/// Starts a thread.
///
/// # Errors
/// None; the machine's threads can fail to start.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    shuttle::thread::Builder::new()
        .name(name.into())
        .spawn(body)
}

/// Starts a task; the run does not wait for its end.
pub(crate) fn spawn_task(task: impl Future<Output = ()> + Send + 'static) {
    drop(shuttle::future::spawn(task));
}

/// Holds this thread for some simulated time.
pub(crate) fn pause(time: Duration) {
    block_on(sleep(time));
}

/// Lets simulated time pass.
pub async fn sleep(time: Duration) {
    time::Sleep::until(time::now() + time).await;
}

/// What a future gives, unless it takes longer than that.
pub async fn timeout<F: Future>(patience: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut sleep = std::pin::pin!(sleep(patience));
    std::future::poll_fn(|context| {
        use std::task::Poll;
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        sleep.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Simulated time: it stands still until it is told to go on.
pub mod time {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    #[derive(Default)]
    struct Time {
        now: Duration,
        timers: BTreeMap<(Duration, u64), Waker>,
        next: u64,
        /// Who waits for a timer to be set.
        keeper: Option<Waker>,
    }

    thread_local! {
        // All threads of a run share the machine's thread.
        static TIME: RefCell<Time> = RefCell::default();
    }

    fn with<T>(look: impl FnOnce(&mut Time) -> T) -> T {
        TIME.with_borrow_mut(look)
    }

    /// Begins a run: it is the beginning of time, and nobody waits.
    pub fn reset() {
        with(|time| *time = Time::default());
    }

    /// The time since the run began.
    #[must_use]
    pub fn now() -> Duration {
        with(|time| time.now)
    }

    /// When the next timer is due.
    #[must_use]
    pub fn next_timer() -> Option<Duration> {
        with(|time| time.timers.keys().next().map(|(due, _)| *due))
    }

    /// Moves time on, never back, and wakes who waited for it.
    pub fn advance_to(to: Duration) {
        let due = with(|time| {
            time.now = time.now.max(to);
            let later = time.timers.split_off(&(time.now, u64::MAX));
            std::mem::replace(&mut time.timers, later)
        });
        due.into_values().for_each(Waker::wake);
    }

    /// Waits until somebody waits for time to pass.
    pub async fn wanted() {
        std::future::poll_fn(|context| {
            with(|time| {
                if time.timers.is_empty() {
                    time.keeper = Some(context.waker().clone());
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
        })
        .await;
    }

    /// Waits for a time.
    #[derive(Debug)]
    pub(super) struct Sleep {
        due: Duration,
        key: Option<(Duration, u64)>,
    }

    impl Sleep {
        pub(super) fn until(due: Duration) -> Self {
            Self { due, key: None }
        }
    }

    impl Future for Sleep {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let keeper = with(|time| {
                if let Some(key) = self.key.take() {
                    time.timers.remove(&key);
                }
                if time.now >= self.due {
                    return None;
                }
                let key = (self.due, time.next);
                time.next += 1;
                time.timers.insert(key, context.waker().clone());
                self.key = Some(key);
                Some(time.keeper.take())
            });
            match keeper {
                None => Poll::Ready(()),
                Some(keeper) => {
                    keeper.into_iter().for_each(Waker::wake);
                    Poll::Pending
                }
            }
        }
    }

    impl Drop for Sleep {
        fn drop(&mut self) {
            if let Some(key) = self.key.take() {
                with(|time| time.timers.remove(&key));
            }
        }
    }
}

/// tokio's value that is followed.
pub(crate) mod watch {
    use tokio::sync::watch::{self, Ref, error::RecvError};

    use super::point;

    #[derive(Debug)]
    pub(crate) struct Sender<T>(watch::Sender<T>);

    #[derive(Clone, Debug)]
    pub(crate) struct Receiver<T>(watch::Receiver<T>);

    impl<T> Sender<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(watch::Sender::new(value))
        }

        pub(crate) fn borrow(&self) -> Ref<'_, T> {
            point();
            self.0.borrow()
        }

        pub(crate) fn send_modify(&self, change: impl FnOnce(&mut T)) {
            point();
            self.0.send_modify(change);
        }

        pub(crate) fn subscribe(&self) -> Receiver<T> {
            point();
            Receiver(self.0.subscribe())
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn borrow(&self) -> Ref<'_, T> {
            point();
            self.0.borrow()
        }

        pub(crate) async fn wait_for(
            &mut self,
            decided: impl FnMut(&T) -> bool,
        ) -> Result<Ref<'_, T>, RecvError> {
            point();
            self.0.wait_for(decided).await
        }
    }
}

/// tokio's single answer.
pub(crate) mod oneshot {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::sync::oneshot::{self, error::RecvError};

    use super::point;

    #[derive(Debug)]
    pub(crate) struct Sender<T>(oneshot::Sender<T>);

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(oneshot::Receiver<T>);

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Sender(sender), Receiver(receiver))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(self, value: T) -> Result<(), T> {
            point();
            self.0.send(value)
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, RecvError>;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            point();
            Pin::new(&mut self.0).poll(context)
        }
    }
}

/// tokio's signal.
#[derive(Debug)]
pub(crate) struct Notify(tokio::sync::Notify);

impl Notify {
    pub(crate) fn new() -> Self {
        Self(tokio::sync::Notify::new())
    }

    pub(crate) fn notify_one(&self) {
        point();
        self.0.notify_one();
    }

    pub(crate) async fn notified(&self) {
        point();
        self.0.notified().await;
    }
}

/// tokio's budget.
#[derive(Debug)]
pub(crate) struct Semaphore(std::sync::Arc<tokio::sync::Semaphore>);

/// A part of it.
#[derive(Debug)]
pub(crate) struct OwnedSemaphorePermit {
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for OwnedSemaphorePermit {
    fn drop(&mut self) {
        point();
    }
}

impl Semaphore {
    pub(crate) fn new(permits: usize) -> Self {
        Self(std::sync::Arc::new(tokio::sync::Semaphore::new(permits)))
    }

    pub(crate) fn available_permits(&self) -> usize {
        point();
        self.0.available_permits()
    }

    pub(crate) async fn acquire_many_owned(
        self: std::sync::Arc<Self>,
        permits: u32,
    ) -> Result<OwnedSemaphorePermit, tokio::sync::AcquireError> {
        point();
        let budget = std::sync::Arc::clone(&self.0);
        let permit = budget.acquire_many_owned(permits).await?;
        Ok(OwnedSemaphorePermit { _permit: permit })
    }

    pub(crate) fn try_acquire_many_owned(
        self: std::sync::Arc<Self>,
        permits: u32,
    ) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        point();
        let permit = std::sync::Arc::clone(&self.0).try_acquire_many_owned(permits)?;
        Ok(OwnedSemaphorePermit { _permit: permit })
    }
}
