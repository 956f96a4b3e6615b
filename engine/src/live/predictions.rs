//! The newest predictions of each version, with the latest feedback on each.
//!
//! A prediction has the place (time, offset) of the first event about it; what comes later merges into it, and may move
//! it to another version. Predictions leave in the order of their offsets: of a version once it has more than its
//! window, of all together once they take more memory than they may. One that feedback has waited for in vain leaves as
//! it comes: whoever has kept the feedback answers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::left::{LeftIds, NotAwaited};
use super::packed::{Known, Packed, columns};
use crate::batch::{LoggedBatch, Table};
use crate::event::schema::{self, column};
use crate::event::{Json, Kind};
use crate::names::{EntityId, Names, Versions};
use crate::read::{Feedback, Prediction};
use crate::stats::LabelFacts;
use crate::{Offset, Timestamp};

/// How much feedback waits for its prediction.
pub(super) const WAITING_MAX: usize = 10_000;
/// What a prediction takes beside its fields, its id and its feedback: entries in four indices.
const OVERHEAD_BYTES: usize = 240;

/// The place of a prediction in the list of its version.
pub(super) type Place = (Timestamp, Offset);

/// All predictions that are kept, and all feedback that may still be needed.
#[derive(Debug)]
pub(super) struct Predictions {
    window: usize,
    bytes_max: usize,
    bytes: usize,
    /// By the offset of their first events, which is the order in which they leave.
    kept: BTreeMap<Offset, Kept>,
    /// Offsets of predictions, hashed by their ids.
    by_id: HashTable<Offset>,
    versions: HashMap<EntityId, Shelf>,
    /// Models of which predictions have left.
    models_left: HashSet<EntityId>,
    left_ids: LeftIds,
    waiting: Waiting,
}

/// A prediction that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) id: Box<str>,
    pub(super) model: EntityId,
    pub(super) version: EntityId,
    pub(super) time: Timestamp,
    /// More than its request was logged.
    pub(super) complete: bool,
    pub(super) fields: Packed,
    feedback: Option<Box<Given>>,
}

impl Kept {
    fn bytes(&self) -> usize {
        let feedback = self.feedback.as_ref().map_or(0, |given| given.bytes());
        OVERHEAD_BYTES + self.id.len() + self.fields.len() + feedback
    }

    /// What the latest feedback says of it, with what was given.
    pub(super) fn label(&self) -> Option<(&Given, LabelFacts)> {
        let given = self.feedback.as_deref()?;
        let facts = LabelFacts::compare(
            given.correct,
            (self.fields.predicted_class(), given.true_class.as_deref()),
            (self.fields.predicted_value(), given.true_value),
        );
        Some((given, facts))
    }

    pub(super) fn view(&self, offset: Offset, model: &str, version: &str) -> Prediction {
        self.fields.view(Known {
            id: &self.id,
            model,
            version,
            time: self.time,
            offset,
            feedback: self.label().map(|(given, facts)| given.view(facts)),
        })
    }
}

/// Feedback as it was given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    model: Option<EntityId>,
    time: Timestamp,
    offset: Offset,
    correct: Option<bool>,
    true_class: Option<Box<str>>,
    true_value: Option<f64>,
    label: Option<Box<str>>,
    score: Option<f64>,
    score_name: Option<Box<str>>,
    source: Option<Box<str>>,
}

impl Given {
    fn bytes(&self) -> usize {
        let texts = [
            &self.true_class,
            &self.label,
            &self.score_name,
            &self.source,
        ];
        let texts = texts.into_iter().flatten().map(|text| text.len());
        size_of::<Self>() + texts.sum::<usize>()
    }

    fn is_later_than(&self, other: &Self) -> bool {
        (self.time, self.offset) > (other.time, other.offset)
    }

    fn concerns(&self, model: EntityId) -> bool {
        self.model.is_none_or(|given| given == model)
    }

    fn view(&self, facts: LabelFacts) -> Feedback {
        let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        Feedback {
            true_class: owned(&self.true_class),
            true_value: self.true_value,
            correct: facts.correct,
            label: self.label.as_deref().map(Json::trusted),
            score: self.score,
            score_name: owned(&self.score_name),
            feedback_source: owned(&self.source),
            time: self.time,
            log_offset: self.offset,
        }
    }
}

/// The predictions of a version.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// In the order of lists.
    order: BTreeSet<Place>,
    /// In the order in which they leave.
    arrivals: BTreeSet<Offset>,
    /// The highest place of those that have left.
    left: Option<Place>,
}

