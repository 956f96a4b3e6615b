"""Brokers that are away, come back, and hand over to one another."""

import re
import signal
import time

import pytest

from conftest import caught_up
from kafka_broker import Broker, pair
from kafka_reader import QUICK, Reader, assert_exactly_once
from kafka_support import Kafka, Load, Numbered, wait_for


def works(reader: Reader, id: str) -> None:
    """Everything but the source."""
    event = f'{{"type": "PredictionLogged", "id": "{id}", "model": "m", "version": "v", "output": 1}}'
    answer = reader.post(event, "application/json")
    assert answer.status_code == 200, answer.text
    caught_up(reader)
    assert reader.get("/healthz").status_code == 200


def lines_about(reader: Reader) -> list[str]:
    """Warnings and errors that name Kafka, without colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", reader.said())
    return [line for line in plain.splitlines() if re.search(r"\b(WARN|ERROR)\b", line) and "kafka" in line.lower()]


@pytest.fixture(scope="module")
def restless(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("restless") / "broker")
    yield broker
    broker.kill()


@pytest.fixture
def own_kafka(restless):
    """A broker that a test may stop and kill, and that is there again for the next one."""
    if restless not in Broker.running:
        restless.start()
    yield Kafka(restless)
    if restless in Broker.running:
        restless.signal(signal.SIGCONT)


@pytest.fixture
def absent(tmp_path):
    """A broker that was not started yet."""
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.kill()


def test_a_broker_that_is_down_at_the_start(tmp_path, absent, topic):
    kafka = Kafka(absent)
    reader = Reader(tmp_path / "data", kafka, topic).start()
    reader.wait("to be missed", reader.degraded)
    reader.wait("the reason", lambda: reader.source()["reason"])
    source = reader.source()
    assert (source["state"], source["cluster"]) == ("connecting", None)
    assert absent.address() in source["reason"]
    works(reader, "meanwhile-1")
    # Several attempts later it still has said so once.
    time.sleep(5)
    works(reader, "meanwhile-2")
    (line,) = lines_about(reader)
    assert absent.address() in line, line
    absent.start()
    produced = Numbered(kafka, kafka.topic(topic))
    produced.send(100)
    reader.wait("the topic", lambda: (topic, 0) in reader.partitions())
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    reader.wait("to be well", lambda: reader.degraded() == [])
    assert reader.source()["cluster"] == absent.cluster


def test_an_end_while_no_broker_was_there_yet(tmp_path, absent, topic):
    reader = Reader(tmp_path / "data", Kafka(absent), topic).start()
    works(reader, "one")
    assert reader.stop() == 0


def test_a_broker_that_goes_and_comes_back(tmp_path, own_kafka: Kafka, topic):
    (broker,) = own_kafka.brokers
    produced = Numbered(own_kafka, own_kafka.topic(topic, partitions=3), 3)
    reader = Reader(tmp_path / "data", own_kafka, topic).start()
    with Load(produced, 2000):
        for turn, end in enumerate((broker.stop, broker.kill)):
            read = reader.metric("modelog_kafka_messages_total", group=topic)
            reader.wait("messages", lambda: reader.metric("modelog_kafka_messages_total", group=topic) > read + 500)
            end()
            before = len(lines_about(reader))
            reader.wait("to be missed", reader.degraded)
            works(reader, f"{turn}")
            time.sleep(2)
            assert len(lines_about(reader)) - before <= 1, lines_about(reader)
            broker.start()
            reader.wait("to be well", lambda: reader.degraded() == [])
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    assert reader.commits(topic) == own_kafka.ends(topic)
    assert 1 <= len(lines_about(reader)) <= 4, lines_about(reader)


def test_an_end_while_the_broker_is_away(tmp_path, own_kafka: Kafka, topic):
    """It ends all the same, and what it could not commit it knows from its log."""
    (broker,) = own_kafka.brokers
    produced = Numbered(own_kafka, own_kafka.topic(topic))
    reader = Reader(tmp_path / "data", own_kafka, topic, commit_interval="10m").start()
    produced.send(500)
    reader.is_at_end()
    broker.kill()
    assert reader.stop() == 0
    broker.start()
    produced.send(500)
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)


def test_a_broker_that_hangs(tmp_path, own_kafka: Kafka, topic):
    """Its connections stand, and nothing comes."""
    (broker,) = own_kafka.brokers
    produced = Numbered(own_kafka, own_kafka.topic(topic, partitions=2), 2)
    reader = Reader(tmp_path / "data", own_kafka, topic, properties={**QUICK, "socket.timeout.ms": "3000"}).start()
    produced.send(500)
    reader.is_at_end()
    broker.signal(signal.SIGSTOP)
    reader.wait("to be missed", reader.degraded)
    works(reader, "meanwhile")
    broker.signal(signal.SIGCONT)
    produced.send(500)
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    reader.wait("to be well", lambda: reader.degraded() == [])


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    brokers = pair(tmp_path_factory.mktemp("two"))
    yield brokers
    for broker in brokers:
        broker.kill()


@pytest.fixture
def two(nodes):
    """Two nodes, of which a test may kill the second."""
    _, second = nodes
    if second not in Broker.running:
        second.start()
    return Kafka(*nodes)


def test_partitions_get_another_leader(tmp_path, two: Kafka, topic):
    _, second = two.brokers
    produced = Numbered(two, two.topic(topic, partitions=4), 4)
    reader = Reader(tmp_path / "data", two, topic).start()

    def goes_on() -> None:
        before = reader.metric("modelog_kafka_messages_total", group=topic)
        reader.wait("to go on", lambda: reader.metric("modelog_kafka_messages_total", group=topic) > before + 1000)

    with Load(produced, 2000):
        assert set(two.leaders(topic).values()) == {1, 2}
        reader.wait("all partitions", lambda: len(reader.partitions()) == 4)
        goes_on()
        second.kill()
        wait_for("other leaders", lambda: set(two.leaders(topic).values()) == {1})
        goes_on()
        # And back, in order.
        second.start()
        two.balance(topic, 4)
        goes_on()
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    assert reader.events("SourceGapRecorded") == []
    assert reader.commits(topic) == two.ends(topic)
    reader.wait("to be well", lambda: reader.degraded() == [])


def test_a_partition_that_nobody_leads(tmp_path, two: Kafka, topic):
    """It has more and gives nothing: that is said, and the other one goes on."""
    _, second = two.brokers
    produced = Numbered(two, two.topic(topic, partitions=2, nodes=[1, 2]), 2)
    count = 300_000
    produced.send(count)
    reader = Reader(tmp_path / "data", two, topic, buffer_bytes="1MiB", stall_time="3s").start()
    # Stopped in the midst of it, so that it still has to fetch when it goes on: what is looked at must not take long.
    reader.wait("some of both", lambda: reader.metric("modelog_kafka_messages_total", group=topic) > 10_000)
    reader.process.send_signal(signal.SIGSTOP)
    second.kill()
    wait_for("no leader", lambda: two.leaders(topic).keys() == {0})
    reader.process.send_signal(signal.SIGCONT)
    reader.wait("the other one", lambda: reader.partition(0).get("position") == count)
    reader.wait("a stall", lambda: reader.partition(1).get("state") in ("stalled", "waiting"))
    reader.wait("the reason", lambda: reader.partition(1)["reason"] or reader.source()["reason"])
    assert reader.degraded()
    second.start()
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    reader.wait("to be well", lambda: reader.degraded() == [])
