//! Whatever columns hold comes back; what was not packed is refused or read, and takes no more memory than it may.

use std::fmt::Debug;

use arrow_array::new_null_array;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Texts as producers make them, and such as they do not.
fn texts() -> impl Strategy<Value = Vec<Option<String>>> {
    let shaped = select(vec![
        "[0-9a-f]{32}",
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        r#"\{"image":"[0-9a-f]{1,8}\.jpg"\}"#,
        "class-[0-9]{1,3}",
        "[abc]",
        "(same|Same)",
        "always",
        "[0-9.,-]{0,9}",
        "[a-z ]{60,70}",
        "(.|[äöü€🙂]){0,12}",
        "",
    ]);
    let values = shaped.prop_flat_map(|pattern| {
        let value = proptest::string::string_regex(pattern).expect("the pattern is one");
        proptest::collection::vec(value, 1..120)
    });
    with_nulls(values)
}

fn with_nulls<T: Debug + Clone + 'static>(
    values: impl Strategy<Value = Vec<T>>,
) -> impl Strategy<Value = Vec<Option<T>>> {
    (values, select(vec![0, 1, 2, 7]), any::<u64>()).prop_map(|(values, every, seed)| {
        let there = |at: usize| every == 0 || !(seed >> (at % 61)).is_multiple_of(every + 1);
        let values = values.into_iter().enumerate();
        values
            .map(|(at, value)| there(at).then_some(value))
            .collect()
    })
}

fn integers() -> impl Strategy<Value = Vec<Option<i64>>> {
    let some = |values: BoxedStrategy<i64>| proptest::collection::vec(values, 1..120).boxed();
    let steps = |step: std::ops::Range<i64>| {
        let steps = (any::<i64>(), proptest::collection::vec(step, 0..120));
        let sum = |(first, steps): (i64, Vec<i64>)| {
            let mut value = first;
            let sums = steps.into_iter().map(|step| {
                value = value.wrapping_add(step);
                value
            });
            std::iter::once(first).chain(sums).collect::<Vec<_>>()
        };
        steps.prop_map(sum).boxed()
    };
    with_nulls(prop_oneof![
        some(any::<i64>().boxed()),
        some((0..100_i64).boxed()),
        some(Just(i64::MIN).boxed()),
        some(prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0)].boxed()),
        steps(1..2),
        steps(990..1010),
        steps(-3..4),
    ])
}

fn floats() -> impl Strategy<Value = Vec<Option<f64>>> {
    let some = |values: BoxedStrategy<f64>| proptest::collection::vec(values, 1..120).boxed();
    let odd = [
        0.0,
        -0.0,
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::MIN_POSITIVE,
        1e300,
        0.1 + 0.2,
    ];
    with_nulls(prop_oneof![
        some(any::<u64>().prop_map(f64::from_bits).boxed()),
        some(
            (0..10_000_u32)
                .prop_map(|whole| f64::from(whole) / 10_000.0)
                .boxed()
        ),
        some((-1_000_000..1_000_000_i32).prop_map(f64::from).boxed()),
        some(any::<f32>().prop_map(f64::from).boxed()),
        some(select(odd.to_vec()).boxed()),
        some(
            (0..1_u64 << 60)
                .prop_map(|whole| whole as f64 / 1e15)
                .boxed()
        ),
    ])
}

/// A table of a kind with an array in every column of a type, and nothing elsewhere.
fn table(ty: FieldType, array: ArrayRef) -> Table {
    let same = |field: &schema::Field| field.ty.data_type() == ty.data_type();
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| schema::fields(*kind).any(same));
    let kind = kind.expect("some kind has such a field");
    let columns = schema::fields(kind).map(|field| same(field).then(|| Arc::clone(&array)));
    Table::trusted(kind, array.len(), columns.collect())
}

