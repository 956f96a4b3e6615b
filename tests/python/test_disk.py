"""The real program on real disks that fill up and fail. Mounts a file system of its own: run as root."""

import base64
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from conftest import Server, binary, caught_up, ndjson


def noise(seed: str, size: int) -> str:
    """Text of twice as many characters, which the log cannot make much smaller."""
    return base64.b64encode(random.Random(seed).randbytes(size * 3 // 2)).decode()


def prediction(id: str, size: int = 1) -> dict:
    return {"type": "PredictionLogged", "id": id, "model": "m", "version": "v", "output": noise(id, size)}


def logged(server: Server) -> list[str]:
    return [json.loads(line)["id"] for line in server.get("/v1/events").text.splitlines()]


def verified(data: Path) -> None:
    done = subprocess.run([binary(), "verify", "--data", str(data)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def use_up(ballast: Path) -> None:
    """Takes all space there is."""
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError as error:
        assert error.strerror == "No space left on device"
    finally:
        os.close(file)


def post_until_refused(server: Server, name: str) -> list[str]:
    taken = []
    for number in range(1000):
        ids = [f"{name}-{number}-{at}" for at in range(100)]
        answer = server.post(ndjson(*[prediction(id, 500) for id in ids]))
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["code"]) == (503, "disk_full"), answer.text
            assert int(answer.headers["retry-after"]) > 0
            return taken
        taken += ids
    raise AssertionError("the disk never became full")


def test_a_disk_fills_up_and_is_given_space(small_disk, monkeypatch):
    monkeypatch.setenv("MODELOG_LOG__RESERVE_BYTES", "4MiB")
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "16MiB")
    ballast = small_disk / "ballast"
    # The tables take more than the log: there must be room for what they lack.
    ballast.write_bytes(bytes(64 << 20))
    server = Server(small_disk / "data").start()
    try:
        taken = post_until_refused(server, "filling")
        assert len(taken) > 0
        # Tables that were begun can be read on a full disk; those that were not cannot be made there.
        assert server.json("/v1/stats?at_least=1")["events"] > 0
        # Nor is there any space for the tables now.
        use_up(ballast)
        assert server.post(ndjson(prediction("refused"))).status_code == 503
        ready = server.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "disk_full")
        assert "retry-after" in ready.headers
        assert server.get("/healthz").status_code == 200
        assert 0 < server.json("/v1/stats")["events"] <= len(taken)
        assert server.json("/v1/models?at_least=0")["items"][0]["model"] == "m"
        assert logged(server) == taken

        ballast.unlink()
        assert server.get("/readyz").status_code == 200
        answer = server.post(ndjson(prediction("after")))
        assert answer.status_code == 200, answer.text
        taken.append("after")
        caught_up(server)
        server.kill()
        server.start()
        assert logged(server) == taken
        caught_up(server)
        assert server.json("/v1/models/m/versions/v/stats")["predictions"] == len(taken)
        assert server.stop() == 0
        verified(server.data)
    finally:
        if server.process.poll() is None:
            server.kill()


def failing(tmp_path: Path, path: Path | None, calls: str, error: str, nth: int) -> str:
    """The program, in which each thread's n-th of these calls on the file fails; on any file if none is named."""
    script = tmp_path / "failing"
    files = f"-P {path}" if path else ""
    inject = f"-e trace={calls} -e inject={calls}:error={error}:when={nth}"
    trace = f"strace -D -f -qq -y -o {tmp_path}/trace {files} {inject}"
    script.write_text(f'#!/bin/sh\nexec {trace} {binary()} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(("call", "error"), [("fdatasync", "EIO"), ("fdatasync", "ENOSPC"), ("pwrite64", "EIO")])
def test_a_failed_write_poisons_until_the_restart(tmp_path, call, error):
    server = Server(tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch:
        segment = server.data / "log" / f"{0:020}-{0:06}.seg"
        patch.setenv("MODELOG_BIN", failing(tmp_path, segment, call, error, 20))
        server.start()
    try:
        ids = [f"e-{number}" for number in range(40)]
        answers = {id: server.post(ndjson(prediction(id))) for id in ids}
        codes = [answer.json().get("code", "taken") for answer in answers.values()]
        taken = [id for id, answer in answers.items() if answer.status_code == 200]
        assert 0 < len(taken) < 40
        assert codes == ["taken"] * len(taken) + ["outcome_unknown"] + ["poisoned"] * (39 - len(taken))
        ready = server.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "poisoned")
        assert "modelog_log_poisoned 1" in server.get("/metrics").text.splitlines()
        assert logged(server) == taken
        caught_up(server)
        server.stop()

        server.start()
        recovered = logged(server)
        assert recovered in (taken, ids[: len(taken) + 1]), "the unknown one may be there"
        # What a client does: it sends again what was not acknowledged.
        again = server.post(ndjson(*[prediction(id) for id in ids[len(taken) :]]))
        assert again.status_code == 200, again.text
        assert sorted(logged(server)) == sorted(ids)
        assert server.stop() == 0
        verified(server.data)
    finally:
        if server.process.poll() is None:
            server.kill()


SEGMENT = f"log/{0:020}-{0:06}.seg"
SYNCS = "fsync,fdatasync"
REFUSES, POISONED, GOES_ON = "does not start", "is poisoned", "goes on"
# Files and directories whose n-th sync fails, and what the program does then. The first ones of a log are its
# creation's, those of MANIFEST and spare.tmp after that are the first roll's. Caches, and what the log has too, are
# written again later.
FAILING = [
    (SEGMENT, 1, POISONED),
    (SEGMENT, 2, POISONED),
    (SEGMENT, 9, POISONED),
    ("log/MANIFEST.tmp", 1, REFUSES),
    ("log/MANIFEST", 1, REFUSES),
    ("log/MANIFEST", 2, POISONED),
    ("log", 1, REFUSES),
    ("log", 2, REFUSES),
    ("log/spare.tmp", 1, REFUSES),
    ("log/spare.tmp", 2, POISONED),
    ("snapshots/admission.tmp", 1, GOES_ON),
    ("parquet/_manifest.json.tmp", 1, GOES_ON),
]


def any_file() -> list:
    """Each thread's n-th sync of anything, which may be the one or the other; only in the long version."""
    return [pytest.param(None, nth, None, marks=pytest.mark.full) for nth in range(1, 41)]


def start_or_say_why(server: Server) -> bool:
    """Whether it started. A disk that fails meanwhile is a reason not to, and it is told."""
    try:
        server.start()
    except AssertionError:
        assert server.process.wait() == 74, server.said()
        assert "error: " in server.said()
        return False
    return True


@pytest.mark.parametrize(("file", "nth", "expected"), [*FAILING, *any_file()])
def test_a_failed_sync_of_any_file_loses_nothing(tmp_path, monkeypatch, file, nth, expected):
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "64KiB")
    monkeypatch.setenv("MODELOG_PARQUET__MAX_DELAY", "1s")
    server = Server(tmp_path / "data")
    calls = [[f"e-{call}-{at}" for at in range(20)] for call in range(60)]
    taken: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELOG_BIN", failing(tmp_path, file and server.data / file, SYNCS, "EIO", nth))
        started = start_or_say_why(server)
    try:
        outcomes = []
        for ids in calls if started else []:
            answer = server.post(ndjson(*[prediction(id, 100) for id in ids]))
            outcomes.append("taken" if answer.status_code == 200 else answer.json()["code"])
            taken += ids if answer.status_code == 200 else []
        first = outcomes.count("taken")
        failed = first < len(outcomes)
        became = (POISONED if failed else GOES_ON) if started else REFUSES
        assert expected in (became, None), outcomes
        # Poisoned at once and for good; only the call that was being written does not know.
        assert outcomes[first : first + 1] in ([], ["outcome_unknown"], ["poisoned"])
        assert set(outcomes[first + 1 :]) <= {"poisoned"}, outcomes
        if started:
            assert server.get("/readyz").status_code == (503 if failed else 200)
            assert logged(server) == taken, "reads go on, and show what was acknowledged"
            server.stop()
        assert "(INJECTED)" in (tmp_path / "trace").read_text(), "the sync never came"

        server.start()
        recovered = logged(server)
        assert recovered[: len(taken)] == taken
        rest = recovered[len(taken) :]
        assert rest in ([], calls[first] if first < len(calls) else []), "the unknown one may be there"
        for ids in calls:
            if ids[0] not in taken:
                again = server.post(ndjson(*[prediction(id, 100) for id in ids]))
                assert again.status_code == 200, again.text
        assert logged(server) == [id for ids in calls for id in ids]
        caught_up(server)
        assert server.stop() == 0
        verified(server.data)
    finally:
        if server.process.poll() is None:
            server.kill()
