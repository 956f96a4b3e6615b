//! Text and bytes of any length: few distinct values by number; values of one length without the places at which all are
//! the same; others without the beginning and the end they have in common.

use std::borrow::Cow;

use arrow_array::{Array as _, BinaryArray, StringArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use xxhash_rust::xxh3::xxh3_64;

use super::ints::{get_count, put_count};
use super::{Room, block, ints};
use crate::log::{Malformed, Reader, put_u64};

const DISTINCT: u8 = 0;
const SAME_LENGTH: u8 = 1;
const ENDS: u8 = 2;
/// How many different values are worth numbers.
const DISTINCT_MAX: usize = 255;
/// The longest values whose places are looked at one by one.
const PLACES_MAX: usize = 64;

/// Values one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    /// Where each begins; then the end of the last.
    offsets: &'a [i32],
    data: &'a [u8],
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Values<'a> {
    pub(super) fn of_text(array: &'a StringArray) -> Self {
        Self {
            offsets: array.value_offsets(),
            data: array.value_data(),
            nulls: array.nulls().filter(|nulls| nulls.null_count() > 0),
        }
    }

    pub(super) fn of_bytes(array: &'a BinaryArray) -> Self {
        Self {
            offsets: array.value_offsets(),
            data: array.value_data(),
            nulls: array.nulls().filter(|nulls| nulls.null_count() > 0),
        }
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn length(&self, at: usize) -> usize {
        (self.offsets[at + 1] - self.offsets[at]) as usize
    }

    #[inline]
    fn get(&self, at: usize) -> &'a [u8] {
        &self.data[self.offsets[at] as usize..self.offsets[at + 1] as usize]
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + 'a {
        let data = self.data;
        let pairs = self.offsets.windows(2);
        pairs.map(move |pair| &data[pair[0] as usize..pair[1] as usize])
    }

    /// All bytes of the values.
    fn bytes(&self) -> &'a [u8] {
        let (first, last) = (self.offsets[0], self.offsets[self.len()]);
        &self.data[first as usize..last as usize]
    }
}

/// What values take once they are unpacked.
pub(super) fn memory_of(values: Values<'_>) -> usize {
    let bytes = match values.nulls {
        None => values.bytes().len(),
        Some(nulls) => nulls.valid_indices().map(|at| values.length(at)).sum(),
    };
    4 * values.offsets.len() + bytes
}

/// Appends the values that are there.
pub(super) fn put(out: &mut Vec<u8>, values: Values<'_>) {
    let Some(nulls) = values.nulls else {
        return put_dense(out, values);
    };
    let mut data = Vec::with_capacity(values.bytes().len());
    let mut offsets = vec![0];
    for at in nulls.valid_indices() {
        data.extend_from_slice(values.get(at));
        offsets.push(data.len() as i32);
    }
    let dense = Values {
        offsets: &offsets,
        data: &data,
        nulls: None,
    };
    put_dense(out, dense);
}

fn put_dense(out: &mut Vec<u8>, values: Values<'_>) {
    if let Some(distinct) = Distinct::of(values) {
        out.push(DISTINCT);
        distinct.put(out);
        return;
    }
    let length = values.iter().next().map_or(0, <[u8]>::len);
    let same = || values.iter().all(|value| value.len() == length);
    if values.len() > 1 && (1..=PLACES_MAX).contains(&length) && same() {
        out.push(SAME_LENGTH);
        put_places(out, values.bytes(), length);
    } else {
        out.push(ENDS);
        put_middles(out, values);
    }
}

/// Reads `rows` values, of which those that are there were written.
pub(super) fn get(
    reader: &mut Reader<'_>,
    rows: usize,
    nulls: Option<&NullBuffer>,
    room: &mut Room,
) -> Result<(OffsetBuffer<i32>, Buffer), Malformed> {
    room.values(rows.checked_add(1).ok_or(Malformed)?, 4)?;
    let there = rows - nulls.map_or(0, NullBuffer::null_count);
    let (lengths, data) = match reader.u8()? {
        DISTINCT => get_distinct(reader, there, room)?,
        SAME_LENGTH => get_places(reader, there, room)?,
        ENDS => get_middles(reader, there, room)?,
        _ => return Err(Malformed),
    };
    let mut ends = Vec::with_capacity(rows + 1);
    ends.push(0);
    let mut end = 0;
    // The bytes are there, so their lengths add up to what memory can hold.
    match nulls {
        None => ends.extend(lengths.iter().map(|length| {
            end += length;
            end as i32
        })),
        Some(nulls) => {
            let mut lengths = lengths.iter();
            ends.extend(nulls.iter().map(|there| {
                end += if there {
                    lengths.next().copied().unwrap_or(0)
                } else {
                    0
                };
                end as i32
            }));
        }
    }
    if i32::try_from(data.len()).is_err() || end != data.len() {
        return Err(Malformed);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
    Ok((offsets, Buffer::from_vec(data)))
}

/// Reads lengths, whose sum has room.
fn get_lengths(
    reader: &mut Reader<'_>,
    count: usize,
    room: &Room,
) -> Result<(Vec<usize>, usize), Malformed> {
    let lengths = ints::get(reader, count)?.into_iter().map(usize::try_from);
    let lengths: Vec<usize> = lengths.collect::<Result<_, _>>().map_err(|_| Malformed)?;
    let sum = lengths
        .iter()
        .try_fold(0_usize, |sum, length| sum.checked_add(*length));
    let sum = sum.filter(|sum| *sum <= room.0).ok_or(Malformed)?;
    Ok((lengths, sum))
}

/// The different values of a column, and which each row has.
struct Distinct<'a> {
    values: Vec<&'a [u8]>,
    numbers: Vec<i64>,
}

