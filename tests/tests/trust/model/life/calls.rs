//! Calls that are under way together, and what they come to.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use modelog_engine::batch::EventBatch;
use modelog_engine::event::Event;
use modelog_engine::origin::{Origin, Source};
use modelog_engine::{
    AppendError, AppendOptions, Appended, Engine, Offset, OnBacklog, OnConflict, OnCreate, chain,
};

use super::super::act::{Asked, How};
use super::super::checks;
use super::super::door::{Door, Trouble};
use super::super::oracle::{Answer, Sent};
use super::Life;

/// What is waited for at a time.
const WAIT: Duration = Duration::from_secs(1);
/// How often: what takes longer hangs.
const WAITS: u32 = 100_000;

/// Calls, and what they come to.
impl Life {
    fn resolve(&mut self, asked: &Asked) -> Sent {
        self.serial += 1;
        let serial = self.serial;
        let caller = &mut self.callers[asked.caller];
        if let (How::Again(back), false) = (asked.how, caller.sent.is_empty()) {
            let last = caller.sent.len() - 1;
            let again = &caller.sent[last - back % caller.sent.len()];
            return Sent {
                serial,
                ..again.clone()
            };
        }
        let events: Vec<Event> = asked.said.iter().map(|said| said.event()).collect();
        let numbered = |epoch, sequence| {
            Some(Source::Producer {
                id: Arc::clone(&caller.name),
                epoch,
                sequence,
            })
        };
        let (epoch, next) = (caller.epoch, caller.next);
        let source = match asked.how {
            How::Plain | How::Again(_) => None,
            How::Key(key) => Some(Source::Call {
                key: format!("key {key}").into(),
                body: body(&events),
            }),
            How::Next => numbered(epoch, next),
            How::Skipping(more) => numbered(epoch, next + more),
            How::Back(back) => numbered(epoch, next.saturating_sub(back)),
            How::NewEpoch => numbered(epoch + 1, 0),
            How::OldEpoch => numbered(epoch - 1, next),
        };
        let sent = Sent {
            serial,
            source,
            events,
            options: AppendOptions {
                backlog: if asked.hurried {
                    OnBacklog::Refuse
                } else {
                    OnBacklog::Wait
                },
                id_conflict: if asked.record {
                    OnConflict::Record
                } else {
                    OnConflict::Refuse
                },
                create: if asked.must_be_new {
                    OnCreate::Refuse
                } else {
                    OnCreate::Merge
                },
                ..AppendOptions::default()
            },
        };
        caller.sent.push(sent.clone());
        sent
    }

    /// What a caller makes of its answer.
    fn told(&mut self, sent: &Sent, answer: &Answer) {
        let taken = match answer {
            None | Some(Ok(_)) => true,
            Some(Err(error)) => !error.is_not_applied(),
        };
        if let (
            true,
            Some(Source::Producer {
                id,
                epoch,
                sequence,
            }),
        ) = (taken, &sent.source)
            && let Some(caller) = self.callers.iter_mut().find(|caller| caller.name == *id)
            && (*epoch, *sequence) >= (caller.epoch, caller.next)
        {
            (caller.epoch, caller.next) = (*epoch, sequence + 1);
        }
    }

    pub(super) fn calls(&mut self, asked: &[Asked]) {
        let mut sent: Vec<_> = asked.iter().map(|asked| self.resolve(asked)).collect();
        let waits: Vec<_> = asked.iter().map(|asked| asked.waits).collect();
        let engine = self.engine();
        let reader = self.follower.reader.take();
        let is_back = reader.is_some();
        let mut reader = reader.filter(|reader| reader.position() == engine.tail());
        let mut following = reader.as_mut().map(|reader| Box::pin(reader.next(1 << 20)));
        if let Some(next) = &mut following {
            assert!(
                poll(next.as_mut()).is_pending(),
                "there is nothing to follow"
            );
        }
        let before = engine.tail();
        let mut answers = under_way(&self.door, &engine, &sent, &waits);
        if waits.iter().any(|waits| !waits) || sent.is_empty() {
            // Behind a last call that is answered, everything is.
            self.serial += 1;
            let last = Sent {
                serial: self.serial,
                source: None,
                events: vec![checks::plain_event(self.serial)],
                options: AppendOptions::default(),
            };
            answers.extend(under_way(
                &self.door,
                &engine,
                std::slice::from_ref(&last),
                &[true],
            ));
            sent.push(last);
        }
        if let Some(next) = &mut following
            && engine.tail() > before
        {
            let found = poll(next.as_mut());
            let grown = matches!(&found, Poll::Ready(Ok(batches)) if !batches.is_empty());
            assert!(
                grown || self.door.disk.has_crashed(),
                "the tail has moved, and who follows is not told: {found:?}"
            );
        }
        drop(following);
        // It starts over from what it has noted.
        let from = Offset(self.follower.seen.len() as u64);
        self.follower.reader = is_back.then(|| engine.reader(from));
        drop(engine);
        let fired = self.door.fired();
        self.allowed.failure |= !fired.is_empty();
        self.oracle.round(&sent, &answers, self.allowed);
        for (sent, answer) in sent.iter().zip(&answers) {
            self.told(sent, answer);
        }
        self.fall(&fired);
    }