impl Shelf {
    /// Whether everything from a time on is here.
    pub(super) fn has_all_from(&self, since: Option<Timestamp>) -> bool {
        self.left
            .is_none_or(|(time, _)| since.is_some_and(|since| since > time))
    }

    /// Places in the order of lists, newest first, behind a place; only those above everything that has left.
    pub(super) fn newest(&self, after: Option<Place>) -> impl Iterator<Item = Place> {
        let all = match after {
            Some(after) => self.order.range(..after),
            None => self.order.range::<Place, _>(..),
        };
        all.rev()
            .copied()
            .take_while(|place| self.left.is_none_or(|left| *place > left))
    }

    /// Whether some have left that would follow in a list.
    pub(super) fn is_cut(&self) -> bool {
        self.left.is_some()
    }

    /// Places from a time on, oldest first.
    pub(super) fn from(&self, since: Option<Timestamp>) -> impl Iterator<Item = Place> {
        let first = since.unwrap_or(Timestamp::from_micros(i64::MIN));
        self.order.range((first, Offset::ZERO)..).copied()
    }
}

/// Feedback that a prediction may still come for, the newest of it, by prediction id.
#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    order: VecDeque<(Offset, Box<str>)>,
    by_id: HashMap<Box<str>, Vec<Given>>,
    dropped: NotAwaited,
}

impl Waiting {
    fn add(&mut self, id: &str, given: Given, bytes_max: usize) {
        self.bytes += Self::size(id, &given);
        self.order.push_back((given.offset, id.into()));
        self.by_id.entry(id.into()).or_default().push(given);
        while (self.order.len() > WAITING_MAX || self.bytes > bytes_max)
            && let Some((offset, id)) = self.order.pop_front()
        {
            self.remove(offset, &id);
            self.dropped.add(&id);
        }
    }

    fn remove(&mut self, offset: Offset, id: &str) {
        let Some(all) = self.by_id.get_mut(id) else {
            return;
        };
        if let Some(at) = all.iter().position(|given| given.offset == offset) {
            self.bytes -= Self::size(id, &all.swap_remove(at));
        }
        if all.is_empty() {
            self.by_id.remove(id);
        }
    }

    fn size(id: &str, given: &Given) -> usize {
        given.bytes() + 2 * id.len()
    }

    /// The latest that concerns a model's prediction.
    fn latest(&self, model: EntityId, id: &str) -> Option<&Given> {
        let all = self.by_id.get(id)?.iter();
        all.filter(|given| given.concerns(model))
            .max_by_key(|given| (given.time, given.offset))
    }
}