fn check(table: &Table) {
    // Rows that pack too well are not packed; there is nothing to read back then.
    let Some(packed) = pack(std::slice::from_ref(table)) else {
        return;
    };
    let found = unpack(&packed).expect("what was packed is unpacked");
    assert_same(&found, std::slice::from_ref(table));
    let padded = [&packed[..], &[0; 4096]].concat();
    assert_same(
        &unpack(&padded).expect("padding is skipped"),
        std::slice::from_ref(table),
    );
    assert!(
        unpack(&[&packed[..], &[1]].concat()).is_err(),
        "one byte more"
    );
    let short = &packed[..packed.len() - 1];
    assert!(unpack(short).is_err(), "one byte less");
}

fn assert_same(found: &[Table], expected: &[Table]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.kind(), expected.kind());
        assert_eq!(found.rows(), expected.rows());
        // Arrow compares floats by their bits, and not what lies beneath nulls.
        assert_eq!(found.columns(), expected.columns());
    }
}

proptest! {
    #[test]
    fn text_comes_back(values in texts()) {
        let data: StringArray = values.iter().map(Option::as_deref).collect();
        check(&table(FieldType::Text, Arc::new(data)));
        let data: BinaryArray = values.iter().map(|value| value.as_ref().map(String::as_bytes)).collect();
        check(&table(FieldType::Bytes, Arc::new(data)));
    }

    #[test]
    fn integers_come_back(values in integers()) {
        let data: Int64Array = values.iter().copied().collect();
        check(&table(FieldType::Int, Arc::new(data)));
        let data: TimestampMicrosecondArray = values.into_iter().collect();
        check(&table(FieldType::Time, Arc::new(data.with_timezone("UTC"))));
    }

    #[test]
    fn floats_come_back_to_the_bit(values in floats()) {
        let data: Float64Array = values.into_iter().collect();
        check(&table(FieldType::Float, Arc::new(data)));
    }

    #[test]
    fn booleans_and_places_come_back(
        values in proptest::collection::vec(any::<Option<bool>>(), 1..120),
        ords in proptest::collection::vec(any::<u32>(), 1..120),
    ) {
        let data: BooleanArray = values.into_iter().collect();
        check(&table(FieldType::Bool, Arc::new(data)));
        check(&table(FieldType::Ord, Arc::new(UInt32Array::from(ords))));
    }

    #[test]
    fn bits_come_back(width in 0..65_u32, values in proptest::collection::vec(any::<u64>(), 0..100)) {
        let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
        let values: Vec<u64> = values.into_iter().map(|value| value & mask).collect();
        let mut out = Vec::new();
        bits::put(&mut out, values.iter().copied(), width);
        prop_assert_eq!(out.len(), (values.len() * width as usize).div_ceil(8));
        let (mut reader, mut found) = (Reader(&out), Vec::new());
        bits::get(&mut reader, values.len(), width, |value| found.push(value)).unwrap();
        prop_assert_eq!(found, values);
        prop_assert!(reader.0.is_empty());
    }

    /// A forged table may be refused or read, but nothing else may happen.
    #[test]
    fn other_bytes_do_no_harm(
        values in texts(),
        more in floats(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 8),
    ) {
        let mut packed = pack(&small_tables(&values, &more)).unwrap();
        for (at, byte) in &changes {
            let at = at.index(packed.len());
            packed[at] = *byte;
        }
        let memory = u32::from_le_bytes(*packed.first_chunk().unwrap()) as usize;
        if let Ok(tables) = unpack(&packed) {
            let found: usize = tables.iter().map(memory_of).sum();
            // Bits of a column without nulls may have been stated, so there may be less.
            prop_assert!(found <= memory && memory <= RATIO_MAX * packed.len());
        }
        for end in cuts {
            let _ = unpack(&packed[..end.index(packed.len())]);
        }
    }
}

