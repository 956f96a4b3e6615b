//! What waits to be written: one frame each, of one large call or of many small ones that joined.
//!
//! Callers queue items under the lock of admission; the writer takes them, and answers through them.

use super::frame::{FrameKind, HEADER_BYTES, Header, Prefix, SCHEMA_VERSION, body_sum};
use super::rows::EncodedRows;
use super::state::Changes;
use crate::batch::{EventBatch, EventBatchBuilder, Table};
use crate::error::AppendError;
use crate::origin::Origin;
use crate::threads::{OwnedSemaphorePermit, oneshot};
use crate::{Offset, Timestamp};

/// Small calls are joined up to this size.
const JOIN_BYTES_MAX: usize = 256 << 10;

/// What waits to be written: one frame.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) first: Offset,
    pub(super) count: u32,
    bytes: usize,
    content: Content,
    pub(super) changes: Changes,
    waiters: Vec<Waiter>,
}

#[derive(Debug)]
pub(super) enum Content {
    Built(EventBatchBuilder),
    Encoded {
        tables: Vec<Table>,
        rows: EncodedRows,
        origins: Vec<Origin>,
    },
}

/// A caller who waits for its answer, and the part of the backlog it takes.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) answer: oneshot::Sender<Result<(), AppendError>>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Item {
    pub(super) fn new(
        first: Offset,
        count: u32,
        bytes: usize,
        content: Content,
        changes: Changes,
        waiter: Waiter,
    ) -> Self {
        Self {
            first,
            count,
            bytes,
            content,
            changes,
            waiters: vec![waiter],
        }
    }

    /// Whether a small call may join.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        matches!(self.content, Content::Built(_)) && self.bytes + bytes <= JOIN_BYTES_MAX
    }

    /// Lets a small call join.
    pub(super) fn join(
        &mut self,
        builder: &EventBatchBuilder,
        bytes: usize,
        changes: Changes,
        waiter: Waiter,
    ) {
        let Content::Built(joined) = &mut self.content else {
            unreachable!("small calls join small calls")
        };
        joined.extend(builder);
        self.count += builder.rows();
        self.bytes += bytes;
        self.changes.extend(changes);
        self.waiters.push(waiter);
    }

    /// About how many bytes it takes in the file.
    pub(super) fn file_bytes(&self) -> usize {
        match &self.content {
            Content::Encoded { rows, .. } => rows.bytes.len(),
            Content::Built(_) => self.bytes,
        }
    }

    pub(super) fn encode(mut self) -> (Self, Frame) {
        let content =
            std::mem::replace(&mut self.content, Content::Built(EventBatchBuilder::new()));
        let (tables, rows, origins) = match content {
            Content::Encoded {
                tables,
                rows,
                origins,
            } => (tables, rows, origins),
            Content::Built(builder) => {
                let parts = EventBatch::from_builder(builder).into_parts();
                let rows = EncodedRows::new(&parts.tables);
                (parts.tables, rows, parts.origins)
            }
        };
        let prefix = Prefix::of_rows(&origins, &self.changes.names);
        (
            self,
            Frame {
                prefix,
                rows,
                tables,
                origins,
            },
        )
    }

    pub(super) fn answer(self, outcome: &Result<(), AppendError>) {
        for Waiter { answer, permit } in self.waiters {
            // Room first: a caller that has its answer may come with its next call.
            drop(permit);
            // A caller that no longer waits has lost interest, not its events.
            let _ = answer.send(outcome.clone());
        }
    }
}

/// A frame ready to be written, but for what depends on its place.
pub(super) struct Frame {
    pub(super) prefix: Prefix,
    pub(super) rows: EncodedRows,
    pub(super) tables: Vec<Table>,
    pub(super) origins: Vec<Origin>,
}

impl Frame {
    pub(super) fn bytes(&self) -> u64 {
        (HEADER_BYTES + self.prefix.bytes().len() + self.rows.bytes.len()) as u64
    }
}

/// A frame that says: closed in order, everything before it is durable. It may fill its block.
pub(super) fn closing(
    end: Offset,
    append_time: Timestamp,
    position: u64,
    chain: u32,
    fill_block: bool,
) -> (Header, Prefix) {
    let mut prefix = Prefix::of_rows(&[], &[]);
    if fill_block {
        prefix.fill_block(position);
    }
    let (body_len, body_crc) = body_sum(&prefix, None);
    let header = Header {
        body_len,
        body_crc,
        first_offset: end,
        count: 0,
        codec: 0,
        flags: FrameKind::Closing.flags(),
        schema: SCHEMA_VERSION,
        append_time,
        durable_end: position,
        prev_header_crc: chain,
    };
    (header, prefix)
}
