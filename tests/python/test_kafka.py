"""What is in a topic is in the log: whoever produced it, however it was compressed, with a position for everything."""

import json

import pytest

from conftest import caught_up
from kafka_reader import Reader, assert_complete, assert_exactly_once, by_partition, logged, modelog
from kafka_support import CODECS, Kafka, Numbered, as_bytes, flush, produce, wait_for


@pytest.fixture
def reader(tmp_path, kafka, topic):
    """Reads the test's topic, once it is started."""
    return Reader(tmp_path / "data", kafka, topic)


def test_every_codec_and_producer(kafka: Kafka, topic, reader: Reader):
    kafka.topic(topic, partitions=2 * len(CODECS) + 1)
    produced = Numbered(kafka, topic, 2 * len(CODECS) + 1)
    for at, codec in enumerate(CODECS):
        produced.send(200, 2 * at, compression_type=codec, enable_idempotence=True)
        # kcat sends a line a message: a key, headers, and more than one batch.
        lines = [b"key:" + as_bytes(produced.event(2 * at + 1)) for _ in range(200)]
        options = ["-z", codec, "-K", ":", "-H", "trace=4bf92f", "-H", "empty=", "-X", "batch.num.messages=50"]
        kafka.kcat("-P", "-t", topic, "-p", str(2 * at + 1), *options, input=b"\n".join(lines))
    producer = kafka.producer(transactional_id=topic, compression_type="zstd")
    producer.init_transactions()
    for _ in range(4):
        producer.begin_transaction()
        for _ in range(50):
            event = produced.event(2 * len(CODECS))
            produce(producer, topic, event, 2 * len(CODECS), key=b"\xff\x00", headers=[("h", None), ("h", b"\xfe")])
        producer.commit_transaction()
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)
    assert reader.metric("modelog_ingest_events_total", source="kafka", kind="PredictionLogged") == 200 * 11
    assert reader.metric("modelog_kafka_messages_total", group=topic, topic=topic) == 200 * 11
    values = sum(len(as_bytes(produced.event_of(partition, n))) for partition in produced.sent for n in range(200))
    assert reader.metric("modelog_kafka_bytes_total", group=topic, topic=topic) >= values
    assert reader.metric("modelog_kafka_rebalances_total", group=topic) >= 1


def test_state_and_positions(kafka: Kafka, topic, reader: Reader):
    kafka.topic(topic, partitions=3)
    produced = Numbered(kafka, topic, 3)
    produced.send(100, 0, 2)
    reader.start().is_at_end()
    ends = {0: 100, 2: 100}
    assert reader.commits(topic) == ends
    reader.wait("the commits to be shown", lambda: reader.partitions()[topic, 2]["committed"] == 100)
    source = reader.source()
    assert (source["state"], source["cluster"], source["reason"]) == ("running", kafka.cluster, None)
    assert source["topics"] == [topic]
    assert reader.partitions().keys() == {(topic, 0), (topic, 1), (topic, 2)}
    for partition, told in ((place[1], told) for place, told in reader.partitions().items()):
        assert (told["state"], told["reason"], told["lag"]) == ("reading", None, 0)
        assert told["position"] == ends.get(partition) or partition == 1
    assert reader.degraded() == []
    for partition in range(3):
        lag = reader.metric("modelog_kafka_lag_messages", group=topic, topic=topic, partition=str(partition))
        assert lag == 0
    # The frames of the log say where their events are from.
    origins = reader.origins(topic)
    for partition, end in ends.items():
        assert (origins[partition][0][0], origins[partition][-1][1]) == (0, end)


def test_many_topics_and_a_pattern(kafka: Kafka, topic, tmp_path):
    named, first, second, other = topic, f"p-{topic}.1", f"p-{topic}.2", f"q-{topic}"
    events = {name: Numbered(kafka, kafka.topic(name)) for name in (named, first, other)}
    for produced in events.values():
        produced.send(50)
    reader = Reader(tmp_path / "data", kafka, named, f"^p-{topic}.*").start().is_at_end()
    # A topic that the pattern fits, and that comes later.
    events[second] = Numbered(kafka, kafka.topic(second, partitions=2), 2)
    events[second].send(50)
    events[named].send(50)
    reader.is_at_end()
    for name in (named, first, second):
        assert_exactly_once(reader, events[name])
    assert logged(reader, other) == []
    assert {place[0] for place in reader.partitions()} == {named, first, second}


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_partitions_that_are_added(kafka: Kafka, topic, reader: Reader, start):
    """What is in them is read from the beginning: all of it came after the source did."""
    produced = Numbered(kafka, kafka.topic(topic))
    reader.configure(start=start)
    reader.start().is_at_end()
    produced.send(50)
    reader.is_at_end()
    kafka.add_partitions(topic, 3)
    produced.send(50, 0, 1, 2)
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    assert reader.stop() == 0
    produced.send(50)
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)


