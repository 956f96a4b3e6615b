//! What the log is said to be, as plainly as can be: a `Vec` of events, a `Vec` of numbered calls, and rules that look
//! through both.
//!
//! A call whose outcome nobody was told may be there or not. So there are several worlds at times: each says what the log
//! would hold and answer if this or that had come to be. What is answered and read later shows which it was. When no
//! world is left, the log has broken a rule.

use std::rc::Rc;

use modelog_engine::event::{Event, Fact};
use modelog_engine::origin::Source;
use modelog_engine::{
    AppendError, AppendOptions, Appended, Offset, OnBacklog, OnConflict, OnCreate,
};

/// How many answers to a producer are remembered.
const ANSWERS: usize = 8;

/// A call as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Which of all calls of the case it is.
    pub(super) serial: u32,
    pub(super) source: Option<Source>,
    pub(super) events: Vec<Event>,
    pub(super) options: AppendOptions,
}

/// What the caller was told; nothing if it did not wait for it.
pub(super) type Answer = Option<Result<Appended, AppendError>>;

/// An event in the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    /// Which call put it there: equal in two histories if they have it in common.
    pub(super) by: (u32, u32),
    event: Event,
    /// It is recorded as rejected: an event with its id was there before, at an offset or in the same call.
    rejected: Option<Option<Offset>>,
    /// Its number among those with an id; rejected ones have none.
    identity: Option<usize>,
}

impl Stored {
    fn is(&self, found: &Event) -> bool {
        let Some(existing) = self.rejected else {
            return self.event == *found;
        };
        let Fact::EventRejected(fact) = &found.fact else {
            return false;
        };
        let before = match existing {
            Some(offset) => format!("is at offset {offset}"),
            None => "came in the same call".to_owned(),
        };
        let raw = String::from_utf8_lossy(fact.raw.as_deref().unwrap_or_default());
        let id = format!("\"id\":{:?}", self.event.id.as_deref().unwrap_or_default());
        let message = format!("an event with the same id but other content {before}");
        fact.reason == "id_conflict"
            && fact.message == Some(message)
            && raw.contains(&id)
            && fact.raw_bytes == Some(raw.len() as i64)
    }
}

/// A call that can be told from others, and its answer.
#[derive(Clone, Debug, PartialEq)]
struct Noted {
    source: Source,
    first: usize,
    rows: usize,
    answer: Appended,
    /// It brought nothing, and may have been forgotten.
    perhaps: bool,
}

impl Noted {
    /// Whether it is a call without events, known by its key. Where only Parquet files tell of the time, there is none.
    fn is_slight(&self) -> bool {
        self.rows == 0 && matches!(self.source, Source::Call { .. })
    }
}

/// One way things may be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct World {
    pub(super) stored: Vec<Rc<Stored>>,
    noted: Vec<Noted>,
    /// How many identities are remembered.
    window: usize,
}

/// What becomes of an event of a call.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Kept,
    Duplicate,
    Rejected(Option<Offset>),
}

impl World {
    pub(super) fn new(window: usize) -> Self {
        Self {
            stored: Vec::new(),
            noted: Vec::new(),
            window,
        }
    }

    pub(super) fn end(&self) -> Offset {
        Offset(self.stored.len() as u64)
    }

    /// Whether this is what was read.
    pub(super) fn is(&self, found: &[Event]) -> bool {
        self.stored.len() == found.len() && self.begins(found)
    }

    /// Whether it begins so.
    pub(super) fn begins(&self, found: &[Event]) -> bool {
        self.stored.len() >= found.len()
            && self
                .stored
                .iter()
                .zip(found)
                .all(|(known, found)| known.is(found))
    }

    fn identities(&self) -> usize {
        let numbers = self.stored.iter().rev().find_map(|known| known.identity);
        numbers.map_or(0, |last| last + 1)
    }