impl<'a> Distinct<'a> {
    /// Nothing if there are too many to be worth it.
    fn of(values: Values<'a>) -> Option<Self> {
        const SLOTS: usize = 1024;
        if values.len() < 2 {
            return None;
        }
        let mut found: Vec<&[u8]> = Vec::new();
        let mut slots = [0_u8; SLOTS];
        let mut numbers = Vec::with_capacity(values.len());
        for (at, value) in values.iter().enumerate() {
            let mut slot = xxh3_64(value) as usize % SLOTS;
            let number = loop {
                match usize::from(slots[slot]) {
                    0 => {
                        // As many as half of the values so far, or a few: no repeats to speak of.
                        if found.len() == DISTINCT_MAX || found.len() > 8 + at / 2 {
                            return None;
                        }
                        found.push(value);
                        slots[slot] = found.len() as u8;
                        break found.len() - 1;
                    }
                    known if found[known - 1] == value => break known - 1,
                    _ => slot = (slot + 1) % SLOTS,
                }
            };
            numbers.push(number as i64);
        }
        let distinct = Self {
            values: found,
            numbers,
        };
        (2 * distinct.values.len() <= values.len() + 1).then_some(distinct)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_count(out, self.values.len());
        let lengths: Vec<i64> = self.values.iter().map(|value| value.len() as i64).collect();
        ints::put(out, &lengths);
        block::put(out, &self.values.concat());
        ints::put(out, &self.numbers);
    }
}

fn get_distinct(
    reader: &mut Reader<'_>,
    there: usize,
    room: &mut Room,
) -> Result<(Vec<usize>, Vec<u8>), Malformed> {
    let count = get_count(reader)?;
    if count > DISTINCT_MAX {
        return Err(Malformed);
    }
    let (lengths, len) = get_lengths(reader, count, room)?;
    let bytes = block::get(reader, len)?;
    let mut rest = &bytes[..];
    let mut values = Vec::with_capacity(count);
    for length in lengths {
        let (value, behind) = rest.split_at_checked(length).ok_or(Malformed)?;
        values.push(value);
        rest = behind;
    }
    let numbers = ints::get(reader, there)?;
    let value = |number: &i64| usize::try_from(*number).ok().and_then(|at| values.get(at));
    let mut sum = 0_usize;
    let mut lengths = Vec::with_capacity(there);
    for number in &numbers {
        let length = value(number).ok_or(Malformed)?.len();
        sum = sum.checked_add(length).ok_or(Malformed)?;
        lengths.push(length);
    }
    room.take(sum)?;
    let mut data = Vec::with_capacity(sum);
    numbers
        .iter()
        .filter_map(value)
        .for_each(|value| data.extend_from_slice(value));
    Ok((lengths, data))
}

/// Values of one length: length, a bit (of u64) for each place at which they differ, the first value's bytes at the other
/// places, then a block of all bytes at places that differ.
fn put_places(out: &mut Vec<u8>, bytes: &[u8], length: usize) {
    let first = &bytes[..length];
    let mut differs = [0_u8; PLACES_MAX];
    for value in bytes.chunks_exact(length) {
        for ((differs, byte), first) in differs.iter_mut().zip(value).zip(first) {
            *differs |= byte ^ first;
        }
    }
    let places = (0..length).filter(|place| differs[*place] != 0);
    let places = places.fold(0_u64, |places, place| places | 1 << place);
    put_count(out, length);
    put_u64(out, places);
    out.extend(
        (0..length)
            .filter(|place| places & (1 << place) == 0)
            .map(|place| first[place]),
    );
    let stretches = stretches(places);
    if stretches == [(0, length)] {
        block::put(out, bytes);
        return;
    }
    let mut gathered = Vec::with_capacity(bytes.len());
    for value in bytes.chunks_exact(length) {
        for (from, to) in &stretches {
            gathered.extend_from_slice(&value[*from..*to]);
        }
    }
    block::put(out, &gathered);
}

