//! What a reader of `*.parquet` finds in a directory, with or without a process that writes there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use modelog_engine::sim::SimStorage;
use modelog_parquet::layout::FileName;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Rows by kind, in the order of files.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Of events.
    pub(crate) offsets: BTreeSet<u64>,
    pub(crate) files: Vec<PathBuf>,
    /// As text, by kind.
    pub(crate) rows: BTreeMap<String, HashSet<String>>,
}

/// Reads all files a glob finds: each must be whole, and none may show an event that another one shows.
pub(crate) fn read(disk: &SimStorage, root: &Path) -> Found {
    let mut found = Found::default();
    for path in disk.files(root).unwrap_or_default() {
        if path
            .extension()
            .is_none_or(|extension| extension != "parquet")
        {
            continue;
        }
        let name = FileName::parse(path.strip_prefix(root).unwrap()).expect("a name of ours");
        let seen = found.rows.entry(name.kind.name().to_owned()).or_default();
        let mut last = None;
        for batch in batches(disk, &path) {
            let offsets = batch
                .column_by_name("log_offset")
                .expect("rows have offsets");
            for (row, offset) in offsets
                .as_primitive::<Int64Type>()
                .values()
                .iter()
                .enumerate()
            {
                let offset = *offset as u64;
                assert!(
                    (name.first.0..name.end.0).contains(&offset),
                    "{offset} in {}",
                    path.display()
                );
                assert!(last <= Some(offset), "out of order in {}", path.display());
                last = Some(offset);
                let text = format!("{:?}", batch.slice(row, 1).columns());
                assert!(
                    seen.insert(text),
                    "a row of {} is there twice",
                    path.display()
                );
                if name.kind.is_events() {
                    assert!(
                        found.offsets.insert(offset),
                        "event {offset} is there twice"
                    );
                }
            }
        }
        assert_eq!(last, Some(name.end.0 - 1), "{}", path.display());
        found.files.push(path);
    }
    found
}

fn batches(disk: &SimStorage, path: &Path) -> Vec<arrow_array::RecordBatch> {
    let bytes = bytes::Bytes::from(disk.read(path).unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|reader| reader.build());
    let batches = reader.map(|reader| reader.collect::<Result<Vec<_>, _>>());
    match batches {
        Ok(Ok(batches)) => batches,
        Ok(Err(error)) => panic!("{}: {error}", path.display()),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