    /// Where an event with this identity is, if that is remembered.
    fn remembered(&self, event: &Event) -> Option<(usize, &Stored)> {
        event.id.as_ref()?;
        let oldest = self.identities().saturating_sub(self.window);
        let mut known = self.stored.iter().enumerate().rev();
        let (at, known) = known
            .find(|(_, known)| known.identity.is_some() && same_identity(&known.event, event))?;
        (known.identity >= Some(oldest)).then_some((at, known))
    }

    /// What a call with this origin was answered before, or why it cannot be taken.
    fn before(&self, source: &Source) -> Result<Option<Appended>, AppendError> {
        match source {
            Source::Call { key, body } => {
                let is = |noted: &&Noted| matches!(&noted.source, Source::Call { key: known, .. } if known == key);
                match self.noted.iter().rev().find(is) {
                    Some(noted) if matches!(noted.source, Source::Call { body: known, .. } if known == *body) => {
                        Ok(Some(noted.answer))
                    }
                    Some(_) => Err(AppendError::KeyReused),
                    None => Ok(None),
                }
            }
            Source::Producer {
                id,
                epoch,
                sequence,
            } => {
                let of = |noted: &Noted| match &noted.source {
                    Source::Producer {
                        id: known,
                        epoch,
                        sequence,
                    } if known == id => Some((*epoch, *sequence, noted.answer)),
                    _ => None,
                };
                let known: Vec<_> = self
                    .noted
                    .iter()
                    .rev()
                    .filter_map(of)
                    .take(ANSWERS)
                    .collect();
                let Some((last_epoch, last, _)) = known.first().copied() else {
                    return Ok(None);
                };
                if *epoch > last_epoch || (*epoch == last_epoch && *sequence == last + 1) {
                    return Ok(None);
                }
                if *epoch == last_epoch && *sequence > last {
                    return Err(AppendError::SequenceGap {
                        producer: id.to_string(),
                        expected: last + 1,
                        found: *sequence,
                    });
                }
                let this = known
                    .iter()
                    .find(|known| (known.0, known.1) == (*epoch, *sequence));
                this.map(|known| Some(known.2))
                    .ok_or_else(|| AppendError::StaleProducer {
                        producer: id.to_string(),
                        epoch: last_epoch,
                        sequence: last,
                    })
            }
            Source::Kafka { .. } => Ok(None),
        }
    }

    /// Takes a call, or says why not.
    pub(super) fn take(&mut self, sent: &Sent) -> Result<Appended, AppendError> {
        let mut fates = within(sent)?;
        if let Some(source) = &sent.source
            && let Some(answer) = self.before(source)?
        {
            return Ok(answer);
        }
        let mut wait_for = Offset::ZERO;
        for (ord, event) in sent.events.iter().enumerate() {
            let Some((at, known)) = self.remembered(event).filter(|_| fates[ord] == Fate::Kept)
            else {
                continue;
            };
            let existing = Offset(at as u64);
            if known.event == *event {
                fates[ord] = Fate::Duplicate;
                wait_for = wait_for.max(existing.advance(1));
            } else if sent.options.id_conflict == OnConflict::Record {
                fates[ord] = Fate::Rejected(Some(existing));
            } else {
                return Err(AppendError::IdConflict {
                    ord: ord as u32,
                    event: event.kind(),
                    existing,
                });
            }
        }
        let known = wait_for > Offset::ZERO;
        if sent.options.create == OnCreate::Refuse
            && (self.find_created(sent, &mut fates)? || known)
        {
            // Where what is known of an entity was said is not kept: everything before now is waited for.
            wait_for = wait_for.max(self.end());
        }
        Ok(self.put(sent, &fates, wait_for))
    }

