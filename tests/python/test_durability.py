"""The real program, restarted and rebuilt: what can be rebuilt is rebuilt alike, who follows misses nothing."""

import json
import shutil
import subprocess

import httpx
import httpx_sse

from conftest import PATIENCE, Server, binary, caught_up, ndjson

def history() -> str:
    """A bit of everything, in an order that makes stores work for it."""
    events: list[dict] = [
        {"type": "FeedbackLogged", "prediction_id": "p-3", "model": "m", "true_class": "3"},
        {"type": "ModelCreated", "model": "m", "framework": "PyTorch", "tags": {"team": "a"}},
        {"type": "ModelVersionCreated", "model": "m", "version": "v1", "config": {"layers": 9007199254740993}},
        {"type": "ModelVersionAliased", "model": "m", "alias": "prod", "version": "v1"},
        {"type": "DatasetRegistered", "dataset": "d", "row_count": 1797, "split_info": {"train": 0.5}},
        {"type": "ExperimentCreated", "experiment": "e"},
    ]
    for run in range(4):
        events.append({"type": "RunStarted", "run": f"r{run}", "experiment": "e", "model": "m", "version": f"v{run % 2}"})
        events.append({"type": "HyperparametersLogged", "run": f"r{run}", "params": {"lr": 0.1, "run": run}})
        events.append({"type": "DatasetUsed", "run": f"r{run}", "dataset": "d", "role": "train"})
        for step in range(30):
            value = [1 / (step + 1), "NaN", "Infinity"][step % 7 == 3]
            events.append({"type": "MetricLogged", "run": f"r{run}", "name": "loss", "value": value, "step": step})
        events.append({"type": "RunFinished", "run": f"r{run}", "status": ["finished", "failed"][run % 2]})
    for number in range(400):
        events.append(
            {
                "type": "PredictionLogged",
                "model": "m",
                "version": f"v{number % 2}",
                "prediction_id": f"p-{number}",
                "output": {"class": number},
                "predicted_class": str(number % 10),
                "confidence": (number % 97) / 97,
                "inference_time_ms": 1 + number % 13,
                "time": 1_795_366_800_000_000 + number,
            }
        )
        if number % 3 == 0:
            events.append({"type": "FeedbackLogged", "prediction_id": f"p-{number}", "true_class": str(number % 9)})
    events += [
        {"type": "TagsSet", "entity": "model/m", "tags": {"team": None, "tier": 1}},
        {"type": "EntityDeleted", "entity": "run/r3"},
    ]
    return ndjson(*events)


ROUTES = [
    "/v1/models",
    "/v1/models/m",
    "/v1/models/m/versions",
    "/v1/models/m/versions/v1",
    "/v1/models/m/versions/@prod",
    "/v1/experiments",
    "/v1/datasets",
    "/v1/runs",
    "/v1/runs?status=failed",
    "/v1/runs/r0",
    "/v1/runs/r0/metrics",
    "/v1/runs/r0/metrics/loss",
    "/v1/runs/r0/metrics/loss?max_points=10",
    "/v1/models/m/versions/v0/predictions?limit=1000",
    "/v1/models/m/predictions/p-3",
    "/v1/stats",
    "/v1/models/m/versions/v0/stats",
    "/v1/models/m/versions/v1/stats",
    "/v1/models/m/versions/v1/stats?since=2026-11-22T17:00:00Z&until=2026-11-22T17:00:00.000200Z",
    "/v1/compare?a=m@v0&b=m@v1",
    "/v1/events",
]


def test_deleting_what_can_be_rebuilt_changes_no_answer(tmp_path):
    server = Server(tmp_path / "data").start()
    lines = history().splitlines(keepends=True)
    for start in range(0, len(lines), 37):
        answer = server.post("".join(lines[start : start + 37]))
        assert answer.status_code == 200, answer.text
    caught_up(server)
    before = {route: server.json(route) if route != "/v1/events" else server.get(route).text for route in ROUTES}
    assert server.stop() == 0
    shutil.rmtree(server.data / "sqlite")
    shutil.rmtree(server.data / "snapshots")
    server.start()
    caught_up(server)
    for route in ROUTES:
        after = server.json(route) if route != "/v1/events" else server.get(route).text
        assert after == before[route], route
    assert server.stop() == 0


def test_a_rebuild_changes_no_answer(server):
    assert server.post(history()).status_code == 200
    caught_up(server)
    before = {route: server.json(route) for route in ROUTES if route != "/v1/events"}
    done = subprocess.run(
        [binary(), "rebuild", "sql", "--data", str(server.data)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    caught_up(server)
    for route, answer in before.items():
        assert server.json(route) == answer, route


def test_followers_see_every_event_once_across_a_restart(server):
    server.post(ndjson(*[{"type": "EventLogged", "name": f"n{number}"} for number in range(10)]))
    seen: list[str] = []
    position = None
    for expected in (10, 20):
        headers = {"last-event-id": position} if position else {}
        url = f"{server.url}/v1/tail" if position else f"{server.url}/v1/tail?from=0"
        with httpx.Client(timeout=PATIENCE) as http, httpx_sse.connect_sse(http, "GET", url, headers=headers) as source:
            for event in source.iter_sse():
                if not event.data:
                    continue
                seen.append(json.loads(event.data)["name"])
                position = event.id
                if len(seen) == expected:
                    break
        if expected == 10:
            server.kill()
            server.start()
            server.post(ndjson(*[{"type": "EventLogged", "name": f"n{number}"} for number in range(10, 20)]))
    assert seen == [f"n{number}" for number in range(20)]
