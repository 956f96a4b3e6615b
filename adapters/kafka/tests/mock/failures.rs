//! Brokers that fail.

use std::time::Duration;

use modelog_engine::sources::SourceState;
use modelog_engine::{Engine, Offset};
use rdkafka::mocking::MockCoordinator;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Error};

use crate::cluster::{
    Cluster, PARTITIONS, TOPIC, assert_exactly_once, committed, start, wait, wait_for_events,
};

const FEW: u64 = 4000;

/// Reads a first part, lets something go wrong, and sees that the rest comes, once.
fn survives(cluster: &Cluster, wrong: impl FnOnce(&Cluster)) {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path().join("data")).unwrap();
    cluster.produce(0..FEW);
    let source = start(&engine, cluster.config());
    wait_for_events(&engine, &source, FEW);
    wrong(cluster);
    cluster.produce(FEW..3 * FEW);
    wait_for_events(&engine, &source, 3 * FEW);
    wait("the group has all of it", || {
        committed(&source.status()) == 3 * FEW as i64
    });
    source.stop();
    assert_exactly_once(&engine, 0..3 * FEW);
    assert_eq!(source.status().state, SourceState::Stopped);
}

#[test]
fn whoever_sees_an_event_sees_that_it_is_read() {
    let cluster = Cluster::new(1);
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path().join("data")).unwrap();
    cluster.produce(0..FEW);
    let source = start(&engine, cluster.config());
    wait("the first event", || engine.tail() > Offset(0));
    let status = source.status();
    assert_eq!(status.state, SourceState::Running, "{status:#?}");
    assert_eq!(status.partitions.len(), PARTITIONS as usize, "{status:#?}");
    source.stop();
}

#[test]
fn everything_is_read_once_when_nothing_fails() {
    survives(&Cluster::new(1), |_| ());
}

#[test]
fn fetches_that_fail_are_made_again() {
    survives(&Cluster::new(1), |cluster| {
        cluster.mock.request_errors(
            Api::Fetch,
            &[
                Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                Error::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
                Error::RD_KAFKA_RESP_ERR__TRANSPORT,
                Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
                Error::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
            ],
        );
    });
}

/// A broker that says a position is out of range makes librdkafka put the partition down; it must not stay there, nor be
/// read from somewhere else.
#[test]
fn a_position_that_is_held_after_all_is_gone_on_from() {
    survives(&Cluster::new(1), |cluster| {
        cluster.mock.request_errors(
            Api::Fetch,
            &[Error::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE; 3],
        );
    });
}

#[test]
fn commits_that_fail_are_made_again() {
    survives(&Cluster::new(1), |cluster| {
        cluster.mock.request_errors(
            Api::OffsetCommit,
            &[
                Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
                Error::RD_KAFKA_RESP_ERR__TRANSPORT,
                Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            ],
        );
    });
}

/// Thrown out of the group, a member joins again and goes on where its log stands.
#[test]
fn a_member_that_is_thrown_out_comes_back() {
    survives(&Cluster::new(1), |cluster| {
        cluster.mock.request_errors(
            Api::Heartbeat,
            &[
                Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
                Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
                Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            ],
        );
    });
}

#[test]
fn the_group_and_partitions_move_to_other_brokers() {
    survives(&Cluster::new(3), |cluster| {
        let group = MockCoordinator::Group("modelog".into());
        cluster.mock.coordinator(group, 3).unwrap();
        for partition in 0..PARTITIONS {
            let leader = Some(1 + partition % 2);
            cluster
                .mock
                .partition_leader(TOPIC, partition, leader)
                .unwrap();
        }
    });
}

#[test]
fn brokers_that_go_away_are_waited_for() {
    let cluster = Cluster::new(1);
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path().join("data")).unwrap();
    cluster.mock.broker_down(1).unwrap();
    let source = start(&engine, cluster.config());
    wait("it says that nobody is there", || {
        let status = source.status();
        status.state == SourceState::Connecting && status.reason.is_some()
    });
    cluster.mock.broker_up(1).unwrap();
    cluster.produce(0..FEW);
    wait_for_events(&engine, &source, FEW);
    cluster.mock.broker_down(1).unwrap();
    wait("it says that nobody is there any more", || {
        source.status().state == SourceState::Connecting
    });
    std::thread::sleep(Duration::from_millis(300));
    cluster.mock.broker_up(1).unwrap();
    cluster.produce(FEW..2 * FEW);
    wait_for_events(&engine, &source, 2 * FEW);
    wait("it runs", || source.status().state == SourceState::Running);
    // Nobody is there to be told when it ends.
    cluster.mock.broker_down(1).unwrap();
    source.stop();
    assert_exactly_once(&engine, 0..2 * FEW);
}
