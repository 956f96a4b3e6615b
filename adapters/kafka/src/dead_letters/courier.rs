//! The thread that a clerk works on: what librdkafka does about transactions blocks, and the runtime's threads must not.
//!
//! The thread ends when nobody has work for it any more. Nobody waits for that: brokers may be away.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use modelog_engine::Checkpoint;
use tokio::sync::oneshot;

use super::clerk::{Clerk, Orders};
use super::failure::Failure;

/// How often a clerk without work looks around.
const IDLE_TIME: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Clerk) + Send>;
type Opened = Result<Option<Checkpoint>, Failure>;

/// A clerk at work.
#[derive(Debug)]
pub(super) struct Courier {
    jobs: Sender<Job>,
    /// Why the clerk gave up while there was nothing to do.
    given_up: oneshot::Receiver<Failure>,
}

impl Courier {
    /// Has a clerk take over; answers how far letters were sent.
    pub(super) async fn open(orders: Orders) -> Result<(Self, Option<Checkpoint>), Failure> {
        let (jobs, received) = channel();
        let (opened, open) = oneshot::channel();
        let (give_up, given_up) = oneshot::channel();
        std::thread::Builder::new()
            .name("modelog-dead-letters".into())
            .spawn(move || work(orders, opened, &received, give_up))
            .map_err(Failure::Thread)?;
        let checkpoint = open.await.unwrap_or(Err(Failure::Ended))?;
        Ok((Self { jobs, given_up }, checkpoint))
    }

    /// Has the clerk do something.
    pub(super) async fn run(
        &mut self,
        job: impl FnOnce(&mut Clerk) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |clerk| {
            // Nobody may be waiting any more.
            let _ = done.send(job(clerk));
        });
        if self.jobs.send(job).is_err() {
            return Err(self.given_up().await);
        }
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.given_up().await),
        }
    }

    /// Waits until the clerk gives up by itself.
    pub(super) async fn given_up(&mut self) -> Failure {
        (&mut self.given_up).await.unwrap_or(Failure::Ended)
    }
}

fn work(
    orders: Orders,
    opened: oneshot::Sender<Opened>,
    jobs: &Receiver<Job>,
    give_up: oneshot::Sender<Failure>,
) {
    let mut clerk = match Clerk::open(orders) {
        Ok((clerk, checkpoint)) => {
            // Nobody may be waiting any more; then there are no jobs either.
            let _ = opened.send(Ok(checkpoint));
            clerk
        }
        Err(failure) => {
            let _ = opened.send(Err(failure));
            return;
        }
    };
    loop {
        match jobs.recv_timeout(IDLE_TIME) {
            Ok(job) => job(&mut clerk),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                if let Err(failure) = clerk.idle() {
                    let _ = give_up.send(failure);
                    return;
                }
            }
        }
    }
}