/// Two tables with columns of all types; packed they take long enough not to pack too well.
fn small_tables(texts: &[Option<String>], floats: &[Option<f64>]) -> [Table; 2] {
    let of = |kind: Kind, rows: usize| {
        let columns = schema::fields(kind).map(|field| -> Option<ArrayRef> {
            Some(match field.ty {
                FieldType::Ord => Arc::new(UInt32Array::from_iter_values(
                    (0..rows as u32).map(|row| 3 * row),
                )),
                FieldType::Int => Arc::new(Int64Array::from_iter_values(
                    (0..rows as i64).map(|row| row * row),
                )),
                FieldType::Float => {
                    let values = (0..rows).map(|row| floats[row % floats.len()]);
                    Arc::new(values.collect::<Float64Array>())
                }
                FieldType::Bool => Arc::new(BooleanArray::from_iter(
                    (0..rows).map(|row| (row % 5 > 0).then_some(row % 3 == 0)),
                )),
                FieldType::Time => Arc::new(
                    TimestampMicrosecondArray::from_iter_values(
                        (0..rows as i64).map(|row| 1_795_366_800_000_000 + 997 * row),
                    )
                    .with_timezone("UTC"),
                ),
                FieldType::Bytes => Arc::new(BinaryArray::from_iter_values(
                    (0..rows).map(|row| vec![row as u8; row % 9]),
                )),
                _ => {
                    let values = (0..rows).map(|row| texts[row % texts.len()].as_deref());
                    Arc::new(values.collect::<StringArray>())
                }
            })
        });
        Table::trusted(kind, rows, columns.collect())
    };
    [
        of(Kind::PredictionLogged, texts.len()),
        of(Kind::EventRejected, floats.len()),
    ]
}

#[test]
fn slices_and_what_lies_beneath_nulls() {
    let all: StringArray = ["cut off", "a", "beneath", "bc", "cut off too"]
        .into_iter()
        .map(Some)
        .collect();
    let (offsets, data, _) = all.into_parts();
    let nulls = NullBuffer::from(vec![true, true, false, true, true]);
    let array = StringArray::new(offsets, data, Some(nulls)).slice(1, 3);
    let table = table(FieldType::Text, Arc::new(array));
    check(&table);
    let found = unpack(&pack(std::slice::from_ref(&table)).unwrap()).unwrap();
    let column = found[0].columns().iter().flatten().next().unwrap();
    assert_eq!(
        column.as_string::<i32>().value_data(),
        b"abc",
        "K1: nothing beneath nulls"
    );
}

