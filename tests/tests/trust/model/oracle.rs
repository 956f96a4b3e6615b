//! What the log is said to be, as plainly as can be: a `Vec` of events, a `Vec` of numbered calls, and rules that look
//! through both.
//!
//! A call whose outcome nobody was told may be there or not. So there are several worlds at times: each says what the log
//! would hold and answer if this or that had come to be. What is answered and read later shows which it was. When no
//! world is left, the log has broken a rule.

mod worlds;

use std::rc::Rc;

use modelog_engine::event::{Event, Fact};
use modelog_engine::origin::Source;
use modelog_engine::{AppendError, AppendOptions, Appended, Offset, OnConflict, OnCreate};

pub(super) use worlds::{Allowed, Answer, Oracle};

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
