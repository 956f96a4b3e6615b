"""History that only Parquet holds: with segments, tables and snapshots gone, every read route answers as before."""

import json
import random
import re
import shutil
import subprocess

import httpx
import httpx_sse

from conftest import PATIENCE, Server, binary, caught_up, ndjson
from test_durability import ROUTES, history

# Segments are many, and kept: the test decides which are deleted.
CONFIG = """
[log]
segment_bytes = "16KiB"
"""
MORE_ROUTES = [
    "/v1/experiments/e",
    "/v1/datasets/d",
    "/v1/runs/r1/metrics/loss?from_step=3&to_step=20",
    "/v1/models/m/versions/v1/metrics",
    "/v1/models/m/versions/v1/metrics/accuracy",
    "/v1/models/m/predictions/p-399",
    "/v1/models/1?by=id",
    "/v1/models/bulk/versions/v1/predictions?limit=10000",
    "/v1/events?kind=PredictionLogged&model=m&from=50",
    "/v1/events?run=r2",
    "/v1/events?kind=EventRejected",
]
ALL = [*ROUTES, *MORE_ROUTES]
# What says how things stand rather than what happened.
LIVE = {"/v1/projections", "/v1/sources", "/v1/tail"}


def of_versions() -> str:
    return ndjson(
        *[
            {"type": "MetricLogged", "model": "m", "version": "v1", "name": "accuracy", "value": step / 7, "step": step}
            for step in range(5)
        ]
    )


def bulk() -> str:
    """Enough for several segments, whatever compresses them."""
    numbers = random.Random(4)
    return ndjson(
        *[
            {"type": "PredictionLogged", "model": "bulk", "version": "v1", "input": f"{numbers.getrandbits(1024):x}"}
            for _ in range(1500)
        ]
    )


def ask(server: Server, route: str):
    answer = server.get(route)
    assert answer.status_code == 200, f"{route}: {answer.text}"
    offset = answer.headers.get("modelog-offset")
    return offset, answer.text if route.startswith("/v1/events") else answer.json()


def tail(server: Server, count: int) -> list[str]:
    """The first events of the live feed, from the beginning of the log."""
    seen: list[str] = []
    url = f"{server.url}/v1/tail?from=0"
    with httpx.Client(timeout=PATIENCE) as http, httpx_sse.connect_sse(http, "GET", url) as source:
        for event in source.iter_sse():
            if event.data:
                seen.append(event.data)
            if len(seen) == count:
                return seen
    raise AssertionError(f"the feed ended after {len(seen)} events")


def run(*arguments: str) -> str:
    done = subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_routes_are_all_there_are(server):
    described = server.json("/openapi.json")["paths"]
    reads = [path for path, methods in described.items() if "get" in methods and path.startswith("/v1/")]
    asked = [route.split("?")[0] for route in ALL]
    for path in set(reads) - LIVE:
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", path)
        assert any(re.fullmatch(pattern, route) for route in asked), f"{path} is not asked"


def test_every_route_answers_from_parquet_alone(tmp_path):
    config = tmp_path / "modelog.toml"
    config.write_text(CONFIG)
    server = Server(tmp_path / "data", "--config", str(config)).start()
    lines = (history() + of_versions()).splitlines(keepends=True)
    more = bulk().splitlines(keepends=True)
    calls = [lines[start : start + 37] for start in range(0, len(lines), 37)]
    calls += [more[start : start + 300] for start in range(0, len(more), 300)]
    for call in calls:
        answer = server.post("".join(call))
        assert answer.status_code == 200, answer.text
    # What is not understood is history as well; so is a repeat, and what a key was answered.
    refused = server.post('{"type":"Nonsense"}\n', params={"on_error": "skip"})
    assert refused.status_code == 200, refused.text
    keyed = {"idempotency-key": "once"}
    first = server.post(ndjson({"type": "EventLogged", "name": "keyed"}), headers=keyed)
    identified = ndjson({"type": "EventLogged", "name": "identified", "id": "the-one"})
    assert server.post(identified).json()["accepted"] == 1
    caught_up(server)
    before = {route: ask(server, route) for route in ALL}
    count = len(before["/v1/events"][1].splitlines())
    followed = tail(server, count)

    compacted = json.loads(run("compact", "--data", str(server.data), "--format", "json"))
    assert compacted["cold_end"] == count
    assert server.stop() == 0
    segments = sorted((server.data / "log").glob("*.seg"))
    assert len(segments) > 2
    for segment in segments:
        segment.unlink()
    shutil.rmtree(server.data / "sqlite")
    shutil.rmtree(server.data / "snapshots")

    server.start()
    caught_up(server)
    for route in ALL:
        assert ask(server, route) == before[route], route
    assert tail(server, count) == followed
    # The same call and the same event are recognised, and numbers go on where they were.
    assert server.post(ndjson({"type": "EventLogged", "name": "keyed"}), headers=keyed).json() == first.json()
    assert server.post(identified).json()["duplicates"] == 1
    created = httpx.post(f"{server.url}/v1/models", json={"model": "another"}, timeout=PATIENCE)
    assert created.status_code == 201, created.text
    known = {model["id"] for model in before["/v1/models"][1]["items"]}
    assert created.json()["id"] == max(known) + 1
    # A prediction of then still finds its label of now.
    labelled = server.post(ndjson({"type": "FeedbackLogged", "prediction_id": "p-1", "true_class": "1"}))
    assert labelled.status_code == 200
    caught_up(server)
    earlier = before["/v1/models/m/versions/v1/stats"][1]
    assert server.json("/v1/models/m/versions/v1/stats") != earlier
    assert server.stop() == 0
    run("verify", "--data", str(server.data))


def test_a_restored_backup_answers_alike(tmp_path):
    server = Server(tmp_path / "data").start()
    assert server.post(history() + of_versions() + bulk()).status_code == 200
    caught_up(server)
    before = {route: ask(server, route) for route in ALL}
    run("compact", "--data", str(server.data))
    made = json.loads(run("backup", str(tmp_path / "backups"), "--data", str(server.data), "--format", "json"))
    # What happens afterwards is not part of it.
    server.post(ndjson({"type": "ModelCreated", "model": "later"}))
    assert server.stop() == 0
    restored = Server(tmp_path / "restored")
    told = json.loads(run("restore", str(tmp_path / "backups"), "--data", str(restored.data), "--format", "json"))
    assert told["offset"] == made["offset"]
    restored.start()
    caught_up(restored)
    for route in ALL:
        assert ask(restored, route) == before[route], route
    assert restored.stop() == 0