/// Each form is taken where it is meant to be: this is what makes the log small.
#[test]
fn values_take_as_few_bytes_as_they_can() {
    const ROWS: u64 = 1_000;
    let mixed = |row: u64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let texts = |value: &dyn Fn(u64) -> String| -> (FieldType, ArrayRef) {
        (
            FieldType::Text,
            Arc::new(StringArray::from_iter_values((0..ROWS).map(value))),
        )
    };
    let floats = |value: &dyn Fn(u64) -> f64| -> (FieldType, ArrayRef) {
        (
            FieldType::Float,
            Arc::new(Float64Array::from_iter_values((0..ROWS).map(value))),
        )
    };
    let times =
        TimestampMicrosecondArray::from_iter_values((0..ROWS as i64).map(|row| row * 1_000_000));
    let id = |row| format!("{:016x}{:016x}", mixed(row), mixed(row + ROWS));
    let uuid = |row: u64| {
        format!(
            "{:08x}-0000-4000-8000-{:012x}",
            mixed(row) >> 32,
            mixed(row) >> 16
        )
    };
    // Bits that a value takes at most, beside 60 bytes for the column.
    let cases = [
        ("hexadecimal", texts(&id), 128),
        ("uuid", texts(&uuid), 80),
        (
            "a few",
            texts(&|row| ["v1", "v2", "v10"][(row % 3) as usize].to_owned()),
            2,
        ),
        (
            "numbered",
            texts(&|row| format!("class-{}", mixed(row) % 1000)),
            12 + 2,
        ),
        (
            "payload",
            texts(&|row| format!(r#"{{"image":"{:08x}.jpg"}}"#, mixed(row) >> 32)),
            32,
        ),
        (
            "prose",
            texts(&|row| format!("the request {row} has been answered: {}", row * 7)),
            120,
        ),
        (
            "share",
            floats(&|row| (mixed(row) % 10_000) as f64 / 10_000.0),
            14,
        ),
        (
            "single",
            floats(&|row| f64::from(f32::from_bits(0x3f00_0000 | mixed(row) as u32 >> 9))),
            32,
        ),
        (
            "any",
            floats(&|row| 0.5 + (mixed(row) >> 12) as f64 / (1_u64 << 53) as f64),
            52,
        ),
        (
            "times",
            (
                FieldType::Time,
                Arc::new(times.with_timezone("UTC")) as ArrayRef,
            ),
            0,
        ),
    ];
    for (name, (ty, array), bits) in cases {
        let mut out = Vec::new();
        pack_column(ty, &array, &mut out);
        let most = bits * ROWS as usize / 8 + 60;
        assert!(out.len() <= most, "{name}: {} bytes, not {most}", out.len());
    }
}

#[test]
fn rows_that_pack_too_well_are_not_packed() {
    let text = "the same thousand bytes ".repeat(42);
    let values = StringArray::from_iter_values(std::iter::repeat_n(text, 10_000));
    let table = table(FieldType::Text, Arc::new(values));
    assert!(pack(&[table]).is_none());
}

#[test]
fn forged_sizes_are_refused_before_anything_is_allocated() {
    let forged = |memory: u32, rows: u32, kind: Kind, mask: u64, column: &[u8]| {
        let mut out = Vec::new();
        put_u32(&mut out, memory);
        out.push(kind.number());
        put_u32(&mut out, rows);
        put_u64(&mut out, mask);
        out.extend_from_slice(column);
        unpack(&out)
    };
    let metric = Kind::MetricLogged;
    assert!(
        forged(4_000, 0xffff_ffff, metric, 1, &[0, 0, 0]).is_err(),
        "rows without room"
    );
    assert!(
        forged(0xffff_fff0, 0x3fff_fffc, metric, 1, &[0, 0, 0]).is_err(),
        "more than the ratio"
    );
    assert!(
        forged(0, 0xffff_ffff, metric, 0, &[]).is_err(),
        "rows without columns"
    );
    assert!(
        forged(16, 4, metric, 1 << 63, &[0, 0, 0]).is_err(),
        "no such column"
    );
    assert!(
        forged(16, 4, metric, 1, &[0, 0, 0]).is_ok(),
        "four places, all 0"
    );
    assert!(
        forged(16, 4, metric, 1, &[0, 65, 0, 1, 2, 3]).is_err(),
        "65 bits"
    );
    assert!(
        forged(16, 4, metric, 1, &[0, 0, 1]).is_err(),
        "a place below 0"
    );
    assert!(
        forged(17, 4, metric, 1, &[0, 0, 0]).is_err(),
        "less memory than stated"
    );
    assert!(
        forged(16, 4, metric, 1, &[2, 0, 0]).is_err(),
        "neither nulls nor none"
    );
    // The column `id`: a beginning that all of the rows have.
    let id = 1 << schema::ID;
    let long = [&[0, 2, 5][..], b"abcde", &[0, 0, 0, 0]].concat();
    assert!(forged(20 + 20, 4, metric, id, &long).is_ok(), "it has room");
    assert!(
        forged(20 + 19, 4, metric, id, &long).is_err(),
        "it has none"
    );
    let broken = [&[0, 2, 1][..], &[0xff], &[0, 0, 0, 0]].concat();
    assert!(
        forged(20 + 4, 4, metric, id, &broken).is_err(),
        "text that is none"
    );
}

#[test]
fn a_column_of_nulls_comes_back() {
    for ty in [
        FieldType::Text,
        FieldType::Int,
        FieldType::Float,
        FieldType::Bool,
        FieldType::Bytes,
    ] {
        let table = table(ty, new_null_array(&ty.data_type(), 9));
        let packed = pack(std::slice::from_ref(&table)).unwrap();
        assert_same(&unpack(&packed).unwrap(), &[table]);
    }
}