    /// Looks for entities that were created before; tells whether one is said again.
    fn find_created(&self, sent: &Sent, fates: &mut [Fate]) -> Result<bool, AppendError> {
        let mut again = false;
        // Kind by kind.
        for runs in [false, true] {
            for (ord, event) in sent.events.iter().enumerate() {
                let Some(stated) = stated(event) else {
                    continue;
                };
                if fates[ord] != Fate::Kept || matches!(event.fact, Fact::RunStarted(_)) != runs {
                    continue;
                }
                let Some(known) = self.known(&stated.entity) else {
                    continue;
                };
                let differing: Vec<_> = stated
                    .fields
                    .iter()
                    .filter(|field| !known.contains(field))
                    .map(|field| field.0)
                    .collect();
                if !differing.is_empty() {
                    return Err(AppendError::EntityConflict {
                        ord: ord as u32,
                        entity: stated.entity,
                        fields: differing,
                    });
                }
                fates[ord] = Fate::Duplicate;
                again = true;
            }
        }
        Ok(again)
    }

    /// What is known of an entity that was created.
    fn known(&self, entity: &str) -> Option<Vec<(&'static str, String)>> {
        let mut known: Option<Vec<(&'static str, String)>> = None;
        for stored in self
            .stored
            .iter()
            .filter(|stored| stored.rejected.is_none())
        {
            let Some(stated) = stated(&stored.event).filter(|stated| stated.entity == entity)
            else {
                continue;
            };
            let known = known.get_or_insert_default();
            for field in stated.fields {
                known.retain(|(name, _)| *name != field.0);
                known.push(field);
            }
        }
        known
    }

    fn put(&mut self, sent: &Sent, fates: &[Fate], wait_for: Offset) -> Appended {
        let first = self.stored.len();
        let (mut accepted, mut rejected, mut duplicates) = (0, 0, 0);
        let mut identity = self.identities();
        for (ord, (event, fate)) in sent.events.iter().zip(fates).enumerate() {
            let why = match fate {
                Fate::Duplicate => {
                    duplicates += 1;
                    continue;
                }
                Fate::Kept => None,
                Fate::Rejected(existing) => Some(*existing),
            };
            accepted += u32::from(why.is_none());
            rejected += u32::from(why.is_some());
            let identified = why.is_none() && event.id.is_some();
            self.stored.push(Rc::new(Stored {
                by: (sent.serial, ord as u32),
                event: event.clone(),
                rejected: why,
                identity: identified.then_some(identity),
            }));
            identity += usize::from(identified);
        }
        let rows = self.stored.len() - first;
        let queued = rows > 0 || sent.source.is_some();
        let answer = Appended {
            accepted,
            rejected,
            duplicates,
            first: (rows > 0).then_some(Offset(first as u64)),
            end: if queued {
                self.end().max(wait_for)
            } else {
                wait_for
            },
        };
        if let Some(source) = &sent.source {
            self.noted.push(Noted {
                source: source.clone(),
                first,
                rows,
                answer,
                perhaps: false,
            });
        }
        answer
    }

    /// The worlds in which this one was restored up to an offset. Calls of which a part lay behind are forgotten. Of those
    /// that brought nothing, those that stood right there may be forgotten, and all where only Parquet files tell of them.
    pub(super) fn cut(&self, end: Offset) -> Vec<Self> {
        let end = end.0 as usize;
        let mut cut = self.clone();
        cut.stored.truncate(end);
        cut.noted.retain(|noted| noted.first + noted.rows <= end);
        cut.reopen();
        let open = cut.noted.iter().rev();
        let open = open
            .take_while(|noted| noted.rows == 0 && noted.first == end)
            .count();
        let mut worlds = Vec::new();
        for kept in (cut.noted.len() - open..=cut.noted.len()).rev() {
            let mut world = cut.clone();
            world.noted.truncate(kept);
            worlds.push(world.clone());
            world.noted.retain(|noted| noted.rows > 0);
            worlds.push(world);
        }
        worlds
    }

    /// The log is opened again, perhaps without its snapshots.
    pub(super) fn reopen(&mut self) {
        for noted in self.noted.iter_mut().filter(|noted| noted.is_slight()) {
            noted.perhaps = true;
        }
    }

    /// This world, and if a call may have been forgotten, the one in which it was.
    fn with_and_without(self, sent: &Sent) -> Vec<Self> {
        let Some(Source::Call { key, .. }) = &sent.source else {
            return vec![self];
        };
        let mut without = self.clone();
        without.noted.retain(|noted| {
            !(noted.perhaps
                && matches!(&noted.source, Source::Call { key: known, .. } if known == key))
        });
        if without.noted.len() == self.noted.len() {
            vec![self]
        } else {
            vec![self, without]
        }
    }
}

fn same_identity(one: &Event, other: &Event) -> bool {
    one.kind() == other.kind() && one.id == other.id
}

/// What becomes of events that repeat others of their call.
fn within(sent: &Sent) -> Result<Vec<Fate>, AppendError> {
    let mut fates = Vec::new();
    for (ord, event) in sent.events.iter().enumerate() {
        let before = sent.events[..ord]
            .iter()
            .position(|before| event.id.is_some() && same_identity(before, event));
        fates.push(match before {
            None => Fate::Kept,
            Some(first) if sent.events[first] == *event => Fate::Duplicate,
            Some(_) if sent.options.id_conflict == OnConflict::Record => Fate::Rejected(None),
            Some(first) => {
                return Err(AppendError::RepeatedId {
                    first: first as u32,
                    ord: ord as u32,
                });
            }
        });
    }
    Ok(fates)
}

struct Statement {
    entity: String,
    fields: Vec<(&'static str, String)>,
}

/// What an event that creates an entity says of it, by column.
fn stated(event: &Event) -> Option<Statement> {
    let field = |name, value: &Option<String>| value.clone().map(|value| (name, value));
    match &event.fact {
        Fact::ModelCreated(fact) => Some(Statement {
            entity: format!("model {:?}", fact.model),
            fields: [
                field("framework", &fact.framework),
                field("description", &fact.description),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }),
        Fact::RunStarted(fact) => Some(Statement {
            entity: format!("run {:?}", fact.run),
            fields: [field("model", &fact.model), field("version", &fact.version)]
                .into_iter()
                .flatten()
                .collect(),
        }),
        _ => None,
    }
}

/// What may go wrong without being wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowed {
    /// The disk may be full.
    pub(super) full: bool,
    /// Something failed: whatever is under way may fail, with an outcome known or not.
    pub(super) failure: bool,
}

/// All the ways things may be.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    pub(super) worlds: Vec<World>,
}

impl Oracle {
    pub(super) fn new(window: usize) -> Self {
        Self {
            worlds: vec![World::new(window)],
        }
    }

