"""The real program, killed while history moves to Parquet: every acknowledged event once, wherever it is asked for."""

import json
import random
import subprocess
import threading
import time

import pyarrow.parquet

from conftest import PATIENCE, Server, binary, caught_up
from producers import Ledger, Lines, Posting, Single, Strict, producers

ROUNDS = 6
SORTS = [Lines, Lines, Single, Strict]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=PATIENCE)


def keys_in_parquet(server: Server) -> list[str]:
    """All there is for whoever globs."""
    files = sorted((server.data / "parquet").glob("kind=PredictionLogged/**/*.parquet"))
    return [key for file in files for key in pyarrow.parquet.read_table(file, columns=["prediction_id"])["prediction_id"].to_pylist()]


def test_kill_while_history_moves_to_parquet(tmp_path, monkeypatch, seed):
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "16KiB")
    monkeypatch.setenv("MODELOG_LOG__KEEP_SEGMENTS", "0s")
    monkeypatch.setenv("MODELOG_PARQUET__MAX_DELAY", "1s")
    moments = random.Random(seed)
    ledger = Ledger()
    work = producers(ledger, moments, SORTS)
    server = Server(tmp_path / "data")
    for _ in range(ROUNDS):
        server.start()
        before = len(keys_in_parquet(server))
        acknowledged = len(ledger.acknowledged)
        with Posting(server, work):
            while len(ledger.acknowledged) < acknowledged + 1_000 or len(keys_in_parquet(server)) == before:
                assert ledger.refused == []
                time.sleep(0.01)
            time.sleep(moments.random() / 4)
            server.kill()
        found = keys_in_parquet(server)
        assert len(set(found)) == len(found), "a glob sees no event twice, after a crash too"

    server.start()
    compacted = run("compact", "--data", str(server.data))
    assert compacted.returncode == 0, compacted.stderr
    caught_up(server)
    logged = [json.loads(line) for line in server.get("/v1/events").text.splitlines()]
    keys = [event["prediction_id"] for event in logged]
    assert [event["log_offset"] for event in logged] == list(range(len(logged)))
    ledger.check(keys)
    assert sorted(keys_in_parquet(server)) == sorted(keys), "and in Parquet, once"
    verified = run("verify", "--data", str(server.data))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert server.stop() == 0
    first = min(path.name for path in (server.data / "log").glob("*.seg"))
    assert int(first.split("-")[0]) > 0, "segments that Parquet holds are gone"
    leftovers = [path for path in (server.data / "parquet").rglob("*.tmp")]
    assert leftovers == []


def test_kill_during_backups(tmp_path, monkeypatch, seed):
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "16KiB")
    monkeypatch.setenv("MODELOG_PARQUET__MAX_DELAY", "1s")
    monkeypatch.setenv("MODELOG_BACKUP__PATH", str(tmp_path / "backups"))
    monkeypatch.setenv("MODELOG_BACKUP__EVERY", "1s")
    moments = random.Random(seed)
    ledger = Ledger()
    work = producers(ledger, moments, SORTS)
    server = Server(tmp_path / "data")
    for _ in range(3):
        server.start()
        backup = threading.Thread(target=run, args=("backup", str(tmp_path / "other"), "--data", str(server.data)))
        with Posting(server, work):
            time.sleep(0.2)
            backup.start()
            time.sleep(moments.random() / 5)
            server.kill()
        backup.join()
    server.start()
    whole = run("backup", str(tmp_path / "other"), "--data", str(server.data))
    while "(busy)" in whole.stderr:  # The one of the schedule comes first.
        time.sleep(0.1)
        whole = run("backup", str(tmp_path / "other"), "--data", str(server.data))
    assert whole.returncode == 0, whole.stderr
    assert server.stop() == 0
    restored = run("restore", str(tmp_path / "other"), "--data", str(tmp_path / "restored"))
    assert restored.returncode == 0, restored.stderr
    exported = run("export", "--data", str(tmp_path / "restored"))
    # A backup has every event that was acknowledged before it.
    ledger.check([json.loads(line)["prediction_id"] for line in exported.stdout.splitlines()])
