"""Answers from memory: the same as from SQL, whatever has left it."""

import httpx
import pytest
from conftest import Server, caught_up, ndjson

WINDOW = 50


@pytest.fixture
def configured(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELOG_READ_FROM", "memory")
    monkeypatch.setenv("MODELOG_MEMORY__PREDICTIONS_WINDOW", str(WINDOW))
    monkeypatch.setenv("MODELOG_MEMORY__METRICS_WINDOW", str(WINDOW))
    with_memory = Server(tmp_path / "data").start()
    yield with_memory
    with_memory.stop()


def log(server: Server, first: int, end: int) -> None:
    events = []
    for at in range(first, end):
        version = "abc"[at % 3]
        events += [
            {"type": "PredictionLogged", "model": "m", "version": version, "prediction_id": f"p-{at}", "confidence": 0.5},
            {"type": "FeedbackLogged", "model": "m", "prediction_id": f"p-{at - 200}", "correct": at % 2 == 0},
            {"type": "MetricLogged", "run": "r", "name": "loss", "value": at, "step": at},
        ]
    assert server.post(ndjson(*events)).status_code == 200


def everything(server: Server) -> list:
    """The answers to many questions, lists read page by page."""
    answers = [server.json("/v1/stats"), server.json("/v1/runs/r/metrics"), server.json("/v1/runs/r/metrics/loss")]
    answers.append(server.json("/v1/runs/r/metrics/loss?from_step=590"))
    for version in "abc":
        path = f"/v1/models/m/versions/{version}/predictions"
        for limit in (7, 60):
            cursor, found = "", []
            while cursor is not None:
                page = server.json(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))
                found += page["items"]
                cursor = page["next_cursor"]
            answers.append(found)
        answers.append(server.json(f"/v1/models/m/versions/{version}/stats"))
    for at in (0, 300, 599):
        answers.append(server.json(f"/v1/models/m/predictions/p-{at}"))
    return answers


def projections(server: Server) -> dict:
    return {found["name"]: found for found in server.json("/v1/projections")["items"]}


def test_what_memory_has_and_what_has_left_it_are_one(configured, tmp_path, monkeypatch):
    log(configured, 0, 400)
    log(configured, 400, 600)
    answers = everything(configured)
    assert [len(found) for found in answers if isinstance(found, list)] == [200] * 6
    assert projections(configured)["memory"]["state"] == "running"

    # It is built anew whenever the program starts.
    configured.kill()
    again = Server(tmp_path / "data").start()
    caught_up(again)
    assert everything(again) == answers
    assert httpx.post(f"{again.url}/v1/projections/memory/rebuild").status_code == 202
    assert everything(again) == answers
    assert again.stop() == 0

    # SQL alone says the same.
    monkeypatch.setenv("MODELOG_READ_FROM", "sql")
    sql = Server(tmp_path / "data").start()
    caught_up(sql)
    assert "memory" not in projections(sql)
    assert everything(sql) == answers
    assert sql.stop() == 0


def test_a_read_sees_what_was_written_before_it(configured):
    with httpx.Client(base_url=configured.url) as client:
        for at in range(200):
            event = {"type": "PredictionLogged", "model": "m", "version": "v", "prediction_id": f"p-{at}"}
            end = client.post("/v1/events", json=event).json()["end_offset"]
            answer = client.get(f"/v1/models/m/predictions/p-{at}")
            assert answer.status_code == 200, at
            assert int(answer.headers["modelog-offset"]) >= end
