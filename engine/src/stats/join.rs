//! The live join of predictions and feedback: a window of the newest predictions, by count.
//!
//! What leaves the window is decided by the log alone (the oldest entry, once there are too many), so a fold that is
//! repeated comes to the same counts. Stores with tables join without bound.

use std::collections::VecDeque;

use hashbrown::{HashTable, hash_table};

use super::version::LabelFacts;
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

/// The newest predictions.
#[derive(Debug)]
pub(super) struct Window {
    ring: VecDeque<Entry>,
    /// Serial numbers of entries, hashed by prediction id.
    index: HashTable<u64>,
    first: u64,
    capacity: usize,
}

impl Window {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            ring: VecDeque::new(),
            index: HashTable::new(),
            first: 0,
            capacity: capacity.max(1),
        }
    }

    /// The entry of a prediction, new if need be. A model of 0 stands for any; an entry without a model is anyone's.
    pub(super) fn entry(&mut self, id: u64, model: u64) -> &mut Entry {
        let (ring, first) = (&self.ring, self.first);
        let at = |serial: &u64| &ring[(*serial - first) as usize];
        let fits = |serial: &u64| {
            let entry = at(serial);
            entry.id == id && (entry.model == model || model == 0 || entry.model == 0)
        };
        let next = first + ring.len() as u64;
        // One look-up finds the entry or the place for it.
        let serial = match self.index.entry(id, fits, |serial| at(serial).id) {
            hash_table::Entry::Occupied(known) => *known.get(),
            hash_table::Entry::Vacant(place) => {
                place.insert(next);
                self.ring.push_back(Entry::new(id, model));
                self.evict();
                next
            }
        };
        let entry = &mut self.ring[(serial - self.first) as usize];
        if entry.model == 0 {
            entry.model = model;
        }
        entry
    }

    /// Lets the oldest entries go until there is room for no more than there may be.
    fn evict(&mut self) {
        while self.ring.len() > self.capacity {
            if let Some(oldest) = self.ring.pop_front() {
                let serial = self.first;
                if let Ok(found) = self.index.find_entry(oldest.id, |known| *known == serial) {
                    found.remove();
                }
                self.first += 1;
            }
        }
    }

    /// Puts back an entry of a snapshot.
    fn push(&mut self, entry: Entry) {
        let (id, serial) = (entry.id, self.first + self.ring.len() as u64);
        self.ring.push_back(entry);
        let (ring, first) = (&self.ring, self.first);
        self.index
            .insert_unique(id, serial, |serial| ring[(*serial - first) as usize].id);
        self.evict();
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_u32(out, self.ring.len() as u32);
        for entry in &self.ring {
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
            window.push(entry);
        }
        Ok(window)
    }
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
