"""What could not be understood is sent to a topic of dead letters: once, as it came, and with the reason."""

import gzip
import json
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from conftest import HTTP, PATIENCE, binary, ndjson
from kafka_broker import Broker
from kafka_reader import Reader, modelog, toml
from kafka_support import CODECS, Kafka, wait_for

GOOD = {"type": "EventLogged", "name": "fine"}


class Feeder(Reader):
    """A reader that sends on what it does not understand."""

    def __init__(self, data: Path, kafka: Kafka, topic: str, **settings: Any):
        self.dead = f"{topic}-dead"
        super().__init__(data, kafka, topic, dead_letter_topic=self.dead, **settings)

    def projection(self) -> dict:
        name = f"dead-letters:{self.dead}"
        (found,) = [item for item in self.json("/v1/projections")["items"] if item["name"] == name]
        return found

    def has_sent(self) -> "Feeder":
        """Waits until everything that is in its topic was read, and sent on if it was rejected."""
        self.is_at_end()
        end = self.json("/v1/stats")["events"]

        def done() -> bool:
            told = self.projection()
            return told["state"] == "running" and told["lag_events"] == 0 and end > 0

        self.wait("dead letters to be sent", done)
        return self

    def letters(self) -> list[Message]:
        """What a reader of committed messages is given."""
        return [letter for partition in self.kafka.leaders(self.dead) for letter in self.kafka.read(self.dead, partition)]


@pytest.fixture
def feeder(tmp_path, kafka, topic):
    kafka.topic(f"{topic}-dead")
    return Feeder(tmp_path / "data", kafka, kafka.topic(topic))


def ours(letter: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in letter.headers() if name.startswith("modelog-")}


def theirs(letter: Message) -> list[tuple[str, bytes | None]]:
    return [(name, value) for name, value in letter.headers() or [] if not name.startswith("modelog-")]


def garbage(count: int, start: int = 0) -> list[bytes]:
    return [b"garbage %d" % number for number in range(start, start + count)]


def assert_once(feeder: Feeder, values: list[bytes]) -> None:
    counted = Counter(letter.value() for letter in feeder.letters())
    assert counted == Counter(values), (counted - Counter(values), Counter(values) - counted)


def test_letters_are_the_messages_and_why_they_are_here(kafka: Kafka, topic, feeder: Feeder):
    headers = [("a", b"1"), ("a", None), ("b", b"\xff\x00"), ("", b""), ("modelog-reason", b"of before")]
    kafka.send(topic, [GOOD, b"\xff\xfe{"], key=b"\x00k", headers=headers)
    bad = {"type": "PredictionLogged", "model": "m"}
    kafka.send(topic, [[GOOD, bad, GOOD]])
    kafka.send(topic, [{**GOOD, "id": "one"}, {**GOOD, "id": "one", "name": "other"}])
    feeder.start().has_sent()
    # What came another way is nobody's dead letter.
    assert feeder.post(b"{", params={"on_error": "skip"}).json()["rejected"] == 1
    kafka.send(topic, [b"x"], key=b"")
    feeder.has_sent()
    letters = feeder.letters()
    records = {str(record["log_offset"]): record for record in feeder.events("EventRejected")}
    assert len(records) == len(letters) + 1 == 5
    for letter in letters:
        told = ours(letter)
        record = records[told["modelog-offset"]]
        assert told["modelog-log"] == feeder.log
        assert told["modelog-time"] == record["append_time"]
        assert (told["modelog-reason"], told["modelog-message"]) == (record["reason"], record["message"])
        assert told["modelog-position"] == record["position"]
        assert record["source"] == f"kafka:{kafka.cluster}"
        assert "modelog-bytes" not in told and "modelog-left-out" not in told
    first, element, conflict, last = letters
    assert (first.value(), first.key()) == (b"\xff\xfe{", b"\x00k")
    assert first.headers()[:5] == headers
    assert ours(first)["modelog-position"].startswith(f"{topic}/0/1")
    assert json.loads(element.value()) == bad
    assert (element.key(), theirs(element)) == (None, [])
    assert ours(element)["modelog-position"].startswith(f"{topic}/0/2#1")
    assert json.loads(conflict.value())["name"] == "other"
    assert ours(conflict)["modelog-reason"] == "id_conflict"
    assert ours(conflict)["modelog-position"].startswith(f"{topic}/0/")
    assert (last.value(), last.key()) == (b"x", b"")
    assert feeder.metric("modelog_kafka_dead_letters_total", topic=feeder.dead) == 4
    # The checkpoint went along with them.
    offset, text = kafka.committed(f"modelog-dead-letters-{feeder.log}", feeder.dead)[0]
    assert offset >= int(ours(last)["modelog-offset"]) + 1
    assert text.startswith(f"modelog:{feeder.log}:")
    # Nothing is sent again because the program was started again.
    assert feeder.stop() == 0
    feeder.start().has_sent()
    assert len(feeder.letters()) == 4


