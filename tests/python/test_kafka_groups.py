"""Several instances in one group, each with stores of its own: partitions move between them while messages come."""

import random
import signal
import time
from contextlib import contextmanager

import pytest

from conftest import PATIENCE, caught_up
from kafka_reader import (
    QUICK,
    Reader,
    assert_complete,
    assert_in_order,
    by_partition,
    logged,
    read_to_the_end,
    stored,
)
from kafka_support import Kafka, Load, Numbered, wait_for


@pytest.fixture
def instances(tmp_path, kafka, topic) -> list[Reader]:
    """Three that are not started. They hear of one another in a third of the time-out."""
    return [Reader(tmp_path / name, kafka, topic, session_timeout="4s") for name in "abc"]


def running(instances: list[Reader]) -> list[Reader]:
    return [instance for instance in instances if instance.process and instance.process.poll() is None]


def share(instances: list[Reader], partitions: int) -> None:
    """Waits until all that run have partitions, and together all of them."""
    alive = running(instances)

    def shared() -> bool:
        assigned = [instance.partitions().keys() for instance in alive]
        # None of them twice.
        return all(assigned) and sum(map(len, assigned)) == len(set().union(*assigned)) == partitions

    alive[0].wait(f"{len(alive)} instances to share {partitions} partitions", shared)


def everything(instances: list[Reader], topic: str) -> list[str]:
    """What is in the logs together. Each one alone is in order, and its tables have what it has."""
    ids = []
    for instance in instances:
        own = logged(instance, topic)
        assert_in_order(own)
        caught_up(instance)
        assert stored(instance, topic) == own
        ids += own
    return ids


def test_coming_and_going_in_order(kafka: Kafka, topic, instances, seed):
    """The logs together have every message once. Without names in the group, partitions move as soon as one leaves."""
    random_ = random.Random(seed)
    for instance in instances:
        instance.configure(group_instance_id="")
    produced = Numbered(kafka, kafka.topic(topic, partitions=6), 6)
    first, second, third = instances
    with Load(produced, 3000):
        for joins in (first, second, third):
            joins.start()
            share(instances, 6)
        for moves in (second, first, third):
            time.sleep(random_.random())
            assert moves.stop() == 0
            share(instances, 6)
            time.sleep(random_.random())
            moves.start()
            share(instances, 6)
    read_to_the_end(instances, topic)
    assert_complete(everything(instances, topic), produced.sent)
    rebalances = [instance.source()["rebalances"] for instance in instances]
    assert all(count > 0 for count in rebalances), rebalances


def test_all_at_once(kafka: Kafka, topic, instances):
    """Three that start together, and leave together, while messages come. The group waits for those that it knows by
    name before it gives their partitions away."""
    produced = Numbered(kafka, kafka.topic(topic, partitions=6), 6)
    with Load(produced, 3000):
        for _ in range(2):
            for instance in instances:
                instance.begin()
            for instance in instances:
                instance.listens()
            share(instances, 6)
            for instance in instances[1:]:
                instance.stop()
            share(instances, 6)
            assert instances[0].stop() == 0
    for instance in instances:
        instance.start()
    share(instances, 6)
    read_to_the_end(instances, topic)
    assert_complete(everything(instances, topic), produced.sent)


def test_there_and_back_is_not_read_twice(kafka: Kafka, topic, instances):
    """A partition goes from one to another and back, with messages at each."""
    first, second, _ = instances
    for instance in (first, second):
        instance.configure(group_instance_id="")
    produced = Numbered(kafka, kafka.topic(topic, partitions=2), 2)
    turns: list[list[str]] = []
    for turn in range(4):
        reader = (first, second)[turn % 2]
        reader.start()
        before = logged(reader, topic)
        produced.send(500)
        reader.is_at_end()
        turns.append(logged(reader, topic)[len(before) :])
        assert reader.stop() == 0
    for turn, ids in enumerate(turns):
        expected = list(range(500 * turn, 500 * turn + 500))
        assert by_partition(ids) == {0: expected, 1: expected}