def test_from_the_latest_on(kafka: Kafka, topic, reader: Reader):
    produced = Numbered(kafka, kafka.topic(topic, partitions=2), 2)
    produced.send(50)
    reader.configure(start="latest")
    reader.start().is_at_end()
    assert logged(reader, topic) == []
    # Where it begins is decided once: what comes while it is away is not passed over.
    assert reader.stop() == 0
    produced.send(50)
    reader.start().is_at_end()
    produced.send(50)
    reader.is_at_end()
    assert by_partition(logged(reader, topic)) == {0: list(range(50, 150)), 1: list(range(50, 150))}


def test_from_a_moment_on(kafka: Kafka, topic, reader: Reader):
    produced = Numbered(kafka, kafka.topic(topic, partitions=3, retention_ms=-1), 3)
    january, june, july = 1_767_225_600_000, 1_780_272_000_000, 1_782_864_000_000
    # The third partition has nothing that late.
    for moment, partitions in ((january, (0, 1, 2)), (june, (0,)), (july, (0, 1))):
        for partition in partitions:
            events = [produced.event(partition) for _ in range(20)]
            kafka.send(topic, events, partition, timestamp=moment)
    reader.configure(start="2026-06-01T00:00:00Z")
    reader.start().is_at_end()
    assert by_partition(logged(reader, topic)) == {0: list(range(20, 60)), 1: list(range(20, 40))}
    produced.send(10)
    reader.is_at_end()
    assert by_partition(logged(reader, topic))[2] == list(range(20, 30))


def test_transactions(kafka: Kafka, topic, reader: Reader):
    """What was aborted is not seen; positions pass what marks the ends of transactions."""
    produced = Numbered(kafka, kafka.topic(topic, partitions=2), 2)
    reader.start()
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions()
    aborted = {"type": "PredictionLogged", "model": topic, "version": "v", "prediction_id": "9-0", "output": 1}
    for commit in (True, False, True, False, False):
        producer.begin_transaction()
        for _ in range(30):
            produce(producer, topic, produced.event(0) if commit else aborted)
        flush(producer)
        producer.commit_transaction() if commit else producer.abort_transaction()
    # The broker answers before it has written the last one's marker.
    wait_for("five markers", lambda: kafka.ends(topic)[0] == 5 * 31)
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    assert reader.commits(topic) == {0: 5 * 31}
    assert reader.partitions()[topic, 0]["lag"] == 0

    # Begun and not ended: nothing behind it is seen, and all of it once it is.
    producer.begin_transaction()
    for _ in range(30):
        produce(producer, topic, produced.event(0))
    flush(producer)
    produced.send(30, 0)
    produced.send(30, 1)
    reader.wait("another partition", lambda: len(by_partition(logged(reader, topic)).get(1, [])) == 30)
    assert by_partition(logged(reader, topic))[0] == list(range(60))
    producer.commit_transaction()
    reader.is_at_end()
    assert_exactly_once(reader, produced)

    # A start behind a marker.
    producer.begin_transaction()
    produce(producer, topic, aborted)
    flush(producer)
    producer.abort_transaction()
    reader.is_at_end()
    assert reader.stop() == 0
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)


def test_a_compacted_topic(kafka: Kafka, topic, reader: Reader):
    """Holes are passed; tombstones are counted, and are no events."""
    settings = {"cleanup_policy": "compact", "min_cleanable_dirty_ratio": "0.001", "segment_ms": 500}
    kafka.topic(topic, **settings)
    written = Numbered(kafka, topic)

    producer = kafka.producer()
    for turn in range(10):
        for key in range(20):
            value = None if turn == 9 and key % 2 else written.event(0)
            produce(producer, topic, value, key=f"k{key}")
        flush(producer)

    def compacted() -> bool:
        # What is written last is left alone until more comes.
        kafka.send(topic, [written.event(0)], key="last")
        return len(kafka.read(topic)) < kafka.ends(topic)[0] - 150

    wait_for("compaction", compacted)
    kafka.configure(topic, min_cleanable_dirty_ratio=1)
    wait_for("compaction to rest", lambda: len(kafka.read(topic)) == len(kafka.read(topic)))
    left = kafka.read(topic)
    values = [json.loads(message.value())["prediction_id"] for message in left if message.value() is not None]
    tombstones = len(left) - len(values)
    assert tombstones == 10
    reader.start().is_at_end()
    assert logged(reader, topic) == values
    assert reader.metric("modelog_kafka_tombstones_total", group=topic, topic=topic) == tombstones
    assert reader.events("EventRejected") == []
    assert reader.commits(topic) == kafka.ends(topic)