impl Predictions {
    pub(super) fn new(window: usize, bytes_max: usize) -> Self {
        Self {
            window: window.max(1),
            bytes_max,
            bytes: 0,
            kept: BTreeMap::new(),
            by_id: HashTable::new(),
            versions: HashMap::new(),
            models_left: HashSet::new(),
            left_ids: LeftIds::default(),
            waiting: Waiting::default(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.waiting.bytes
    }

    /// Takes the predictions and feedback of a batch, in the order of the log, from an offset on.
    pub(super) fn apply(&mut self, batch: &LoggedBatch, done: Offset, names: &Names) {
        let predictions = batch.table(Kind::PredictionLogged);
        let feedback = batch.table(Kind::FeedbackLogged);
        let skip = done.since(batch.first_offset);
        let mut events = Events::new(batch, names, predictions);
        let rows = |table: Option<&Table>| table.map_or(0, Table::rows);
        let ord = |table: Option<&Table>, row| {
            let table = table.filter(|table| row < table.rows());
            table.map_or(u32::MAX, |table| table.ord(row))
        };
        let (mut prediction, mut answer) = (0, 0);
        while prediction < rows(predictions) || answer < rows(feedback) {
            let (a, b) = (ord(predictions, prediction), ord(feedback, answer));
            let is_new = u64::from(a.min(b)) >= skip;
            match (predictions, feedback) {
                (Some(table), _) if a < b => {
                    if is_new {
                        self.prediction(&mut events, table, prediction);
                    }
                    prediction += 1;
                }
                (_, Some(table)) => {
                    if is_new {
                        self.feedback(&events, table, answer);
                    }
                    answer += 1;
                }
                _ => return,
            }
        }
    }

    fn prediction<'a>(&mut self, events: &mut Events<'a>, table: &'a Table, row: usize) {
        const PART: usize = column(Kind::PredictionLogged, "part");
        let offset = events.offset(table, row);
        let Some((model, version)) = events.version(table, row) else {
            return;
        };
        let mut digits = String::new();
        let id = events.id(table, row, offset, &mut digits);
        let complete = table.text(PART).get(row) != Some("request");
        let fields = Packed::of(table, row, &events.columns);
        match self.find(model, id) {
            Some(known) => self.merge(known, version, complete, &fields),
            None if self.is_gone(model, id, version) => {}
            None => {
                let feedback = self.waiting.latest(model, id).cloned().map(Box::new);
                let lacks_feedback = self.waiting.dropped.contains(id);
                let kept = Kept {
                    id: id.into(),
                    model,
                    version,
                    time: events.time(table, row),
                    complete,
                    fields,
                    feedback,
                };
                if lacks_feedback {
                    self.has_left(offset, &kept);
                } else {
                    self.insert(offset, kept);
                }
            }
        }
        self.make_room();
    }

    fn feedback(&mut self, events: &Events<'_>, table: &Table, row: usize) {
        const ID: usize = column(Kind::FeedbackLogged, "prediction_id");
        const MODEL: usize = column(Kind::FeedbackLogged, "model");
        let Some(id) = table.text(ID).get(row) else {
            return;
        };
        let model = match table.text(MODEL).get(row) {
            Some(name) => match events.names.id(crate::event::EntityKind::Model, name) {
                Some(model) => Some(model),
                None => return,
            },
            None => None,
        };
        let given = given(events, table, row, model);
        let mut found = Vec::new();
        let hash = xxh3_64(id.as_bytes());
        for offset in self.by_id.iter_hash(hash) {
            if let Some(kept) = self.kept.get(offset)
                && *kept.id == *id
                && given.concerns(kept.model)
            {
                found.push(*offset);
            }
        }
        for offset in &found {
            self.change(*offset, |kept| {
                if kept
                    .feedback
                    .as_ref()
                    .is_none_or(|known| given.is_later_than(known))
                {
                    kept.feedback = Some(Box::new(given.clone()));
                }
            });
        }
        // One of a model has found what it is about; one of no model may concern others that are still to come.
        if found.is_empty() || model.is_none() {
            self.waiting.add(id, given, self.bytes_max / 4);
        }
        self.make_room();
    }

    /// Whether a prediction has left; what comes now about it does not bring it back. If it moves to another version, what
    /// has left of that version is bounded by what has left of the one it comes from.
    fn is_gone(&mut self, model: EntityId, id: &str, version: EntityId) -> bool {
        let Some(old) = self.left_ids.version(model, id) else {
            return false;
        };
        if old != version {
            self.left_ids.add(model, id, version);
            let bound = self.versions.get(&old).and_then(|shelf| shelf.left);
            let shelf = self.versions.entry(version).or_default();
            shelf.left = shelf.left.max(bound);
        }
        true
    }

    fn find(&self, model: EntityId, id: &str) -> Option<Offset> {
        let fits = |offset: &Offset| {
            let kept = self.kept.get(offset);
            kept.is_some_and(|kept| kept.model == model && *kept.id == *id)
        };
        self.by_id.find(xxh3_64(id.as_bytes()), fits).copied()
    }

    fn merge(&mut self, offset: Offset, version: EntityId, complete: bool, fields: &Packed) {
        let mut moved = None;
        self.change(offset, |kept| {
            kept.fields.merge(fields);
            if (complete || !kept.complete) && kept.version != version {
                moved = Some(((kept.time, offset), kept.version));
                kept.version = version;
            }
            kept.complete |= complete;
        });
        if let Some((place, old)) = moved {
            let old = self.versions.entry(old).or_default();
            old.order.remove(&place);
            old.arrivals.remove(&offset);
            self.shelve(version, place);
        }
    }

    /// Changes a prediction, and counts what it takes anew.
    fn change(&mut self, offset: Offset, change: impl FnOnce(&mut Kept)) {
        if let Some(kept) = self.kept.get_mut(&offset) {
            self.bytes -= kept.bytes();
            change(kept);
            self.bytes += kept.bytes();
        }
    }

    fn insert(&mut self, offset: Offset, kept: Kept) {
        let (version, place) = (kept.version, (kept.time, offset));
        self.bytes += kept.bytes();
        let hash = xxh3_64(kept.id.as_bytes());
        self.kept.insert(offset, kept);
        let all = &self.kept;
        self.by_id.insert_unique(hash, offset, |offset| {
            all.get(offset)
                .map_or(0, |kept| xxh3_64(kept.id.as_bytes()))
        });
        self.shelve(version, place);
    }

    /// Puts a prediction on the shelf of its version, which may be full.
    fn shelve(&mut self, version: EntityId, place: Place) {
        let shelf = self.versions.entry(version).or_default();
        shelf.order.insert(place);
        shelf.arrivals.insert(place.1);
        if shelf.arrivals.len() > self.window
            && let Some(oldest) = shelf.arrivals.first().copied()
        {
            self.leave(oldest);
        }
    }

    fn make_room(&mut self) {
        while self.bytes() > self.bytes_max
            && let Some((oldest, _)) = self.kept.first_key_value()
        {
            self.leave(*oldest);
        }
    }

    fn leave(&mut self, offset: Offset) {
        let Some(kept) = self.kept.remove(&offset) else {
            return;
        };
        self.bytes -= kept.bytes();
        let hash = xxh3_64(kept.id.as_bytes());
        if let Ok(entry) = self.by_id.find_entry(hash, |known| *known == offset) {
            entry.remove();
        }
        self.has_left(offset, &kept);
    }

    /// Notes that a prediction is not kept, or no longer.
    fn has_left(&mut self, offset: Offset, kept: &Kept) {
        self.left_ids.add(kept.model, &kept.id, kept.version);
        self.models_left.insert(kept.model);
        let place = (kept.time, offset);
        let shelf = self.versions.entry(kept.version).or_default();
        shelf.order.remove(&place);
        shelf.arrivals.remove(&offset);
        shelf.left = shelf.left.max(Some(place));
    }

    /// The predictions of a version; none if there never were any.
    pub(super) fn shelf(&self, version: EntityId) -> Option<&Shelf> {
        self.versions.get(&version)
    }

    /// A prediction by its offset.
    pub(super) fn at(&self, offset: Offset) -> Option<&Kept> {
        self.kept.get(&offset)
    }

    /// A prediction of a model by its id.
    pub(super) fn get(&self, model: EntityId, id: &str) -> Option<(Offset, &Kept)> {
        let offset = self.find(model, id)?;
        Some((offset, self.kept.get(&offset)?))
    }

    /// Whether predictions of a model have left.
    pub(super) fn has_lost(&self, model: EntityId) -> bool {
        self.models_left.contains(&model)
    }
}

/// The events of a batch.
struct Events<'a> {
    batch: &'a LoggedBatch,
    names: &'a Names,
    versions: Versions<'a>,
    columns: Vec<(usize, schema::FieldType)>,
}