def test_kills_while_letters_are_sent(kafka: Kafka, topic, feeder: Feeder, seed):
    moments = random.Random(seed)
    feeder.configure(session_timeout="6s")
    sent: list[bytes] = []
    for _ in range(8):
        more = garbage(2000, len(sent))
        kafka.send(topic, more)
        sent += more
        feeder.start()
        before = feeder.projection()["offset"]
        feeder.wait("letters on their way", lambda: feeder.projection()["offset"] > before)
        time.sleep(moments.random() * 0.2)
        feeder.kill()
    feeder.start().has_sent()
    assert_once(feeder, sent)


@pytest.fixture
def mortal(tmp_path):
    broker = Broker(tmp_path / "broker").start()
    yield broker
    broker.kill()


def test_brokers_away_at_start_and_later(mortal: Broker, topic, tmp_path):
    kafka = Kafka(mortal)
    kafka.topic(topic)
    kafka.topic(f"{topic}-dead")
    feeder = Feeder(tmp_path / "data", kafka, topic)
    rejected = garbage(50)
    kafka.send(topic, rejected)
    # The history of a log that had no topic for them is sent too.
    before = Reader(tmp_path / "data", kafka, topic).start().is_at_end()
    assert before.stop() == 0
    mortal.stop()
    feeder.configure()
    feeder.start()
    feeder.wait("an attempt", lambda: feeder.projection()["state"] == "retrying")
    assert feeder.post(ndjson(GOOD)).status_code == 200
    degraded = [entry.get("projection") for entry in feeder.json("/readyz")["degraded"]]
    assert f"dead-letters:{feeder.dead}" in degraded
    assert feeder.stop() == 0
    feeder.start()
    mortal.start()
    feeder.has_sent()
    assert_once(feeder, rejected)
    mortal.kill()
    assert feeder.post(ndjson(GOOD)).status_code == 200
    mortal.start()
    kafka.send(topic, garbage(50, 50))
    feeder.has_sent()
    assert_once(feeder, garbage(100))


def test_a_topic_that_is_created_later(kafka: Kafka, topic, tmp_path):
    feeder = Feeder(tmp_path / "data", kafka, kafka.topic(topic))
    kafka.send(topic, garbage(3))
    feeder.start().is_at_end()
    feeder.wait("an attempt", lambda: feeder.projection()["state"] == "retrying")
    assert f"there is no topic {feeder.dead}" in feeder.projection()["last_error"]
    kafka.topic(feeder.dead, partitions=3)
    feeder.has_sent()
    assert_once(feeder, garbage(3))


def test_letters_that_are_too_large_for_the_topic(kafka: Kafka, topic, tmp_path):
    kafka.topic(topic)
    kafka.topic(f"{topic}-dead", max_message_bytes=4000)
    long, huge = b"x" * 5000, random.Random(1).randbytes(600_000)
    for value, headers in ((b"a", []), (long, [("h", b"1")]), (b"b", []), (b"c", [("h", long)]), (huge, []), (b"d", [])):
        kafka.send(topic, [value], key=b"k", headers=headers)
    feeder = Feeder(tmp_path / "data", kafka, topic).start().has_sent()
    letters = feeder.letters()
    positions = [int(ours(letter)["modelog-position"].split("/")[2].split(",")[0]) for letter in letters]
    assert positions == list(range(6))
    assert [letter.value() for letter in letters] == [b"a", None, b"b", None, None, b"d"]
    assert [letter.key() for letter in letters] == [b"k", b"k", b"k", None, b"k", b"k"]
    told = [ours(letter) for letter in letters]
    assert [one.get("modelog-left-out") for one in told] == [None, "value", None, "value, key, headers", "value", None]
    assert [one.get("modelog-bytes") for one in told] == [None, "5000", None, "1", "600000", None]
    assert theirs(letters[1]) == [("h", b"1")]
    # The log has what the topic has not.
    shown = ["dead-letters", "show", told[4]["modelog-offset"], "--data", str(feeder.data)]
    assert modelog_bytes(*shown) == huge


