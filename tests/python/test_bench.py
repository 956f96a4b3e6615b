"""The benchmark runs and prints every row beside its limit. What it measures here is not judged: machines differ."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import binary
from parquet_support import FULL
from redis_support import Redis
from sql_support import USER, database, shared  # noqa: F401

QUICK = (
    "NDJSON → durable",
    "Arrow → durable",
    "64 callers, in process",
    "until its answer, p99",
    "on disk, calls of 1,000",
    "MiB of unsealed log",
    "segments into a no-op",
    "wrk, ingest alone",
    "with SQLite and Parquet following, Prometheus asking",
    "a server that drops what it reads",
    "64 connections, wrk",
    "one caller, one event at a time over HTTP",
    "peak memory of all rows",
    "GET of 100",
    "GET of a 1,000",
    "memory of the server",
    "log → verified Parquet",
    "the compactor at work",
    "size as Parquet",
    "Parquet, in process, into nothing",
    "Parquet into SQLite",
    "backup of 1 % new",
    "memory of a server replaying",
)


def bench(directory: Path, *arguments: str) -> list[dict]:
    # The Python that has what the tests need, DuckDB among it, is the first that is found.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [binary(), "bench", *arguments, "--dir", str(directory), "--format", "json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert not list(directory.iterdir()), "it cleans up"
    return json.loads(done.stdout)["rows"]


KAFKA = {
    "Kafka → durable, 4 partitions": ({"ratio_at_least": 0.5}, {"ratio_at_least": 0.7}),
    "  until SQLite has them too": ({"at_least": 80e3}, None),
    "  memory of the server with the backlog": ({"at_most": 400.0}, None),
    "Kafka → verified Parquet": (None, None),
    "killed with -9: from restart to the next event, none twice": ({"at_most": 3.0}, None),
    "message sent → seen through /v1/tail, 1,000 a second, p50": (None, None),
    "  p99": ({"at_most": 50.0}, None),
}


def test_every_row_about_kafka_is_there_and_topics_of_its_own_are_gone(kafka, topic, tmp_path):
    kafka.topic(topic, partitions=4)
    event = b'{"type":"PredictionLogged","model":"m","version":"v","output":1,"confidence":0.5}\n'
    kafka.kcat("-P", "-t", topic, "-z", "lz4", "-X", "batch.num.messages=1000", input=event * 200_000)
    rows = bench(tmp_path, "--quick", "--kafka", kafka.servers, "--topic", topic)
    asked = {row["what"]: (row["mark"], row["goal"]) for row in rows}
    for what, marks in KAFKA.items():
        assert asked[what] == marks, what
    assert all(row["figure"]["least"] > 0 for row in rows), rows
    topics = kafka.kcat("-L").decode()
    assert topic in topics and "modelog-bench" not in topics, topics


def test_a_topic_that_cannot_be_measured_is_named(kafka, topic, tmp_path):
    def failed(*arguments: str) -> str:
        command = [binary(), "bench", "--quick", "--dir", str(tmp_path / "data"), "--kafka", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode != 0
        return done.stderr

    kafka.topic(topic)
    assert f"the topic {topic} has no messages" in failed(kafka.servers, "--topic", topic)
    said = failed(kafka.servers, "--topic", f"{topic}-that-is-not")
    assert f"{topic}-that-is-not" in said and "nknown topic" in said, said


# What is asked for, and hoped for, wherever it is measured.
ASKED = {
    "NDJSON → durable, in process, 2 threads": ({"ratio_at_least": 0.5}, {"ratio_at_least": 0.6}),
    "Arrow → durable, in process, 2 threads": ({"ratio_at_least": 0.7}, {"at_least": 5e6}),
    "NDJSON over HTTP, 2,000 events a request, wrk, ingest alone": ({"ratio_at_least": 0.6}, {"at_least": 1e6}),
    "  with SQLite and Parquet following, Prometheus asking": ({"ratio_at_least": 0.35}, {"ratio_at_least": 0.5}),
    "single events, 64 callers, in process, each durable": ({"ratio_at_least": 25.0}, None),
    "single events over HTTP, 64 connections, wrk": ({"at_least": 40e3}, {"at_least": 60e3}),
    "one caller, one event at a time over HTTP, p50": ({"above_limit_at_most": 0.15}, {"above_limit_at_most": 0.08}),
    "replay of segments into a no-op": ({"at_least": 3e6}, {"at_least": 10e6}),
    "peak memory of all rows so far": ({"at_most": 300.0}, {"at_most": 200.0}),
}


def test_every_row_is_there(tmp_path):
    rows = bench(tmp_path, "--quick")
    names = " | ".join(row["what"] for row in rows)
    for part in QUICK:
        assert part in names, names
    assert "DuckDB" not in names and "a log of" not in names
    asked = {row["what"]: (row["mark"], row["goal"]) for row in rows}
    for what, marks in ASKED.items():
        assert asked[what] == marks, what
    for row in rows:
        assert row["figure"]["least"] >= 0 and (row["met"] is None) == (row["mark"] is None), row


@FULL
def test_the_full_one_grows_a_log_and_asks_duckdb_about_twenty_million_predictions(tmp_path):
    rows = {row["what"]: row for row in bench(tmp_path, "--full")}
    print(json.dumps(rows, indent=1, ensure_ascii=False))
    (count,) = (row for what, row in rows.items() if "count by version and day" in what)
    (one,) = (row for what, row in rows.items() if "one prediction by id" in what)
    assert "20 M predictions" in count["what"]
    assert (count["mark"], one["mark"]) == ({"at_most": 0.5}, {"at_most": 0.3})
    assert any("a log of 50 M events" in what for what in rows)


def refused(tmp_path: Path, *arguments: str, **commands: str) -> str:
    """What is said where there are only these commands; nothing is measured."""
    for name, script in commands.items():
        command = tmp_path / name
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
    data = tmp_path / "data"
    done = subprocess.run(
        [binary(), "bench", *arguments, "--dir", str(data)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.returncode != 0 and not data.exists()
    return done.stderr


def test_a_python_without_duckdb_is_told_before_anything_is_measured(tmp_path):
    said = refused(tmp_path, "--full", wrk="exit 1", python3="echo no module named duckdb >&2\nexit 1")
    assert "pip install duckdb" in said and "no module named duckdb" in said, said


def test_a_machine_without_wrk_is_told_before_anything_is_measured(tmp_path):
    said = refused(tmp_path, "--quick")
    assert "wrk cannot be started" in said and "Debian's package `wrk`" in said, said
    said = refused(tmp_path, "--kafka", "127.0.0.1:1")
    assert "kcat cannot be started" in said and "Debian's package `kcat`" in said, said


STORES = {
    "sqlite": {"the log → SQLite, predictions": {"ratio_at_least": 0.7}},
    "postgres": {"the log → PostgreSQL, predictions": {"ratio_at_least": 0.5}},
    "mariadb": {"the log → MySQL, predictions": {"ratio_at_least": 0.7}},
    "redis": {
        "the log → Redis, every event kept": {"ratio_at_least": 0.8},
        "  the newest 10,000 of each of 4 versions, no streams": {"at_least": 1e6},
        "100 predictions from Redis, p50": {"at_most": 1.0},
        "a series of 1,000 points from Redis, p50": {"at_most": 1.0},
        "statistics of a version from Redis, p50": {"at_most": 0.5},
        "an event over HTTP until Redis answers with it, p99": {"at_most": 10.0},
    },
}


@pytest.mark.parametrize("shared", ["postgres", "mariadb"], indirect=True)
def test_every_row_about_a_database_is_there_and_nothing_is_left_of_it(shared, database, tmp_path):
    if not database.postgres:
        shared.ask(f"GRANT ALL ON modelog_bench.* TO {USER}")
    rows = bench(tmp_path, "--quick", "--store", database.url())
    check_store(rows, shared.kind)
    places = "schemata" if database.postgres else "tables"
    column = "schema_name" if database.postgres else "table_schema"
    left = f"SELECT {column} FROM information_schema.{places} WHERE {column} LIKE 'modelog%%'"
    assert database.rows(left) == []


def test_every_row_about_other_stores_is_there(tmp_path):
    check_store(bench(tmp_path / "sqlite", "--quick", "--store", "sqlite:"), "sqlite")
    redis = Redis(tmp_path / "server").start()
    try:
        redis.client().set("modelog_benchmark", "of somebody else")
        check_store(bench(tmp_path / "redis", "--quick", "--store", redis.url), "redis")
        assert redis.client().keys() == ["modelog_benchmark"]
    finally:
        redis.kill()


def check_store(rows: list[dict], store: str) -> None:
    asked = {row["what"]: row["mark"] for row in rows}
    for what, mark in {**STORES[store], "  memory meanwhile": {"at_most": 300.0}}.items():
        assert asked[what] == mark, what
    assert all(row["figure"]["least"] > 0 for row in rows), rows
