//! One call to append, prepared by its own thread: everything that needs no lock.

use std::collections::BTreeMap;

use hashbrown::HashSet;

use super::catalog::created_by;
use super::mentions::{Mention, TextRows, mentions};
use super::rows::EncodedRows;
use crate::batch::{Content, EventBatch, EventBatchBuilder, Identity, Parts, Table};
use crate::config::{AppendOptions, OnConflict};
use crate::error::AppendError;
use crate::event::{Event, EventRejected, Kind, schema};
use crate::metrics::is_backfilled;
use crate::origin::{Origin, Source, kafka_source};
use crate::{Offset, Timestamp};

/// Calls up to this size are joined with others into one frame.
const JOINED_BYTES_MAX: usize = 16 << 10;
const JOINED_ROWS_MAX: u32 = 256;

/// A call, ready for admission.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) rows: Rows,
    /// By `ord`; each key once.
    pub(super) identities: Vec<Identity>,
    pub(super) mentions: Vec<Mention>,
    pub(super) count: u32,
    /// About how many bytes it takes in memory and file.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) enum Rows {
    /// Small: becomes part of a frame with others.
    Joined(EventBatchBuilder),
    /// Large: brings its own encoded rows.
    Encoded {
        tables: Vec<Table>,
        rows: EncodedRows,
        origins: Vec<Origin>,
    },
}

/// Events that will not be appended, by `ord`, and events to be recorded as rejected.
#[derive(Debug, Default)]
pub(super) struct Drops {
    pub(super) duplicates: HashSet<u32>,
    /// In order, with the offset of the event that had the id first, if it is in the log.
    pub(super) conflicts: Vec<(u32, Option<Offset>)>,
}

impl Drops {
    pub(super) fn is_empty(&self) -> bool {
        self.duplicates.is_empty() && self.conflicts.is_empty()
    }

    /// Whether an event is among them.
    pub(super) fn holds(&self, ord: u32) -> bool {
        let conflicts = &self.conflicts;
        self.duplicates.contains(&ord)
            || conflicts
                .binary_search_by_key(&ord, |(ord, _)| *ord)
                .is_ok()
    }
}

/// How many events of a kind a call brought, for the metrics.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) kind: Kind,
    pub(super) rows: u64,
    pub(super) backfilled: u64,
    /// Of records of rejected events: how many for each reason.
    pub(super) reasons: BTreeMap<String, u64>,
}

impl Call {
    /// Prepares a batch. Events that repeat an identity within the batch are dropped, or refused if they differ.
    pub(super) fn new(
        batch: EventBatch,
        options: AppendOptions,
    ) -> Result<(Self, u32), AppendError> {
        let count = batch.rows();
        let bytes = batch.bytes();
        let mut call = match batch.content {
            Content::Built(builder)
                if bytes <= JOINED_BYTES_MAX && count <= JOINED_ROWS_MAX && !creates(&builder) =>
            {
                Self::joined(builder, bytes)
            }
            content => Self::encoded(EventBatch { content }.into_parts()),
        };
        let drops = call.repeats_within(options)?;
        let duplicates = drops.duplicates.len() as u32;
        if !drops.is_empty() {
            call = call.without(&drops);
        }
        Ok((call, duplicates))
    }

    fn joined(builder: EventBatchBuilder, bytes: usize) -> Self {
        let mut identities: Vec<_> = builder.identities().copied().collect();
        identities.sort_by_key(|identity| identity.ord);
        let mentions = mentions(builder.kinds());
        Self {
            identities,
            mentions,
            count: builder.rows(),
            bytes,
            rows: Rows::Joined(builder),
        }
    }

    fn encoded(parts: Parts) -> Self {
        let Parts {
            tables,
            identities,
            origins,
        } = parts;
        let rows = EncodedRows::new(&tables);
        let mentions = mentions(&tables);
        let count = tables.iter().map(|table| table.rows() as u32).sum();
        let arrays: usize = tables
            .iter()
            .flat_map(|table| table.columns().iter().flatten())
            .map(arrow_array::Array::get_buffer_memory_size)
            .sum();
        let bytes = rows.bytes.len() + arrays;
        Self {
            identities,
            mentions,
            count,
            bytes,
            rows: Rows::Encoded {
                tables,
                rows,
                origins,
            },
        }
    }

    pub(super) fn origins(&self) -> &[Origin] {
        match &self.rows {
            Rows::Joined(builder) => builder.origins(),
            Rows::Encoded { origins, .. } => origins,
        }
    }