def test_many_letters_among_which_one_is_too_large(kafka: Kafka, topic, tmp_path):
    """Brokers refuse whole batches: the neighbours of a letter must not suffer from it."""
    kafka.topic(topic)
    kafka.topic(f"{topic}-dead", max_message_bytes=20_000)
    values = garbage(500)
    values[250] = b"x" * 30_000
    kafka.send(topic, values)
    feeder = Feeder(tmp_path / "data", kafka, topic).start().has_sent()
    sent = [letter.value() for letter in feeder.letters()]
    assert sent == [*values[:250], None, *values[251:]]


def test_another_process_shuts_the_first_one_out(kafka: Kafka, topic, feeder: Feeder):
    kafka.send(topic, garbage(3))
    feeder.start().has_sent()
    id = f"modelog-dead-letters-{feeder.log}-{feeder.dead}"
    other = kafka.producer(transactional_id=id)
    other.init_transactions(PATIENCE)
    kafka.send(topic, garbage(3, 3))
    feeder.wait("it to stop", lambda: feeder.projection()["state"] == "stopped")
    assert "another process" in feeder.projection()["last_error"]
    assert feeder.post(ndjson(GOOD)).status_code == 200
    # Started again, it is the one that sends.
    assert feeder.stop() == 0
    feeder.start().has_sent()
    assert_once(feeder, garbage(6))


def test_it_cannot_be_built_again(kafka: Kafka, feeder: Feeder):
    feeder.start()
    refused = HTTP.post(f"{feeder.url}/v1/projections/dead-letters:{feeder.dead}/rebuild")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_rebuildable")


def test_a_log_restored_from_a_backup_loses_no_letter(kafka: Kafka, topic, feeder: Feeder, tmp_path):
    kafka.send(topic, garbage(10))
    feeder.start().has_sent()
    modelog("backup", str(tmp_path / "backup"), "--data", str(feeder.data))
    kafka.send(topic, garbage(10, 10))
    feeder.has_sent()
    feeder.commits(topic)
    assert feeder.stop() == 0
    modelog("restore", str(tmp_path / "backup"), "--data", str(tmp_path / "restored"))
    restored = Feeder(tmp_path / "restored", kafka, topic).start().has_sent()
    kafka.send(topic, garbage(10, 20))
    restored.has_sent()
    # Those that the log lost were sent before, and again when it had read them again.
    counted = Counter(letter.value() for letter in restored.letters())
    assert counted == Counter(garbage(30)) + Counter(garbage(10, 10))
    pairs = Counter(ours(letter)["modelog-position"] for letter in restored.letters())
    assert sorted(pairs.values()) == [1] * 20 + [2] * 10


