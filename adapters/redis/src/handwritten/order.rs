//! In which order keys are read, and events come out.

use std::io;

use super::event::Event;
use super::key::Id;
use super::sort::Sorted;

/// The order of what is sorted by time, at the end.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    Alias,
    End,
    Prediction,
    Feedback,
    Deleted,
}

/// Where a key comes in the order of those that are read one after the other.
pub(super) fn place(turn: u8, id: &Id, rest: &str) -> Vec<u8> {
    let mut sorts = vec![turn];
    sorts.extend(id.sorts());
    sorts.extend(rest.bytes());
    sorts
}

/// An event and its key as one value.
pub(super) fn packed(key: &str, event: &Event) -> Vec<u8> {
    let mut bytes = event.digest.to_le_bytes().to_vec();
    bytes.extend((key.len() as u32).to_le_bytes());
    bytes.extend(key.bytes());
    bytes.extend(event.json.bytes());
    bytes
}

pub(super) fn unpacked(bytes: &[u8]) -> (&str, Event) {
    let read = || {
        let (digest, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (key, json) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let event = Event {
            json: std::str::from_utf8(json).ok()?.to_owned(),
            digest: u64::from_le_bytes(*digest),
        };
        Some((std::str::from_utf8(key).ok()?, event))
    };
    read().expect("it was packed here")
}

/// Keys in the order they are read in.
pub(super) struct Keys {
    sorted: Sorted,
    next: Option<(u8, String)>,
    last: String,
}

impl Keys {
    pub(super) fn new(sorted: Sorted) -> Self {
        Self {
            sorted,
            next: None,
            last: String::new(),
        }
    }

    /// Some keys of a turn, at most so many; none once it is over. A key that SCAN gave twice comes once.
    pub(super) fn some(&mut self, turn: u8, most: usize) -> io::Result<Option<Vec<String>>> {
        let mut some = Vec::new();
        while some.len() < most {
            let (of, key) = match self.next.take() {
                Some(next) => next,
                None => match self.sorted.next()? {
                    Some((sorts, key)) => {
                        let key =
                            String::from_utf8(key).expect("keys were text when they were sorted");
                        (sorts[0], key)
                    }
                    None => break,
                },
            };
            if of != turn {
                self.next = Some((of, key));
                break;
            }
            if self.last != key {
                self.last.clone_from(&key);
                some.push(key);
            }
        }
        Ok((!some.is_empty()).then_some(some))
    }
}