    /// Takes calls that were under way together, and what they were answered. They were admitted in this order, or in
    /// another one if calls had to wait for room.
    pub(super) fn round(&mut self, sent: &[Sent], answers: &[Answer], allowed: Allowed) {
        let orders = orders(sent.len());
        for order in &orders {
            let mut found = Vec::new();
            for world in &self.worlds {
                let pass = Pass {
                    sent,
                    answers,
                    order,
                    allowed,
                };
                pass.follow(world.clone(), 0, false, &mut found);
            }
            if !found.is_empty() {
                self.settle(found);
                return;
            }
        }
        let mut text = String::new();
        for (at, world) in self.worlds.iter().enumerate() {
            let mut world = world.clone();
            for (sent, answer) in sent.iter().zip(answers) {
                let expected = world.take(sent);
                text.push_str(&format!(
                    "\nworld {at}: {answer:?}, expected {expected:?} to {sent:?}"
                ));
            }
        }
        panic!("no order of these calls explains their answers ({allowed:?}):{text}");
    }

    /// The log is opened again.
    pub(super) fn reopen(&mut self) {
        self.worlds.iter_mut().for_each(World::reopen);
    }

    /// Keeps the worlds that are what was read.
    pub(super) fn read(&mut self, found: &[Event]) {
        let fitting: Vec<_> = self
            .worlds
            .iter()
            .filter(|world| world.is(found))
            .cloned()
            .collect();
        if fitting.is_empty() {
            let ends: Vec<_> = self.worlds.iter().map(World::end).collect();
            let differs = self.worlds[0]
                .stored
                .iter()
                .zip(found)
                .position(|(known, found)| !known.is(found));
            panic!(
                "the log holds {} events, it may end at {ends:?}; the first that differs is {differs:?}: {:?}",
                found.len(),
                differs.map(|at| (&found[at], &self.worlds[0].stored[at])),
            );
        }
        self.worlds = fitting;
    }