def test_tombstones_alone(kafka: Kafka, topic, reader: Reader):
    kafka.topic(topic)
    kafka.send(topic, [None] * 50, key=b"k")
    reader.start().is_at_end()
    assert reader.events() == []
    assert reader.commits(topic) == {0: 50}
    assert reader.metric("modelog_kafka_tombstones_total", group=topic, topic=topic) == 50
    assert reader.stop() == 0
    produced = Numbered(kafka, topic)
    produced.send(1)
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)
    assert reader.metric("modelog_kafka_tombstones_total", group=topic, topic=topic) == 0


@pytest.mark.parametrize("group_instance_id", ["auto", "", "mine"])
def test_an_end_commits_and_leaves_the_group(kafka: Kafka, topic, reader: Reader, group_instance_id):
    """Who has a name in its group is expected back, as long as the session lasts; who has none is gone at once."""
    produced = Numbered(kafka, kafka.topic(topic, partitions=4), 4)
    # Nothing is committed meanwhile, and nobody is missed.
    reader.configure(group_instance_id=group_instance_id, session_timeout="5m", commit_interval="10m")
    for _ in range(2):
        reader.start()
        produced.send(100)
        reader.is_at_end()
        (member,) = kafka.members(topic)
        name = member.group_instance_id
        assert name == {"auto": f"modelog-{reader.log}", "": None, "mine": "mine"}[group_instance_id]
        assert reader.stop() == 0
        assert [left.group_instance_id for left in kafka.members(topic)] == ([name] if name else [])
        positions = {partition: offset for partition, (offset, _) in kafka.committed(topic, topic).items()}
        assert positions == kafka.ends(topic)
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)


def test_a_log_restored_from_a_backup_reads_again_what_it_lost(kafka: Kafka, topic, reader: Reader, tmp_path):
    produced = Numbered(kafka, kafka.topic(topic, partitions=3), 3)
    reader.start()
    produced.send(300)
    reader.is_at_end()
    modelog("backup", str(tmp_path / "backup"), "--data", str(reader.data))
    produced.send(300)
    reader.is_at_end()
    reader.commits(topic)
    assert reader.stop() == 0
    modelog("restore", str(tmp_path / "backup"), "--data", str(tmp_path / "restored"))
    restored = Reader(tmp_path / "restored", kafka, topic).start().is_at_end()
    assert_exactly_once(restored, produced)
    produced.send(300)
    restored.is_at_end()
    assert_exactly_once(restored, produced)
    restored.commits(topic)


def test_a_log_that_is_new_goes_on_where_the_group_is(kafka: Kafka, topic, reader: Reader, tmp_path):
    """Another log's commit says that the partition was read elsewhere."""
    produced = Numbered(kafka, kafka.topic(topic))
    produced.send(100)
    reader.configure(group_instance_id="")
    reader.start().is_at_end()
    assert reader.stop() == 0
    produced.send(100)
    other = Reader(tmp_path / "other", kafka, topic, group_instance_id="").start().is_at_end()
    elsewhere = logged(other, topic)
    assert by_partition(elsewhere) == {0: list(range(100, 200))}
    assert other.stop() == 0
    produced.send(100)
    # And the first one, when the partition comes back to it, is past what the other has.
    reader.start().is_at_end()
    assert by_partition(logged(reader, topic)) == {0: [*range(100), *range(200, 300)]}
    assert_complete([*logged(reader, topic), *elsewhere], produced.sent)


def test_events_over_http_beside_those_of_a_topic(kafka: Kafka, topic, reader: Reader):
    produced = Numbered(kafka, kafka.topic(topic))
    reader.start()
    produced.send(100)
    posted = [f"http-{number}" for number in range(50)]
    for id in posted:
        event = {"type": "PredictionLogged", "id": id, "model": "m", "version": "v", "output": 1}
        assert reader.post(json.dumps(event), "application/json").status_code == 200
    produced.send(100)
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    caught_up(reader)
    assert [event["id"] for event in reader.events("PredictionLogged", model="m")] == posted


def test_an_id_makes_a_repeat_recognisable(kafka: Kafka, topic, reader: Reader):
    """A producer that does not know what arrived sends again."""
    kafka.topic(topic, partitions=2)
    events = [
        {"type": "PredictionLogged", "id": f"e-{number}", "model": topic, "version": "v", "output": 1}
        for number in range(20)
    ]
    for partition in (0, 1, 0):
        kafka.send(topic, events, partition)
    reader.start().is_at_end()
    assert sorted(event["id"] for event in reader.events("PredictionLogged")) == sorted(event["id"] for event in events)
    assert reader.metric("modelog_ingest_duplicates_total", source="kafka") == 40
    reader.commits(topic)
