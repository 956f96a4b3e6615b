//! The live join of predictions and feedback: a window of the newest predictions, by count.
//!
//! What leaves the window is decided by the log alone (the oldest entry, once there are too many), so a fold that is
//! repeated comes to the same counts. Stores with tables join without bound.

use hashbrown::{HashMap, HashTable};

use super::version::{LabelFacts, VersionStatistics};
use crate::log::{Malformed, Reader, put_u32, put_u64};
use crate::names::EntityId;
use crate::{Offset, Timestamp};

/// What an entry takes in a snapshot at least: both hashes, the version, the flags, and three values that are absent.
const ENTRY_BYTES_MIN: usize = 8 + 8 + 4 + 1 + 3;

/// A prediction, or feedback that waits for one. Most predictions have no feedback while they are in the window, so
/// what it says lies apart: an entry fits a cache line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Hash of the prediction id.
    id: u64,
    /// Hash of the model's name; 0 where feedback does not tell.
    pub(super) model: u64,
    /// The version it counts for; 0 if unknown.
    pub(super) version: EntityId,
    /// The prediction itself was logged.
    pub(super) seen: bool,
    /// Its output or error has arrived, and was counted.
    pub(super) counted: bool,
    /// Hash of the predicted class.
    pub(super) class: Option<u64>,
    pub(super) value: Option<f64>,
    pub(super) answer: Option<Box<Answer>>,
}

/// Feedback on a prediction, and what was counted of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) feedback: Feedback,
    /// What was counted, and for which version.
    pub(super) label: Option<(EntityId, LabelFacts)>,
}

/// The latest feedback on a prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Feedback {
    pub(super) time: Timestamp,
    pub(super) offset: Offset,
    pub(super) correct: Option<bool>,
    pub(super) class: Option<u64>,
    pub(super) value: Option<f64>,
}

impl Entry {
    fn new(id: u64, model: u64) -> Self {
        Self {
            id,
            model,
            version: 0,
            seen: false,
            counted: false,
            class: None,
            value: None,
            answer: None,
        }
    }

    /// What the feedback says of the prediction as far as both are known.
    pub(super) fn compare(&self) -> Option<(EntityId, LabelFacts)> {
        let feedback = self.answer.as_ref().filter(|_| self.version != 0)?.feedback;
        let classes = (self.class, feedback.class);
        Some((
            self.version,
            LabelFacts::compare(feedback.correct, classes, (self.value, feedback.value)),
        ))
    }
}

/// The newest predictions, each with a serial number; one that comes takes the place of the one that leaves.
#[derive(Debug)]
pub(super) struct Window {
    /// In the order of their serial numbers, from `head` on and then from the beginning.
    ring: Vec<Entry>,
    /// The place of the oldest.
    head: usize,
    /// The serial number of the oldest.
    first: u64,
    /// Serial numbers of entries, hashed by prediction id.
    index: HashTable<u64>,
    capacity: usize,
}