    pub(super) fn settle(&mut self, mut worlds: Vec<World>) {
        let mut distinct: Vec<World> = Vec::new();
        for world in worlds.drain(..) {
            if !distinct.contains(&world) {
                distinct.push(world);
            }
        }
        self.worlds = distinct;
    }
}

/// All orders of so many calls, the given one first.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).rev().map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, next);
                    order
                })
            })
            .collect();
    }
    orders
}

/// Calls in an order of admission.
struct Pass<'a> {
    sent: &'a [Sent],
    answers: &'a [Answer],
    order: &'a [usize],
    allowed: Allowed,
}

impl Pass<'_> {
    /// Collects the worlds in which the calls from `at` on are answered so. Once something admitted is lost, so is
    /// everything behind it.
    fn follow(&self, before: World, at: usize, lost: bool, found: &mut Vec<World>) {
        match self.order.get(at).copied() {
            None => found.push(before),
            Some(number) => before
                .with_and_without(&self.sent[number])
                .into_iter()
                .for_each(|before| self.call(before, number, (at, lost), found)),
        }
    }

    fn call(
        &self,
        before: World,
        number: usize,
        (at, lost): (usize, bool),
        found: &mut Vec<World>,
    ) {
        let sent = &self.sent[number];
        let mut after = before.clone();
        let expected = after.take(sent);
        let changed = after != before;
        match &self.answers[number] {
            Some(Ok(answer)) => {
                if expected.as_ref() == Ok(answer) && !(lost && changed) {
                    self.follow(after, at + 1, lost, found);
                }
            }
            Some(Err(error)) if self.is_unknown(error) => {
                if changed && !lost {
                    self.follow(after, at + 1, false, found);
                }
                self.follow(before, at + 1, lost || changed, found);
            }
            Some(Err(error)) => {
                if self.may_fail(sent, at, error)
                    || expected
                        .err()
                        .is_some_and(|expected| is_alike(&expected, error))
                {
                    self.follow(before, at + 1, lost, found);
                }
            }
            // It did not wait: it is there if it was admitted, and it was if nothing was in its way.
            None => {
                if changed && !lost {
                    self.follow(after, at + 1, false, found);
                }
                if at > 0 || !changed || self.allowed != Allowed::default() {
                    self.follow(before, at + 1, lost, found);
                }
            }
        }
    }

    fn is_unknown(&self, error: &AppendError) -> bool {
        matches!(error, AppendError::OutcomeUnknown { .. })
            && (self.allowed.failure || self.allowed.full)
    }

    /// Whether a call may be refused so for reasons that are not its own; it is not applied then.
    fn may_fail(&self, sent: &Sent, at: usize, error: &AppendError) -> bool {
        let Allowed { full, failure } = self.allowed;
        match error {
            AppendError::Backlog { .. } => at > 0 && sent.options.backlog == OnBacklog::Refuse,
            AppendError::DiskFull => full || failure,
            AppendError::Poisoned { .. } | AppendError::Closed => full || failure,
            _ => false,
        }
    }
}

/// Whether these say the same; of several repeated ids any may be named.
fn is_alike(one: &AppendError, other: &AppendError) -> bool {
    let repeated = |error: &AppendError| matches!(error, AppendError::RepeatedId { .. });
    one == other || (repeated(one) && repeated(other))
}
