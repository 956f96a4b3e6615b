"""What a topic no longer has, and topics that are made anew: said, and passed over only where that is allowed."""

import signal

import pytest
from confluent_kafka.admin import OffsetSpec

from kafka_reader import Reader, assert_exactly_once, assert_in_order, by_partition, logged
from kafka_support import Kafka, Numbered, wait_for


@pytest.fixture
def reader(tmp_path, kafka, topic):
    return Reader(tmp_path / "data", kafka, topic, group_instance_id="")


def gaps(reader: Reader) -> list[dict]:
    return reader.events("SourceGapRecorded")


def halts(reader: Reader, topic: str, partition: int = 0) -> dict:
    """Waits until a partition is halted, and gives what is said of it; there, in `/readyz`, and in a line of the log."""
    told = reader.wait(
        "a halt",
        lambda: (place := reader.partitions().get((topic, partition))) and place["state"] == "halted" and place,
    )
    assert told["reason"]
    assert reader.source()["state"] == "degraded"
    assert len(reader.degraded()) == 1
    lines = [line for line in reader.said().splitlines() if topic in line and "ERROR" in line]
    assert len(lines) == 1, "\n".join(lines)
    return told


@pytest.mark.parametrize("position", ["from its log", "from the group's commit"])
def test_retention_passed_our_position_while_we_were_away(kafka: Kafka, topic, reader: Reader, tmp_path, position):
    produced = Numbered(kafka, kafka.topic(topic, partitions=2), 2)
    produced.send(20)
    reader.start().is_at_end()
    reader.commits(topic)
    assert reader.stop() == 0
    produced.send(80)
    kafka.delete_before(topic, 50)
    if position == "from the group's commit":
        reader = Reader(tmp_path / "other", kafka, topic, group_instance_id="")
    had = [] if "commit" in position else list(range(20))
    reader.start()
    told = halts(reader, topic)
    assert "20" in told["reason"] and "50" in told["reason"], told
    # The other partition goes on, and the halted one says nothing more.
    produced.send(20)
    reader.wait("the other partition", lambda: reader.partitions()[topic, 1]["position"] == 120)
    assert by_partition(logged(reader, topic)).get(0, []) == had
    assert gaps(reader) == []
    # A start does not change that, nor does a position that was not ours get committed.
    assert reader.stop() == 0
    assert kafka.committed(topic, topic)[0][0] == 20
    reader.start()
    halts(reader, topic)
    assert reader.stop() == 0

    reader.configure(on_gap="skip")
    reader.start().is_at_end()
    (gap,) = gaps(reader)
    assert gap["source"] == f"kafka:{kafka.cluster}/{topic}"
    assert (gap["partition"], gap["from_position"], gap["to_position"]) == (0, 20, 50)
    assert gap["reason"]
    assert by_partition(logged(reader, topic))[0] == [*had, *range(50, 120)]
    assert reader.degraded() == []
    # It is recorded once.
    assert reader.stop() == 0
    reader.start().is_at_end()
    assert len(gaps(reader)) == 1
    assert reader.commits(topic) == {0: 120, 1: 120}


@pytest.mark.parametrize("on_gap", ["halt", "skip"])
def test_retention_passes_our_position_while_we_run(kafka: Kafka, topic, reader: Reader, on_gap):
    produced = Numbered(kafka, kafka.topic(topic))
    reader.configure(on_gap=on_gap, session_timeout="5m")
    produced.send(20)
    reader.start().is_at_end()
    # It stands still, and meanwhile more comes than it has already been sent; most of that goes again.
    reader.process.send_signal(signal.SIGSTOP)
    produced.send(60_000)
    kafka.delete_before(topic, 59_000)
    reader.process.send_signal(signal.SIGCONT)
    if on_gap == "halt":
        told = halts(reader, topic)
        have = by_partition(logged(reader, topic))[0]
        assert have == list(range(len(have))) and len(have) < 59_000
        assert told["position"] == len(have), told
        assert gaps(reader) == []
        return
    reader.is_at_end()
    (gap,) = gaps(reader)
    have = by_partition(logged(reader, topic))[0]
    assert have == [*range(gap["from_position"]), *range(gap["to_position"], 60_020)]
    assert (gap["to_position"], gap["partition"]) == (59_000, 0)


