//! Everything that is done to a piece before it can go, on a thread of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use indicatif::ProgressBar;
use modelog_engine::batch::EventBatch;
use modelog_engine::{LogId, Offset, Timestamp};
use modelog_formats::{Decoded, Format, decode};

use super::check::{CheckedHistory, CheckedInput};
use super::chunk::{Chunk, Places};
use super::history::Stretch;
use super::identity::Identity;
use super::pieces::{Piece, Pieces};
use super::present::{Present, Target};
use super::refusal::{self, Refusal};
use super::send::{Beside, Prepared};
use super::source::{self, open};
use super::{ImportOptions, Outlet};
use crate::progress;

impl Outlet {
    /// Passes a piece on; answers whether somebody still listens.
    pub(super) fn put(&self, prepared: Prepared) -> bool {
        self.sender.blocking_send(Ok(prepared)).is_ok()
    }

    /// The last word, if it is one of failure.
    pub(super) fn end(&self, outcome: Result<(), Refusal>) {
        if let Err(refusal) = outcome {
            // Nobody listens any more: the import has failed otherwise.
            let _ = self.sender.blocking_send(Err(refusal));
        }
    }

    fn knows(&self, index: u64) -> bool {
        index < self.known_below.load(Ordering::Relaxed)
    }
}

/// The pieces of an input.
pub(super) struct Preparing {
    checked: CheckedInput,
    options: Arc<ImportOptions>,
    decodes: bool,
    bar: ProgressBar,
}

impl Preparing {
    pub(super) fn new(checked: CheckedInput, options: Arc<ImportOptions>, decodes: bool) -> Self {
        let input = &checked.input;
        let bar = progress::bytes(input.bytes(), &format!("importing {}", input.name()));
        Self {
            checked,
            options,
            decodes,
            bar,
        }
    }

    /// What shows how far it is.
    pub(super) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    pub(super) fn run(self, to: &Outlet) {
        let outcome = self.prepare(to);
        to.end(outcome);
    }

    fn prepare(self, to: &Outlet) -> Result<(), Refusal> {
        let CheckedInput { input, identity } = self.checked;
        let source::Pieces {
            mut cut,
            format,
            read,
        } = open(&input, self.options.format, identity.is_some())?;
        let mut identity =
            identity.unwrap_or_else(|| Identity::of_stream(format, self.options.kind));
        while let Some(chunk) = cut.next()? {
            self.bar.set_position(read.load(Ordering::Relaxed));
            let source = identity.source(chunk.index, &chunk.bytes);
            let decoded = if self.decodes && !to.knows(chunk.index) {
                let decoded = decode(&chunk.bytes, chunk.format, &self.options.decoding);
                Some(decoded.map_err(|errors| {
                    Refusal::Events(refusal::Places::of_format(&errors, &chunk))
                })?)
            } else {
                None
            };
            let prepared = Prepared {
                chunk,
                source,
                decoded,
                beside: Beside::default(),
            };
            if !to.put(prepared) {
                return Ok(());
            }
        }
        if identity.digest() != cut.digest()? {
            return Err(Refusal::Changed);
        }
        Ok(())
    }
}

/// The pieces of a stretch of history.
pub(super) struct PreparingHistory {
    log: LogId,
    stretch: Stretch,
    identity: Identity,
    target: Target,
    decodes: bool,
    bar: ProgressBar,
}

impl PreparingHistory {
    /// One for each stretch of a history, to be run one after the other.
    pub(super) fn stretches(
        checked: CheckedHistory,
        target: &Target,
        decodes: bool,
        bar: &ProgressBar,
    ) -> impl Iterator<Item = Self> {
        let CheckedHistory { history, digests } = checked;
        let log = history.log;
        let stretches = history.stretches.into_iter().zip(digests);
        stretches.map(move |(stretch, digests)| Self {
            log,
            identity: Identity::of_history(&digests, decodes),
            stretch,
            target: target.clone(),
            decodes,
            bar: bar.clone(),
        })
    }

    pub(super) fn run(self, to: &Outlet) {
        let outcome = self.prepare(to);
        to.end(outcome);
    }

    fn prepare(mut self, to: &Outlet) -> Result<(), Refusal> {
        // Records that only an engine writes are not taken by a server.
        let mut pieces = Pieces::new(self.log, &self.stretch, self.decodes);
        let target = self.target.clone();
        let mut present = Present::new(&target, self.log);
        while let Some(piece) = pieces.next(Some(&mut present))? {
            let rows = piece.offsets.len() as u64 + piece.present + piece.left_out;
            self.bar.inc(rows + piece.repeated);
            let prepared = self.prepared(piece, to);
            if !to.put(prepared) {
                return Ok(());
            }
        }
        if self.stretch.files.iter().all(|file| file.is_unchanged()) {
            Ok(())
        } else {
            Err(Refusal::Changed)
        }
    }

    fn prepared(&mut self, piece: Piece, to: &Outlet) -> Prepared {
        let beside = Beside {
            known: piece.present + piece.repeated,
            left_out: piece.left_out,
            records: piece.batch.rejected().into(),
        };
        let needed = !to.knows(piece.index) && !piece.offsets.is_empty();
        let (bytes, decoded) = match needed {
            true if self.decodes => (Vec::new(), Some(decoded(piece.batch))),
            true => (json(piece.batch), None),
            false => (Vec::new(), None),
        };
        let chunk = Chunk {
            index: piece.index,
            bytes,
            format: Format::Json,
            events: piece.offsets.len() as u64,
            places: Places::Offsets(piece.offsets),
        };
        Prepared {
            source: self.identity.source(chunk.index, &chunk.bytes),
            chunk,
            decoded,
            beside,
        }
    }
}

fn decoded(batch: EventBatch) -> Decoded {
    Decoded {
        batch,
        unknown_fields: BTreeMap::new(),
        rejected: Vec::new(),
    }
}

/// The events as an array, so that their JSON can be kept byte for byte: lines would lose line breaks in it.
fn json(batch: EventBatch) -> Vec<u8> {
    // Offset and time are those of no log; whoever takes events passes them over.
    let batch = batch.into_logged(Offset::ZERO, Timestamp::default());
    let mut out = vec![b'['];
    for (at, row) in batch.in_order().into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        row.write_json(&mut out);
    }
    out.push(b']');
    out
}