@contextmanager
def joining(kafka: Kafka, topic: str, instances: list[Reader]):
    """The third instance joins the group of the first two, and the group waits for the second, which is stopped. The first
    has asked to join again and reads on; its partitions have messages, and no others."""
    first, second, third = instances
    for instance in instances:
        instance.configure(group_instance_id="")
    produced = Numbered(kafka, kafka.topic(topic, partitions=6), 0)
    for instance in (first, second):
        instance.start()
        share(instances, 6)
    produced.sent = {partition: 0 for _, partition in first.partitions()}
    with Load(produced, 3000):
        second.process.send_signal(signal.SIGSTOP)
        third.start()
        wait_for("the group to be joined", lambda: "PREPARING" in kafka.state(first.group))
        # The first hears of it in a third of the time-out.
        time.sleep(2)
        yield produced


def test_nothing_is_committed_while_one_joins(kafka: Kafka, topic, instances, monkeypatch):
    """It would be refused, and librdkafka may take that for a sign that every partition is lost: others then read again what
    was not committed. Its log tells what was refused."""
    first, second, _ = instances
    first.configure(properties={**QUICK, "debug": "cgrp"})
    monkeypatch.setenv("MODELOG_LOGGING__FILTER", "info,modelog_kafka=debug")
    with joining(kafka, topic, instances) as produced:
        second.process.send_signal(signal.SIGCONT)
        share(instances, 6)
    read_to_the_end(instances, topic)
    said = [line for line in first.said().splitlines() if "OffsetCommit for" in line]
    assert [line for line in said if "Success" in line]
    refused = [line for line in said if "Success" not in line]
    assert not refused, f"{len(refused)} of {len(said)}: {refused[0]}"
    assert_complete(everything(instances, topic), produced.sent)


def test_one_leaves_while_another_joins(kafka: Kafka, topic, instances):
    """What it read can be committed only when the other is in; it waits for that."""
    first, second, _ = instances
    with joining(kafka, topic, instances) as produced:
        first.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        second.process.send_signal(signal.SIGCONT)
        assert first.process.wait(PATIENCE) == 0
        share(instances, 6)
    first.start()
    share(instances, 6)
    read_to_the_end(instances, topic)
    assert_complete(everything(instances, topic), produced.sent)


def test_what_one_had_committed_before_it_was_lost(kafka: Kafka, topic, instances):
    """The group is empty when it comes back: nothing that it still knows moves positions back behind the other's."""
    first, second, _ = instances
    for instance in (first, second):
        instance.configure(group_instance_id="")
    produced = Numbered(kafka, kafka.topic(topic, partitions=2), 2)
    first.start()
    produced.send(500)
    first.is_at_end()
    first.commits(topic)
    first.process.send_signal(signal.SIGSTOP)
    second.start()
    share([second], 2)
    produced.send(500)
    second.is_at_end()
    assert second.stop() == 0
    first.process.send_signal(signal.SIGCONT)
    produced.send(500)
    first.is_at_end()
    second.start()
    share([first, second], 2)
    assert_complete(everything([first, second], topic), produced.sent)


def test_one_is_killed(kafka: Kafka, topic, instances):
    """What it had and had not committed is read again by another; nothing is lost, and no log has anything twice."""
    produced = Numbered(kafka, kafka.topic(topic, partitions=4), 4)
    first, second, _ = instances
    for instance in (first, second):
        instance.configure(commit_interval="1s")
        instance.start()
    with Load(produced, 3000):
        share(instances, 4)
        time.sleep(0.7)
        first.kill()
        # The other one takes over when the dead one is missed.
        share(instances, 4)
        read_to_the_end([second], topic)
        first.start()
        share(instances, 4)
    read_to_the_end([first, second], topic)
    assert_complete(everything([first, second], topic), produced.sent, once=False)


def test_a_paused_instance_that_lost_its_partitions(kafka: Kafka, topic, instances):
    """It was away for longer than the group waits and does not know: what it still does is fenced off."""
    produced = Numbered(kafka, kafka.topic(topic, partitions=4), 4)
    first, second, _ = instances
    for instance in (first, second):
        instance.start()
    share(instances, 4)
    with Load(produced, 3000):
        time.sleep(0.5)
        first.process.send_signal(signal.SIGSTOP)
        second.wait("all partitions", lambda: len(second.partitions()) == 4)
        read_to_the_end([second], topic)
        first.process.send_signal(signal.SIGCONT)
        share(instances, 4)
    read_to_the_end([first, second], topic)
    assert_complete(everything([first, second], topic), produced.sent, once=False)