def test_a_first_start_has_no_gap(kafka: Kafka, topic, reader: Reader):
    """What was gone before anybody read is not missed."""
    produced = Numbered(kafka, kafka.topic(topic))
    produced.send(100)
    kafka.delete_before(topic, 40)
    assert kafka.offsets(topic, OffsetSpec.earliest()) == {0: 40}
    reader.start().is_at_end()
    assert by_partition(logged(reader, topic)) == {0: list(range(40, 100))}
    assert gaps(reader) == []


@pytest.mark.parametrize("count", [10, 300], ids=["shorter", "longer"])
@pytest.mark.parametrize("away", [True, False], ids=["away", "running"])
@pytest.mark.parametrize("on_gap", ["halt", "skip"])
def test_a_topic_that_is_made_anew(kafka: Kafka, topic, reader: Reader, on_gap, away, count):
    """Its positions mean other messages now, also where it has one of that number again."""
    kafka.topic(topic)
    first = Numbered(kafka, topic)
    first.send(100)
    reader.configure(on_gap=on_gap)
    reader.start().is_at_end()
    if away:
        assert reader.stop() == 0
    kafka.delete(topic)
    kafka.topic(topic)
    anew = [{**first.event_of(1, number), "version": "anew"} for number in range(count)]
    kafka.send(topic, anew)
    if away:
        reader.start()
    if on_gap == "halt":
        halts(reader, topic)
        assert by_partition(logged(reader, topic)) == {0: list(range(100))}
        assert gaps(reader) == []
        assert reader.stop() == 0
        reader.configure(on_gap="skip")
        reader.start()
    wait_for("the new topic", lambda: len(by_partition(logged(reader, topic)).get(1, [])) >= count, reader.said)
    reader.is_at_end()
    assert by_partition(logged(reader, topic)) == {0: list(range(100)), 1: list(range(count))}
    (gap,) = gaps(reader)
    assert (gap["partition"], gap["from_position"], gap["to_position"]) == (0, 100, 0)
    assert gap["source"] == f"kafka:{kafka.cluster}/{topic}"
    assert reader.stop() == 0
    # From there on it goes on as usual.
    anew = [{**first.event_of(1, number), "version": "anew"} for number in range(count, count + 20)]
    kafka.send(topic, anew)
    reader.start().is_at_end()
    assert by_partition(logged(reader, topic))[1] == list(range(count + 20))
    assert len(gaps(reader)) == 1


def test_a_topic_that_is_deleted_and_stays_away(kafka: Kafka, topic, reader: Reader, tmp_path):
    """It is missed, and holds up no other topic."""
    kafka.topic(topic)
    beside = Numbered(kafka, kafka.topic(f"{topic}-beside"))
    produced = Numbered(kafka, topic)
    produced.send(20)
    reader.configure(topics=[topic, beside.topic])
    reader.start().is_at_end()
    kafka.delete(topic)
    beside.send(50)
    reader.is_at_end(beside.topic)
    reader.wait("to be missed", reader.degraded)
    assert topic in str(reader.source()["reason"]) or reader.partitions().get((topic, 0), {}).get("reason")
    beside.send(50)
    reader.is_at_end(beside.topic)
    assert_exactly_once(reader, beside)
    assert_exactly_once(reader, produced)


def test_a_topic_that_comes_later(kafka: Kafka, topic, reader: Reader):
    reader.start()
    reader.wait("to be missed", lambda: reader.degraded() and topic in str(reader.source()["reason"]))
    produced = Numbered(kafka, kafka.topic(topic, partitions=2), 2)
    produced.send(50)
    reader.wait("the topic", lambda: len(reader.partitions()) == 2)
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    reader.wait("to be well", lambda: reader.degraded() == [])


def test_a_log_that_is_ahead_of_the_topic(kafka: Kafka, topic, reader: Reader):
    """The end of a topic lies before our position: what was there once is not there any more."""
    produced = Numbered(kafka, kafka.topic(topic))
    produced.send(100)
    reader.start().is_at_end()
    assert reader.stop() == 0
    kafka.delete(topic)
    kafka.topic(topic)
    reader.start()
    halts(reader, topic)
    ids = logged(reader, topic)
    assert_in_order(ids)
    assert len(ids) == 100