    /// Tables of kinds that create entities; small calls have none.
    pub(super) fn creating(&self) -> &[Table] {
        match &self.rows {
            Rows::Joined(_) => &[],
            Rows::Encoded { tables, .. } => tables,
        }
    }

    fn repeats_within(&self, options: AppendOptions) -> Result<Drops, AppendError> {
        let mut drops = Drops::default();
        if self.identities.len() < 2 {
            return Ok(drops);
        }
        let mut sorted: Vec<&Identity> = self.identities.iter().collect();
        sorted.sort_unstable_by_key(|identity| (identity.key, identity.ord));
        let mut first = sorted[0];
        for identity in &sorted[1..] {
            if identity.key != first.key {
                first = identity;
            } else if identity.content == first.content {
                drops.duplicates.insert(identity.ord);
            } else if options.id_conflict == OnConflict::Refuse {
                return Err(AppendError::RepeatedId {
                    first: first.ord,
                    ord: identity.ord,
                });
            } else {
                drops.conflicts.push((identity.ord, None));
            }
        }
        drops.conflicts.sort_unstable_by_key(|(ord, _)| *ord);
        Ok(drops)
    }

    /// The kind of an event.
    pub(super) fn kind_of(&self, ord: u32) -> Kind {
        let kind = match &self.rows {
            Rows::Joined(builder) => builder.kind_of(ord),
            Rows::Encoded { tables, .. } => find(tables, ord).map(|(table, _)| table.kind()),
        };
        kind.expect("every place of a call has an event")
    }

    /// The call without some of its events; those in conflict leave an `EventRejected` in their place.
    pub(super) fn without(self, drops: &Drops) -> Self {
        let (tables, origins) = match self.rows {
            Rows::Joined(builder) => {
                let parts = EventBatch::from_builder(builder).into_parts();
                (parts.tables, parts.origins)
            }
            Rows::Encoded {
                tables, origins, ..
            } => (tables, origins),
        };
        // Where each event goes: its old place less what was dropped before it.
        let mut moved = Vec::with_capacity(self.count as usize + 1);
        let mut next = 0;
        for ord in 0..self.count {
            moved.push(next);
            next += u32::from(!drops.duplicates.contains(&ord));
        }
        moved.push(next);
        let conflicting: HashSet<u32> = drops.conflicts.iter().map(|(ord, _)| *ord).collect();
        let stays = |ord: u32| !drops.duplicates.contains(&ord) && !conflicting.contains(&ord);
        let rejected = rejections(&tables, &drops.conflicts, &origins);
        let kept = tables.iter().map(|table| {
            let rows: Vec<u32> = (0..table.rows() as u32)
                .filter(|row| stays(table.ord(*row as usize)))
                .collect();
            let ords = rows
                .iter()
                .map(|row| moved[table.ord(*row as usize) as usize])
                .collect();
            table.take(&rows, ords)
        });
        let rejected = rejected.map(|(table, ords)| {
            let rows: Vec<u32> = (0..table.rows() as u32).collect();
            table.take(&rows, ords.iter().map(|ord| moved[*ord as usize]).collect())
        });
        let tables = join_kinds(kept.chain(rejected).filter(|table| table.rows() > 0));
        let identities = self
            .identities
            .into_iter()
            .filter(|identity| stays(identity.ord))
            .map(|identity| Identity {
                ord: moved[identity.ord as usize],
                ..identity
            })
            .collect();
        let origins = origins
            .into_iter()
            .map(|origin| shrink(origin, &moved, drops))
            .collect();
        Self::encoded(Parts {
            tables,
            identities,
            origins,
        })
    }

    /// Counts for the metrics; `now` is when the log takes the events.
    pub(super) fn tallies(&self, now: Timestamp) -> Vec<Tally> {
        match &self.rows {
            Rows::Joined(builder) => builder
                .kinds()
                .iter()
                .map(|rows| tally(rows, now))
                .collect(),
            Rows::Encoded { tables, .. } => tables.iter().map(|table| tally(table, now)).collect(),
        }
    }

    /// How many of the events are records of rejected ones.
    pub(super) fn rejected(&self) -> u32 {
        let kind = Kind::EventRejected;
        let rows: usize = match &self.rows {
            Rows::Joined(builder) => builder.rows_of(kind),
            Rows::Encoded { tables, .. } => {
                let found = tables.iter().filter(|table| table.kind() == kind);
                found.map(Table::rows).sum()
            }
        };
        rows as u32
    }
}