impl<'a> Events<'a> {
    fn new(batch: &'a LoggedBatch, names: &'a Names, predictions: Option<&Table>) -> Self {
        Self {
            batch,
            names,
            versions: Versions::new(names),
            columns: predictions.map(columns).unwrap_or_default(),
        }
    }

    fn offset(&self, table: &Table, row: usize) -> Offset {
        self.batch.first_offset.advance(table.ord(row).into())
    }

    fn time(&self, table: &Table, row: usize) -> Timestamp {
        let time = table.times(schema::TIME).get(row);
        time.unwrap_or(self.batch.append_time)
    }

    fn version(&mut self, table: &'a Table, row: usize) -> Option<(EntityId, EntityId)> {
        const MODEL: usize = column(Kind::PredictionLogged, "model");
        const VERSION: usize = column(Kind::PredictionLogged, "version");
        let model = table.text(MODEL).get(row)?;
        let (model, version) = self.versions.get(model, table.text(VERSION).get(row));
        Some((model?, version?))
    }

    /// The id of a prediction; one without is known by its offset.
    fn id<'s>(
        &self,
        table: &'s Table,
        row: usize,
        offset: Offset,
        digits: &'s mut String,
    ) -> &'s str {
        const ID: usize = column(Kind::PredictionLogged, "prediction_id");
        let given = table.text(ID).get(row);
        match given.or_else(|| table.text(schema::ID).get(row)) {
            Some(id) => id,
            None => {
                *digits = offset.to_string();
                digits
            }
        }
    }
}

fn given(events: &Events<'_>, table: &Table, row: usize, model: Option<EntityId>) -> Given {
    const fn of(name: &str) -> usize {
        column(Kind::FeedbackLogged, name)
    }
    let text = |column| table.text(column).get(row).map(Into::into);
    // The sign of a zero is not kept: databases do not either.
    let number = |column| table.floats(column).get(row).map(|value| value + 0.0);
    Given {
        model,
        time: events.time(table, row),
        offset: events.offset(table, row),
        correct: table.booleans(const { of("correct") }).get(row),
        true_class: text(const { of("true_class") }),
        true_value: number(const { of("true_value") }),
        label: text(const { of("label") }),
        score: number(const { of("score") }),
        score_name: text(const { of("score_name") }),
        source: text(const { of("feedback_source") }),
    }
}