def test_two_sources_share_a_topic_and_each_sends_its_own(kafka: Kafka, topic, tmp_path):
    feeder = Feeder(tmp_path / "data", kafka, kafka.topic(topic))
    kafka.topic(feeder.dead)
    other, unheard = kafka.topic(f"p-{topic}.1"), kafka.topic(f"q-{topic}")
    dead = {"dead_letter_topic": feeder.dead}
    sections = []
    for name, more in ((topic, dead), (f"^p-{topic}.*", dead), (unheard, {})):
        section = {"brokers": [kafka.servers], "topics": [name], "group_id": f"{topic}-{len(sections)}", **more}
        sections.append("[[kafka]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in section.items()))
    feeder.config.write_text("".join(sections))
    for name, value in ((topic, b"a"), (other, b"b"), (unheard, b"c")):
        kafka.send(name, [value])
    feeder.start()
    wait_for("three records", lambda: len(feeder.events("EventRejected")) == 3, feeder.said)
    wait_for("letters", lambda: feeder.projection()["lag_events"] == 0, feeder.said)
    assert sorted(letter.value() for letter in feeder.letters()) == [b"a", b"b"]
    (told,) = [item for item in feeder.json("/v1/projections")["items"] if item["name"].startswith("dead-letters")]
    assert told["errors"] == 0


# The commands.


def modelog_bytes(*arguments: str, code: int = 0, **options: Any) -> bytes:
    done = subprocess.run([binary(), *arguments], capture_output=True, timeout=PATIENCE, **options)
    assert done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def retry(data: Path, *arguments: str, code: int = 0) -> dict:
    out = modelog_bytes("dead-letters", "retry", *arguments, "--format", "json", "--data", str(data), code=code)
    return json.loads(out)


def test_a_retry_when_the_cause_is_gone(kafka: Kafka, topic, feeder: Feeder, monkeypatch):
    monkeypatch.setenv("MODELOG_HTTP__VALUE_BYTES", "1KiB")
    long = {"type": "EventLogged", "name": "long", "data": "x" * 2000}
    kafka.send(topic, [GOOD, long, {**long, "id": "own"}, b"garbage", [long, long, GOOD]])
    feeder.start().has_sent()
    assert len(feeder.events("EventRejected")) == 5
    assert retry(feeder.data, "--all", code=65)["still_rejected"] == 5
    assert feeder.stop() == 0
    monkeypatch.delenv("MODELOG_HTTP__VALUE_BYTES")
    feeder.start()
    listed = modelog_bytes("dead-letters", "list", "--topic", topic, "--format", "ndjson", "--data", str(feeder.data))
    listed = [json.loads(line) for line in listed.splitlines()]
    assert [entry["position"].split(",")[0] for entry in listed] == [
        f"{topic}/0/{place}" for place in ("1", "2", "3", "4#0", "4#1")
    ]
    first = retry(feeder.data, str(listed[0]["offset"]))
    assert (first["accepted"], first["duplicates"], first["still_rejected"]) == (1, 0, 0)
    rest = retry(feeder.data, "--all", code=65)
    assert (rest["accepted"], rest["duplicates"], rest["still_rejected"]) == (3, 1, 1)
    again = retry(feeder.data, "--all", code=65)
    assert (again["accepted"], again["duplicates"], again["still_rejected"]) == (0, 4, 1)
    # On the directory itself it is the same log.
    assert feeder.stop() == 0
    offline = retry(feeder.data, "--all", "--reason", listed[0]["reason"])
    assert (offline["records"], offline["accepted"], offline["duplicates"]) == (4, 0, 4)
    feeder.start()
    events = [event for event in feeder.events("EventLogged") if event["name"] == "long"]
    source = f"kafka:{kafka.cluster}"
    assert [(event["id"], event.get("source")) for event in events] == [
        (f"{topic}/0/1", source),
        ("own", None),
        (f"{topic}/0/4#0", source),
        (f"{topic}/0/4#1", source),
    ]
    # A retry is no message that was rejected again.
    feeder.has_sent()
    assert len(feeder.letters()) == len(feeder.events("EventRejected")) == 5


def test_produce_with_every_codec(kafka: Kafka, topic, tmp_path):
    kafka.topic(topic, partitions=2)
    events = [{"type": "EventLogged", "name": f"n{number}", "id": f"e{number}"} for number in range(300)]
    lines = ndjson(*events).encode()
    common = ["--brokers", kafka.servers, "--topic", topic]
    for codec in CODECS:
        options = [*common, "--compression", codec, "--headers", f"codec={codec}", "--headers", "a=b=c", "--key", "id"]
        out = modelog_bytes("produce", "-", *options, input=lines)
        assert out == f"300 messages delivered to {topic}\n".encode()
    shown = kafka.kcat("-C", "-t", topic, "-e", "-q", "-f", "%k|%s|%h\n").decode().splitlines()
    assert len(shown) == 300 * len(CODECS)
    for codec in CODECS:
        expected = sorted(f"{event['id']}|{json.dumps(event)}|codec={codec},a=b=c" for event in events)
        assert sorted(line for line in shown if f"codec={codec}," in line) == expected
    reader = Reader(tmp_path / "data", kafka, topic).start().is_at_end()
    assert sorted(event["id"] for event in reader.events("EventLogged")) == sorted(event["id"] for event in events)
    assert reader.metric("modelog_kafka_messages_total", topic=topic) == 300 * len(CODECS)


def test_produce_what_files_hold(kafka: Kafka, topic, tmp_path):
    kafka.topic(topic)
    common = ["--brokers", kafka.servers, "--topic", topic]
    (tmp_path / "a.json").write_text('[{"n": 1.50,\n "k": {"x": 1}}, {"n":2,"k":"\\u00e9"},{"k":null}, 7]')
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(b'{"n":3,"k":4}\n\n{"n":4}\n'))
    (tmp_path / "c.txt").write_bytes(b"\xffgarbage\n\nlast")
    files = [str(tmp_path / name) for name in ("a.json", "b.ndjson.gz")]
    # The number has no fields.
    said = failing("produce", *files, *common, "--key", "k", code=65)
    assert "a.json:2" in said and "3 messages delivered" in said
    (tmp_path / "a.json").write_text('[{"n": 1.50,\n "k": {"x": 1}}]')
    modelog_bytes("produce", *files, *common, "--key", "k")
    modelog_bytes("produce", str(tmp_path / "c.txt"), *common, "--format", "lines")
    messages = [(message.key(), message.value()) for message in kafka.read(topic)]
    assert messages == [
        (b'{"x": 1}', b'{"n": 1.50,\n "k": {"x": 1}}'),
        ("é".encode(), b'{"n":2,"k":"\\u00e9"}'),
        (None, b'{"k":null}'),
        (b'{"x": 1}', b'{"n": 1.50,\n "k": {"x": 1}}'),
        (b"4", b'{"n":3,"k":4}'),
        (None, b'{"n":4}'),
        (None, b"\xffgarbage"),
        (None, b""),
        (None, b"last"),
    ]