impl Window {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            ring: Vec::new(),
            head: 0,
            first: 0,
            index: HashTable::new(),
            capacity: capacity.max(1),
        }
    }

    /// The entry of a prediction, new if need be. A model of 0 stands for any; an entry without a model is anyone's.
    pub(super) fn entry(&mut self, id: u64, model: u64) -> &mut Entry {
        let (ring, head, first) = (&self.ring, self.head, self.first);
        let fits = |serial: &u64| {
            let entry = &ring[place(ring.len(), head, serial - first)];
            entry.id == id && (entry.model == model || model == 0 || entry.model == 0)
        };
        let at = match self.index.find(id, fits) {
            Some(serial) => place(ring.len(), head, serial - first),
            None => self.push(Entry::new(id, model)),
        };
        let entry = &mut self.ring[at];
        if entry.model == 0 {
            entry.model = model;
        }
        entry
    }

    /// Brings what is needed for predictions with these ids close: what the processor fetches for one it fetches for all
    /// of them at once, while one after the other each would wait for the memory.
    pub(super) fn approach(&self, ids: &[u64]) {
        let mut seen = 0;
        let mut look = |id: u64| {
            // It reads where the entry would be noted, and finds nothing.
            let _ = self.index.find(id, |serial| {
                seen ^= *serial;
                false
            });
        };
        ids.iter().for_each(|id| look(*id));
        if self.ring.len() == self.capacity {
            let leaving = self.ring[self.head..].iter().chain(&self.ring);
            leaving.take(ids.len()).for_each(|entry| look(entry.id));
        }
        std::hint::black_box(seen);
    }

    /// Adds an entry, in the place of the oldest once there are as many as there may be. Answers its place.
    fn push(&mut self, entry: Entry) -> usize {
        let (id, serial) = (entry.id, self.first + self.ring.len() as u64);
        let at = if self.ring.len() < self.capacity {
            self.ring.push(entry);
            self.ring.len() - 1
        } else {
            let oldest = std::mem::replace(&mut self.ring[self.head], entry);
            let serial = self.first;
            if let Ok(found) = self.index.find_entry(oldest.id, |known| *known == serial) {
                found.remove();
            }
            let at = self.head;
            self.first += 1;
            self.head = place(self.capacity, at, 1);
            at
        };
        let (ring, head, first) = (&self.ring, self.head, self.first);
        self.index.insert_unique(id, serial, |serial| {
            ring[place(ring.len(), head, serial - first)].id
        });
        at
    }

    /// The highest number of a version that an entry counts for.
    pub(super) fn highest_version(&self) -> EntityId {
        self.ring
            .iter()
            .map(|entry| entry.version)
            .max()
            .unwrap_or(0)
    }

    /// Whether everything that its entries may take back was counted (T3), in what `counted` answers for a version.
    pub(super) fn is_consistent<'s>(
        &self,
        feedback_unmatched: u64,
        counted: impl Fn(EntityId) -> Option<&'s VersionStatistics>,
    ) -> bool {
        let mut unmatched = 0;
        let mut labels: HashMap<EntityId, [u64; 3]> = HashMap::new();
        for entry in &self.ring {
            let answer = entry.answer.as_deref();
            unmatched += u64::from(!entry.seen && answer.is_some());
            if let Some((version, label)) = answer.and_then(|answer| answer.label) {
                let [labelled, correct, valued] = labels.entry(version).or_default();
                *labelled += u64::from(label.correct.is_some());
                *correct += u64::from(label.correct == Some(true));
                *valued += u64::from(label.value_error.is_some());
            }
        }
        let covered = |(version, labels): (EntityId, [u64; 3])| {
            let counted = counted(version).map(VersionStatistics::labels);
            counted.is_some_and(|counted| (0..3).all(|at| labels[at] <= counted[at]))
        };
        unmatched <= feedback_unmatched && labels.into_iter().all(covered)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_u32(out, self.ring.len() as u32);
        let (later, earlier) = self.ring.split_at(self.head);
        for entry in earlier.iter().chain(later) {
            put_u64(out, entry.id);
            put_u64(out, entry.model);
            put_u32(out, entry.version);
            out.push(u8::from(entry.seen) | u8::from(entry.counted) << 1);
            put_option(out, entry.class);
            put_option(out, entry.value.map(f64::to_bits));
            out.push(entry.answer.is_some().into());
            let Some(Answer { feedback, label }) = entry.answer.as_deref() else {
                continue;
            };
            put_u64(out, feedback.time.micros() as u64);
            put_u64(out, feedback.offset.0);
            put_bool(out, feedback.correct);
            put_option(out, feedback.class);
            put_option(out, feedback.value.map(f64::to_bits));
            out.push(label.is_some().into());
            if let Some((version, label)) = label {
                put_u32(out, *version);
                put_bool(out, label.correct);
                put_option(out, label.value_error.map(f64::to_bits));
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, capacity: usize) -> Result<Self, Malformed> {
        let mut window = Self::new(capacity);
        for _ in 0..reader.count(ENTRY_BYTES_MIN)? {
            let mut entry = Entry::new(reader.u64()?, reader.u64()?);
            entry.version = reader.u32()?;
            let flags = reader.u8()?;
            (entry.seen, entry.counted) = (flags & 1 != 0, flags & 2 != 0);
            entry.class = get_option(reader)?;
            entry.value = get_option(reader)?.map(f64::from_bits);
            if reader.u8()? == 1 {
                entry.answer = Some(Box::new(read_answer(reader)?));
            }
            let _ = window.push(entry);
        }
        Ok(window)
    }
}

/// The place in a ring that is so far behind the oldest entry.
#[inline]
fn place(len: usize, head: usize, behind: u64) -> usize {
    let at = head + behind as usize;
    if at >= len { at - len } else { at }
}

fn read_answer(reader: &mut Reader<'_>) -> Result<Answer, Malformed> {
    let feedback = Feedback {
        time: Timestamp::from_micros(reader.u64()? as i64),
        offset: Offset(reader.u64()?),
        correct: get_bool(reader)?,
        class: get_option(reader)?,
        value: get_option(reader)?.map(f64::from_bits),
    };
    let label = if reader.u8()? == 1 {
        let version = reader.u32()?;
        let correct = get_bool(reader)?;
        let value_error = get_option(reader)?.map(f64::from_bits);
        Some((
            version,
            LabelFacts {
                correct,
                value_error,
            },
        ))
    } else {
        None
    };
    Ok(Answer { feedback, label })
}

fn put_option(out: &mut Vec<u8>, value: Option<u64>) {
    out.push(value.is_some().into());
    if let Some(value) = value {
        put_u64(out, value);
    }
}

fn get_option(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    if reader.u8()? == 0 {
        Ok(None)
    } else {
        reader.u64().map(Some)
    }
}

fn put_bool(out: &mut Vec<u8>, value: Option<bool>) {
    out.push(value.map_or(2, u8::from));
}

fn get_bool(reader: &mut Reader<'_>) -> Result<Option<bool>, Malformed> {
    match reader.u8()? {
        0 => Ok(Some(false)),
        1 => Ok(Some(true)),
        2 => Ok(None),
        _ => Err(Malformed),
    }
}
