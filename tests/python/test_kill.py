"""The real program, killed at random moments while clients of several sorts post: what it acknowledged is there, where
it said, once; in the log and in SQLite."""

import json
import os
import random
import sqlite3
import subprocess
import time

from conftest import Server, binary, caught_up
from producers import Ledger, Posting, producers

# The long version takes 20 times as many.
KILLS = 1000 if os.environ.get("MODELOG_TESTS_FULL") else 50


def keys_from(server: Server, offset: int) -> list[str]:
    lines = server.get("/v1/events", params={"from": offset}).text.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["log_offset"] for event in events] == list(range(offset, offset + len(events))), "offsets are dense"
    return [event["prediction_id"] for event in events]


def check_at_rest(server: Server, logged: list[str]) -> None:
    """A server that was stopped: SQLite has what the log has, once, and `verify` finds nothing."""
    with sqlite3.connect(f"file:{server.database}?mode=ro", uri=True) as database:
        stored = [row[0] for row in database.execute("SELECT prediction_id FROM predictions")]
    assert len(stored) == len(logged), "in SQLite, once"
    assert set(stored) == set(logged)
    tool = subprocess.run(
        ["sqlite3", "-readonly", str(server.database), "PRAGMA integrity_check"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert tool.stdout.split() == ["ok"]
    verified = subprocess.run([binary(), "verify", "--data", str(server.data)], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_kills_while_clients_post(tmp_path, monkeypatch, seed, figure):
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "32KiB")
    monkeypatch.setenv("MODELOG_PARQUET__MAX_DELAY", "2s")
    monkeypatch.setenv("MODELOG_LOG__KEEP_SEGMENTS", "0s")
    moments = random.Random(seed)
    ledger = Ledger()
    work = producers(ledger, moments)
    server = Server(tmp_path / "data")
    started = time.monotonic()
    unanswered = while_starting = 0
    for _ in range(KILLS):
        if moments.random() < 0.1:
            # While it starts, or recovers from the kill before.
            server.begin()
            time.sleep(moments.random() * 0.1)
            server.kill()
            while_starting += 1
            continue
        server.start()
        ledger.follow(keys_from(server, len(ledger.places)))
        with Posting(server, work):
            time.sleep(moments.random() * 0.25)
            server.kill()
        unanswered += sum(producer.pending is not None for producer in work)

    server.start()
    for producer in work:
        producer.finish(server)
    ledger.follow(keys_from(server, len(ledger.places)))
    logged = list(ledger.places)
    ledger.check(logged)
    assert ledger.submitted == ledger.acknowledged.keys(), "what was sent again was taken"
    assert keys_from(server, 0) == logged, "what was read once is read again"
    caught_up(server)
    assert server.json("/v1/stats", params={"at_least": len(logged)})["predictions"] == len(logged)
    assert server.stop() == 0
    check_at_rest(server, logged)
    segments = int(max(path.name for path in (server.data / "log").glob("*.seg")).split("-")[1].split(".")[0])
    figure(
        f"kills: {KILLS} ({while_starting} while starting), {len(logged)} events acknowledged, {unanswered} calls "
        f"unanswered and sent again, {segments} segments, {time.monotonic() - started:.0f} s"
    )
    assert unanswered > KILLS / 2, "kills hit calls under way"
