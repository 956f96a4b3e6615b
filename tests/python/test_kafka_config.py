"""Configurations: what is wrong is said at once, with its place and what to write instead."""

import subprocess

import pytest

from conftest import binary
from kafka_reader import Reader, assert_exactly_once, toml
from kafka_support import Kafka, Numbered

SOUND = {"brokers": ["127.0.0.1:9"], "topics": ["t"], "group_id": "g"}


def checked(tmp_path, *sections: dict) -> subprocess.CompletedProcess:
    written = tmp_path / "modelog.toml"
    lines = [
        "[[kafka]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in section.items()) for section in sections
    ]
    written.write_text("\n".join(lines))
    command = [binary(), "config", "check", "--config", str(written), "--data", str(tmp_path / "data")]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_sound_one(tmp_path):
    every_setting = {
        **SOUND,
        "brokers": ["one:9092", "[::1]:9092"],
        "topics": ["t", "^ml-.*"],
        "group_instance_id": "modelog-1",
        "format": "kserve",
        "start": "2026-11-22T17:00:00Z",
        "on_gap": "skip",
        "session_timeout": "30s",
        "buffer_bytes": "16MiB",
        "commit_interval": "5s",
        "stall_time": "2m",
        "kserve_model": "{inferenceservicename}",
        "dead_letter_topic": "dead",
        "properties": {"security.protocol": "ssl", "ssl.ca.location": "/etc/ssl/certs/ca-certificates.crt"},
    }
    done = checked(tmp_path, every_setting, {**SOUND, "group_id": "other"})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("brokers", []),
        ("brokers", ["no port in it:"]),
        ("topics", []),
        ("topics", ["^("]),
        ("topics", ["no blanks"]),
        ("topics", "t"),
        ("group_id", ""),
        ("format", "avro"),
        ("start", "yesterday"),
        ("start", "2026-11-22"),
        ("on_gap", "ignore"),
        ("session_timeout", "soon"),
        ("session_timeout", "0s"),
        ("commit_interval", 1),
        ("buffer_bytes", "0B"),
        ("stall_time", "0s"),
        ("kserve_model", "{no_such_attribute}"),
        ("dead_letter_topic", "no blanks"),
        ("properties", {"no.such.property": "1"}),
        ("properties", {"security.protocol": "rot13"}),
        ("topic", "t"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, setting, value):
    done = checked(tmp_path, SOUND, {**SOUND, "group_id": "other", setting: value})
    assert done.returncode == 78, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "modelog.toml" in said and setting in said
    assert "kafka[1]" in said, said
    assert "kafka[0]" not in said, "what is right is not blamed"


def test_a_setting_that_is_missing(tmp_path):
    for missing in ("brokers", "topics"):
        done = checked(tmp_path, {key: value for key, value in SOUND.items() if key != missing})
        assert done.returncode == 78, done.stdout + done.stderr
        assert missing in done.stdout + done.stderr


def test_everything_that_is_wrong_at_once(tmp_path):
    done = checked(tmp_path, {**SOUND, "format": "avro", "on_gap": "ignore"}, {**SOUND, "start": "yesterday"})
    assert done.returncode == 78
    said = done.stdout + done.stderr
    assert all(word in said for word in ("avro", "ignore", "yesterday")), said


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("bootstrap.servers", "brokers"),
        ("group.id", "group_id"),
        ("group.instance.id", "group_instance_id"),
        ("session.timeout.ms", "session_timeout"),
        ("auto.offset.reset", "start"),
        ("enable.auto.commit", ""),
        ("enable.auto.offset.store", ""),
        ("partition.assignment.strategy", ""),
    ],
)
def test_properties_that_the_source_depends_on(tmp_path, name, instead):
    done = checked(tmp_path, {**SOUND, "properties": {name: "1"}})
    assert done.returncode == 78, done.stdout + done.stderr
    assert name in done.stdout + done.stderr and instead in done.stdout + done.stderr


def test_two_sources(kafka: Kafka, topic, tmp_path):
    """Each with a group of its own."""
    first = Numbered(kafka, kafka.topic(topic))
    second = Numbered(kafka, kafka.topic(f"{topic}-2"))
    reader = Reader(tmp_path / "data", kafka, topic)
    other = {**reader.settings, "topics": [second.topic], "group_id": f"{topic}-other"}
    with open(reader.config, "a") as config:
        config.write("\n[[kafka]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in other.items()))
    reader.start()
    first.send(100)
    second.send(100)
    reader.is_at_end(topic)
    reader.wait("both", lambda: reader.metric("modelog_ingest_events_total", source="kafka") >= 200)
    assert_exactly_once(reader, first)
    assert_exactly_once(reader, second)
    names = {item["name"] for item in reader.json("/v1/sources")["items"]}
    assert names == {f"kafka:{topic}", f"kafka:{topic}-other"}


def test_no_source(server):
    assert server.json("/v1/sources")["items"] == []