def failing(*arguments: str, code: int) -> str:
    done = subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stderr


def test_produce_says_what_is_wrong(kafka: Kafka, topic, tmp_path):
    kafka.topic(topic, max_message_bytes=2000)
    events = tmp_path / "events.ndjson"
    events.write_text(ndjson(GOOD))
    nobody = ["--brokers", "127.0.0.1:1", "--topic", topic]
    assert "127.0.0.1:1" in failing("produce", str(events), *nobody, code=69)
    there = ["--brokers", kafka.servers]
    assert "there is no topic" in failing("produce", str(events), *there, "--topic", f"{topic}-not", code=69)
    assert "no name of a topic" in failing("produce", str(events), *there, "--topic", "a b", code=2)
    common = [*there, "--topic", topic]
    assert "carrier" in failing("produce", str(events), *common, "--property", "security.protocol=carrier", code=2)
    assert "nowhere" in failing("produce", str(tmp_path / "nowhere"), *common, code=74)
    events.write_text(ndjson(GOOD, {**GOOD, "data": random.Random(1).randbytes(3000).hex()}))
    assert "message 1" in failing("produce", str(events), *common, "--property", "batch.num.messages=1", code=65)
    events.write_text(ndjson(GOOD) + "{")
    assert "events.ndjson:2" in failing("produce", str(events), *common, code=65)


def test_produce_interrupted(kafka: Kafka, topic):
    kafka.topic(topic)
    command = [binary(), "produce", "-", "--brokers", kafka.servers, "--topic", topic, "--rate", "50"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(ndjson(GOOD).encode() * 10_000)
    process.stdin.flush()
    wait_for("messages", lambda: kafka.ends(topic)[0] > 20)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    said = process.stdout.read().decode()
    process.stdin.close()
    count = kafka.ends(topic)[0]
    assert said == f"{count} messages delivered to {topic} when interrupted\n"
    assert count < 5000