/// The stretches of bits that are set, each as from and to.
fn stretches(mut bits: u64) -> Vec<(usize, usize)> {
    let mut stretches = Vec::new();
    let mut at = 0;
    while bits != 0 {
        let from = at + bits.trailing_zeros() as usize;
        bits >>= bits.trailing_zeros();
        let to = from + bits.trailing_ones() as usize;
        bits = bits.checked_shr(bits.trailing_ones()).unwrap_or(0);
        stretches.push((from, to));
        at = to;
    }
    stretches
}

fn get_places(
    reader: &mut Reader<'_>,
    there: usize,
    room: &mut Room,
) -> Result<(Vec<usize>, Vec<u8>), Malformed> {
    let length = get_count(reader)?;
    let places = reader.u64()?;
    if !(1..=PLACES_MAX).contains(&length) || length < 64 && places >> length != 0 {
        return Err(Malformed);
    }
    let differing = places.count_ones() as usize;
    let mut same = reader.take(length - differing)?.iter();
    let mut value = [0; PLACES_MAX];
    let fixed = (0..length).filter(|place| places & (1 << place) == 0);
    fixed
        .zip(&mut same)
        .for_each(|(place, byte)| value[place] = *byte);
    room.values(there, length)?;
    let bytes = block::get(reader, there * differing)?;
    let stretches = stretches(places);
    if stretches == [(0, length)] {
        return Ok((vec![length; there], bytes));
    }
    let mut data = Vec::with_capacity(there * length);
    let mut rest = &bytes[..];
    for _ in 0..there {
        for (from, to) in &stretches {
            let (part, behind) = rest.split_at_checked(to - from).ok_or(Malformed)?;
            value[*from..*to].copy_from_slice(part);
            rest = behind;
        }
        data.extend_from_slice(&value[..length]);
    }
    Ok((vec![length; there], data))
}

/// Values of any length: the beginning that all have, the end that all have, the lengths of what is between, and that as a
/// block.
fn put_middles(out: &mut Vec<u8>, values: Values<'_>) {
    let (prefix, suffix) = common_ends(values);
    let first = if values.len() == 0 {
        &[]
    } else {
        values.get(0)
    };
    put_count(out, prefix);
    out.extend_from_slice(&first[..prefix]);
    put_count(out, suffix);
    out.extend_from_slice(&first[first.len() - suffix..]);
    let lengths = values
        .iter()
        .map(|value| (value.len() - prefix - suffix) as i64);
    ints::put(out, &lengths.collect::<Vec<_>>());
    let middles: Cow<'_, [u8]> = if prefix + suffix == 0 {
        values.bytes().into()
    } else {
        let mut gathered = Vec::with_capacity(values.bytes().len());
        for value in values.iter() {
            gathered.extend_from_slice(&value[prefix..value.len() - suffix]);
        }
        gathered.into()
    };
    block::put(out, &middles);
}

/// How many bytes at the beginning and at the end are the same in all of several values.
fn common_ends(values: Values<'_>) -> (usize, usize) {
    if values.len() < 2 {
        return (0, 0);
    }
    let first = values.get(0);
    let (mut prefix, mut suffix, mut shortest) = (first.len(), first.len(), first.len());
    for value in values.iter().skip(1) {
        shortest = shortest.min(value.len());
        if !value.starts_with(&first[..prefix]) {
            prefix = same(first.iter(), value.iter());
        }
        if !value.ends_with(&first[first.len() - suffix..]) {
            suffix = same(first.iter().rev(), value.iter().rev());
        }
        if prefix + suffix == 0 {
            break;
        }
    }
    let prefix = prefix.min(shortest);
    (prefix, suffix.min(shortest - prefix))
}

fn same<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

fn get_middles(
    reader: &mut Reader<'_>,
    there: usize,
    room: &mut Room,
) -> Result<(Vec<usize>, Vec<u8>), Malformed> {
    let len = get_count(reader)?;
    let prefix = reader.take(len)?;
    let len = get_count(reader)?;
    let suffix = reader.take(len)?;
    let (mut lengths, len) = get_lengths(reader, there, room)?;
    let ends = prefix.len() + suffix.len();
    let total = there
        .checked_mul(ends)
        .and_then(|bytes| bytes.checked_add(len));
    let total = total.ok_or(Malformed)?;
    room.take(total)?;
    let middles = block::get(reader, len)?;
    if ends == 0 {
        return Ok((lengths, middles));
    }
    let mut data = Vec::with_capacity(total);
    let mut rest = &middles[..];
    for length in &mut lengths {
        let (middle, behind) = rest.split_at_checked(*length).ok_or(Malformed)?;
        data.extend_from_slice(prefix);
        data.extend_from_slice(middle);
        data.extend_from_slice(suffix);
        rest = behind;
        *length += ends;
    }
    Ok((lengths, data))
}