/// How often each reason stands in records of rejected events.
fn reasons(rows: &impl TextRows) -> BTreeMap<String, u64> {
    let mut reasons = BTreeMap::new();
    for row in 0..rows.rows() {
        let reason = rows.text(schema::COMMON.len(), row).unwrap_or_default();
        match reasons.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(reasons.insert(reason.to_owned(), 1)),
        }
    }
    reasons
}

fn tally(rows: &impl TextRows, now: Timestamp) -> Tally {
    let old = |time| is_backfilled(time, now);
    let backfilled = (0..rows.rows())
        .filter(|row| rows.time(*row).is_some_and(old))
        .count() as u64;
    Tally {
        kind: rows.kind(),
        rows: rows.rows() as u64,
        backfilled,
        reasons: match rows.kind() {
            Kind::EventRejected => reasons(rows),
            _ => BTreeMap::new(),
        },
    }
}

fn creates(builder: &EventBatchBuilder) -> bool {
    builder
        .kinds()
        .iter()
        .any(|rows| created_by(rows.kind()).is_some())
}

/// Where the event of a place is.
fn find(tables: &[Table], ord: u32) -> Option<(&Table, usize)> {
    tables.iter().find_map(|table| {
        (0..table.rows())
            .find(|row| table.ord(*row) == ord)
            .map(|row| (table, row))
    })
}

fn rejections(
    tables: &[Table],
    conflicts: &[(u32, Option<Offset>)],
    origins: &[Origin],
) -> Option<(Table, Vec<u32>)> {
    let mut conflicts = conflicts.to_vec();
    conflicts.sort_unstable_by_key(|(ord, _)| *ord);
    let mut builder = EventBatchBuilder::new();
    let mut ords = Vec::new();
    for (ord, existing) in conflicts {
        let (table, row) = find(tables, ord).expect("every place of a call has an event");
        let raw = table.event_json(row);
        let message = match existing {
            Some(offset) => {
                format!("an event with the same id but other content is at offset {offset}")
            }
            None => "an event with the same id but other content came in the same call".to_owned(),
        };
        let (source, position) = partition_of(ord, origins).unzip();
        let rejected = EventRejected {
            reason: "id_conflict".into(),
            message: Some(message),
            position,
            raw_bytes: Some(raw.len() as i64),
            raw: Some(raw),
            ..EventRejected::default()
        };
        let event = Event {
            source: source.flatten(),
            ..rejected.into()
        };
        builder
            .push(&event)
            .expect("the fields of a rejection are legal");
        ords.push(ord);
    }
    let tables = builder.finish().into_parts().tables;
    tables.into_iter().next().map(|table| (table, ords))
}

/// The source and position of an event that was read from Kafka: of which stretch of a partition it is, or which message
/// if the stretch is no longer than that.
fn partition_of(ord: u32, origins: &[Origin]) -> Option<(Option<String>, String)> {
    let holds = |origin: &&Origin| {
        ord.checked_sub(origin.first_ord)
            .is_some_and(|at| at < origin.rows)
    };
    match &origins.iter().find(holds)?.source {
        Source::Kafka {
            cluster,
            topic,
            partition,
            first,
            next,
            ..
        } => {
            let mut position = format!("{topic}/{partition}/{first}");
            if *next > first + 1 {
                position.push_str(&format!("..{next}"));
            }
            Some((kafka_source(cluster), position))
        }
        Source::Call { .. } | Source::Producer { .. } => None,
    }
}

/// One table for each kind: rejections of this call join those it brought along.
fn join_kinds(tables: impl Iterator<Item = Table>) -> Vec<Table> {
    let mut joined: Vec<Table> = Vec::new();
    for table in tables {
        match joined.iter_mut().find(|known| known.kind() == table.kind()) {
            Some(known) => *known = known.join(&table),
            None => joined.push(table),
        }
    }
    joined.sort_by_key(Table::kind);
    joined
}

fn shrink(origin: Origin, moved: &[u32], drops: &Drops) -> Origin {
    let (first, end) = (origin.first_ord, origin.first_ord + origin.rows);
    let dropped = drops
        .duplicates
        .iter()
        .filter(|ord| (first..end).contains(*ord))
        .count() as u32;
    let rejected = drops
        .conflicts
        .iter()
        .filter(|(ord, _)| (first..end).contains(ord))
        .count() as u32;
    Origin {
        first_ord: moved[first as usize],
        rows: origin.rows - dropped,
        duplicates: origin.duplicates + dropped,
        rejected: origin.rejected + rejected,
        source: origin.source,
    }
}