    /// Falls if that is what came.
    pub(super) fn fall(&mut self, fired: &[Trouble]) {
        for trouble in fired {
            if let Trouble::Crash(crash) = trouble
                && self.door.disk.has_crashed()
            {
                self.crash(*crash);
            }
        }
    }

    pub(super) fn follow(&mut self, bytes: usize) {
        self.place();
        if self.follower.reader.is_none() {
            self.come_back();
        }
        let world = &self.oracle.worlds[0];
        let Some(reader) = &mut self.follower.reader else {
            return;
        };
        let batches = match reader.read(bytes) {
            Ok(batches) => batches,
            Err(error) => {
                assert!(self.door.disk.has_crashed(), "{}", chain(&error));
                return;
            }
        };
        for batch in batches {
            for row in batch.in_order() {
                let at = row.offset().0 as usize;
                if at < self.follower.seen.len() {
                    continue;
                }
                assert_eq!(
                    at,
                    self.follower.seen.len(),
                    "it is shown everything, in order"
                );
                self.follower.seen.push(world.stored[at].by);
                self.follower.epoch = batch.epoch;
            }
        }
        assert_eq!(reader.position().0, self.follower.seen.len() as u64);
    }
}

/// A hash of what a call says.
fn body(events: &[Event]) -> u64 {
    let text = format!("{events:?}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    future.poll(&mut Context::from_waker(&waker))
}

/// An answer that may come.
enum Call<'a> {
    UnderWay(Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + 'a>>),
    Answered(Answer),
}

impl Call<'_> {
    fn poll(&mut self) -> bool {
        if let Self::UnderWay(future) = self
            && let Poll::Ready(answer) = poll(future.as_mut())
        {
            *self = Self::Answered(Some(answer));
        }
        matches!(self, Self::Answered(_))
    }
}

/// Makes calls so that they are admitted in their order and under way together: the writer has the first one and waits.
/// Those that do not wait for an answer go when all have been made.
fn under_way(door: &Door, engine: &Engine, sent: &[Sent], waits: &[bool]) -> Vec<Answer> {
    let held = door.hold();
    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut writing = false;
    for sent in sent {
        let mut batch = EventBatch::from_events(&sent.events).expect("its fields are legal");
        if let Some(source) = &sent.source {
            batch.add_origin(Origin::whole(source.clone()));
        }
        let mut call = Call::UnderWay(Box::pin(engine.append(batch, sent.options)));
        if !call.poll() && !writing {
            door.wait_for_writer(|| call.poll());
            writing = true;
        }
        calls.push(call);
    }
    for (call, waits) in calls.iter_mut().zip(waits) {
        if !waits && matches!(call, Call::UnderWay(_)) {
            *call = Call::Answered(None);
        }
    }
    drop(held);
    let mut rounds = 0;
    loop {
        let answered: Vec<_> = calls.iter_mut().map(Call::poll).collect();
        if answered.iter().all(|answered| *answered) {
            break;
        }
        // A wake-up that came in between is not lost: then this returns at once.
        std::thread::park_timeout(WAIT);
        rounds += 1;
        assert!(rounds < WAITS, "no answer comes");
    }
    calls
        .into_iter()
        .map(|call| match call {
            Call::Answered(answer) => answer,
            Call::UnderWay(_) => unreachable!("all are answered"),
        })
        .collect()
}
