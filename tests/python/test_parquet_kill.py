"""The real program, killed while history moves to Parquet: every acknowledged event once, wherever it is asked for."""

import json
import random
import subprocess
import threading
import time

import pyarrow.parquet

from conftest import PATIENCE, Server, binary, caught_up
from test_durability import CLIENTS, post_until_killed

ROUNDS = 6


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=PATIENCE)


def ids_in_parquet(server: Server) -> list[str]:
    """All there is for whoever globs."""
    files = sorted((server.data / "parquet").glob("kind=PredictionLogged/**/*.parquet"))
    return [id for file in files for id in pyarrow.parquet.read_table(file, columns=["id"])["id"].to_pylist()]


def test_kill_while_history_moves_to_parquet(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "64KiB")
    monkeypatch.setenv("MODELOG_LOG__KEEP_SEGMENTS", "0s")
    monkeypatch.setenv("MODELOG_PARQUET__MAX_DELAY", "1s")
    server = Server(tmp_path / "data")
    acknowledged: list[str] = []
    for round in range(ROUNDS):
        server.start()
        stop = threading.Event()
        sent: list[list[str]] = [[] for _ in range(CLIENTS)]
        threads = [
            threading.Thread(target=post_until_killed, args=(server, round * CLIENTS + client, sent[client], stop))
            for client in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        before = len(ids_in_parquet(server))
        while sum(map(len, sent)) < 1_000 or len(ids_in_parquet(server)) == before:
            time.sleep(0.01)
        time.sleep(random.random() / 4)
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
        acknowledged += [id for ids in sent for id in ids]
        found = ids_in_parquet(server)
        assert len(set(found)) == len(found), "a glob sees no event twice, after a crash too"

    server.start()
    compacted = run("compact", "--data", str(server.data))
    assert compacted.returncode == 0, compacted.stderr
    caught_up(server)
    logged = [json.loads(line) for line in server.get("/v1/events").text.splitlines()]
    ids = [event["id"] for event in logged]
    assert [event["log_offset"] for event in logged] == list(range(len(logged)))
    assert len(set(ids)) == len(ids), "once"
    assert set(acknowledged) <= set(ids), "every acknowledged event is in the log"
    assert sorted(ids_in_parquet(server)) == sorted(ids), "and in Parquet, once"
    verified = run("verify", "--data", str(server.data))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert server.stop() == 0
    first = min(path.name for path in (server.data / "log").glob("*.seg"))
    assert int(first.split("-")[0]) > 0, "segments that Parquet holds are gone"
    leftovers = [path for path in (server.data / "parquet").rglob("*.tmp")]
    assert leftovers == []


def test_kill_during_backups(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "64KiB")
    monkeypatch.setenv("MODELOG_PARQUET__MAX_DELAY", "1s")
    monkeypatch.setenv("MODELOG_BACKUP__PATH", str(tmp_path / "backups"))
    monkeypatch.setenv("MODELOG_BACKUP__EVERY", "1s")
    server = Server(tmp_path / "data")
    acknowledged: list[str] = []
    for round in range(3):
        server.start()
        stop = threading.Event()
        threads = [
            threading.Thread(target=post_until_killed, args=(server, round * CLIENTS + client, acknowledged, stop))
            for client in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        backup = threading.Thread(target=run, args=("backup", str(tmp_path / "other"), "--data", str(server.data)))
        time.sleep(0.2)
        backup.start()
        time.sleep(random.random() / 5)
        server.kill()
        stop.set()
        for thread in [*threads, backup]:
            thread.join()
    server.start()
    known = set(acknowledged)
    whole = run("backup", str(tmp_path / "other"), "--data", str(server.data))
    while "(busy)" in whole.stderr:  # The one of the schedule comes first.
        time.sleep(0.1)
        whole = run("backup", str(tmp_path / "other"), "--data", str(server.data))
    assert whole.returncode == 0, whole.stderr
    assert server.stop() == 0
    restored = run("restore", str(tmp_path / "other"), "--data", str(tmp_path / "restored"))
    assert restored.returncode == 0, restored.stderr
    exported = run("export", "--data", str(tmp_path / "restored"))
    ids = [json.loads(line)["id"] for line in exported.stdout.splitlines()]
    assert len(set(ids)) == len(ids)
    assert known <= set(ids), "a backup has every event that was acknowledged before it"
