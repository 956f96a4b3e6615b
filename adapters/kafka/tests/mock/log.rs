//! Logs that fail, end and come back.

use std::path::Path;
use std::sync::Arc;

use modelog_engine::sim::SimStorage;
use modelog_engine::sources::{PartitionState, SourceState};
use modelog_engine::{Config, Engine, Foundations};

use crate::cluster::{Cluster, assert_exactly_once, start, wait, wait_for_events};

const FEW: u64 = 4000;

fn open(storage: &SimStorage) -> Engine {
    let mut config = Config::new("/var/data");
    config.log.reserve_bytes = 0;
    config.log.segment_bytes = 64 << 10;
    let foundations = Foundations {
        storage: Arc::new(storage.clone()),
        ..Foundations::default()
    };
    Engine::open_on(config, foundations).unwrap()
}

/// What a full disk did not take is read again once there is space.
#[test]
fn a_full_disk_is_waited_for_and_nothing_is_left_out() {
    let cluster = Cluster::new(1);
    let storage = SimStorage::new(7);
    let engine = open(&storage);
    cluster.produce(0..FEW);
    let source = start(&engine, cluster.config());
    wait_for_events(&engine, &source, FEW);
    storage.set_capacity_bytes(Some(storage.used_bytes() + (4 << 10)));
    cluster.produce(FEW..6 * FEW);
    wait("reading is paused", || {
        let status = source.status();
        let mut partitions = status.partitions.iter();
        partitions.any(|partition| partition.state == PartitionState::Paused)
    });
    storage.set_capacity_bytes(None);
    wait_for_events(&engine, &source, 6 * FEW);
    source.stop();
    assert_exactly_once(&engine, 0..6 * FEW);
}

/// A log that ends in the middle of it all, as in a crash, and the next one: the positions are those of the events.
#[test]
fn a_log_that_ends_in_between_is_gone_on_with() {
    let cluster = Cluster::new(1);
    let storage = SimStorage::new(8);
    cluster.produce(0..5 * FEW);
    for life in 1..=5 {
        let engine = open(&storage);
        let source = start(&engine, cluster.config());
        wait_for_events(&engine, &source, life * FEW);
        engine.close_blocking().unwrap();
        if life * FEW < 5 * FEW && source.status().state != SourceState::Failed {
            wait("it says that the log is closed", || {
                let state = source.status().state;
                // Everything may have been read before the log was closed.
                state == SourceState::Failed || engine.tail().0 == 5 * FEW
            });
        }
    }
    let engine = open(&storage);
    assert_exactly_once(&engine, 0..5 * FEW);
}

/// A log that lost what it had, and the group that believes it has it: the log is believed.
#[test]
fn a_restored_log_reads_again_what_it_lost() {
    let cluster = Cluster::new(1);
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path().join("data")).unwrap();
    cluster.produce(0..FEW);
    read_and_close(&cluster, engine, FEW);
    let restored = directory.path().join("restored");
    copy(&directory.path().join("data"), &restored);
    cluster.produce(FEW..2 * FEW);
    let engine = Engine::open(directory.path().join("data")).unwrap();
    read_and_close(&cluster, engine, 2 * FEW);
    let engine = Engine::open(&restored).unwrap();
    assert_eq!(engine.tail().0, FEW);
    let source = start(&engine, cluster.config());
    wait_for_events(&engine, &source, 2 * FEW);
    source.stop();
    assert_exactly_once(&engine, 0..2 * FEW);
}

fn read_and_close(cluster: &Cluster, engine: Engine, events: u64) {
    let source = start(&engine, cluster.config());
    wait_for_events(&engine, &source, events);
    source.stop();
    engine.close_blocking().unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
