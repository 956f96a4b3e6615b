"""Redis as its users meet it: with clients that are not ours, and with everything that happens to servers."""

import json
import os
import random
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import redis
from conftest import PATIENCE, Server, binary, ndjson
from redis_support import Redis, certificates, with_tls
from test_memory import everything, log


@pytest.fixture
def store(tmp_path):
    server = Redis(tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.fixture
def settings(store, monkeypatch):
    """Sets what the server under test is told about Redis."""

    def configure(**values):
        for name, value in values.items():
            monkeypatch.setenv(f"MODELOG_{name.upper()}", str(value))

    configure(redis__url=store.url, redis__rewind="1s")
    return configure


def status(server: Server, name="redis") -> dict:
    (found,) = [found for found in server.json("/v1/projections")["items"] if found["name"] == name]
    return found


def until(condition, what: str):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(what)


def caught_up(server: Server, name="redis") -> None:
    def there():
        found = status(server, name)
        return found["state"] == "running" and found["lag_events"] == 0

    until(there, f"{name} does not catch up: {status(server, name)}")


def post(server: Server, *events: dict) -> None:
    answer = server.post(ndjson(*events))
    assert answer.status_code == 200, answer.text


def prediction(at: int, **fields) -> dict:
    return {"type": "PredictionLogged", "model": "m", "version": "v", "prediction_id": f"p-{at}"} | fields


STORY = [
    {"type": "ModelCreated", "model": "resnet50", "framework": "PyTorch", "tags": {"stage": "prod"}},
    {"type": "ModelVersionCreated", "model": "resnet50", "version": "v1", "config": {"layers": 50}},
    {"type": "ModelVersionAliased", "model": "resnet50", "alias": "best", "version": "v1"},
    {"type": "RunStarted", "run": "r1", "experiment": "baseline", "model": "resnet50", "version": "v1"},
    {"type": "HyperparametersLogged", "run": "r1", "params": {"lr": 0.01, "deep": {"a": [1, 2]}}},
    {"type": "MetricLogged", "run": "r1", "name": "loss", "value": 0.5, "step": 1, "split": "train"},
    {"type": "MetricLogged", "run": "r1", "name": "loss", "value": "NaN", "step": 2, "split": "train"},
    {"type": "PredictionLogged", "model": "resnet50", "version": "v1", "prediction_id": "p:1", "output": {"c": 1}}
    | {"predicted_class": "cat", "confidence": 0.75, "time": "2026-11-22T17:00:00Z"},
    {"type": "FeedbackLogged", "prediction_id": "p:1", "true_class": "cat"},
]


def test_the_layout_is_what_the_page_says(store, settings, tmp_path):
    settings(redis__ttl__predictions="forever")
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    caught_up(server)
    db = store.client()
    model = db.hgetall("aidb:model:1")
    assert (model["model"], model["framework"], json.loads(model["tags"])) == ("resnet50", "PyTorch", {"stage": "prod"})
    assert json.loads(model["aliases"]) == {"best": 1}
    assert json.loads(db.hget("aidb:version:1", "config")) == {"layers": 50}
    assert db.hgetall("aidb:hyperparam:1") == {"lr": "0.01", "deep": '{"a": [1, 2]}'}
    assert db.hget("aidb:run:1", "status") == "running"
    assert db.zrange("aidb:idx:models", 0, -1) == ["1"]
    assert db.zrange("aidb:idx:versions:1", 0, -1) == ["1"]
    assert db.hget("aidb:idx:name:model", "resnet50") == "1"
    assert db.smembers("aidb:exprun:1:runs") == {"1"}
    assert db.get("aidb:counter:model") == "1"
    points = db.zrange("aidb:metric:1:loss:train", 0, -1, withscores=True)
    assert [score for _, score in points] == [1, 2]
    assert [json.loads(member[20:])["value"] for member, _ in points] == [0.5, "NaN"]
    assert [int(member[:20]) for member, _ in points] == [5, 6]
    ((member, score),) = db.zrange("aidb:idx:predictions:1", 0, -1, withscores=True)
    offset, key = member[:20], member[21:]
    assert (int(offset), key, score) == (7, "p%3A1", 1795366800000000)
    found = db.hgetall(f"aidb:prediction:{key}")
    assert (found["predicted_class"], found["confidence"], found["output"]) == ("cat", "0.75", '{"c": 1}')
    assert json.loads(found["feedback"])["true_class"] == "cat"
    assert db.ttl(f"aidb:prediction:{key}") == -1
    assert db.hget("aidb:stats", "predictions") == "1"
    assert db.hgetall("aidb:stats:version:1")["accuracy"] == "1"
    checkpoint = db.hgetall("aidb:checkpoint")
    assert checkpoint["offset"] == "9"
    # The same for who has only a shell.
    assert store.cli("HGET", "aidb:prediction:p%3A1", "predicted_class") == "cat"
    # The feeds: entries name the ones before them.
    entries = db.xrange("aidb:stream:events")
    assert [entry for entry, _ in entries] == [f"{offset}-1" for offset in range(9)]
    assert [fields["prev"] for _, fields in entries] == [""] + [f"{offset}-1" for offset in range(8)]
    assert json.loads(entries[0][1]["event"])["model"] == "resnet50"
    assert [entry for entry, _ in db.xrange("aidb:stream:predictions:1")] == ["7-1"]
    assert [entry for entry, _ in db.xrange("aidb:stream:metrics:1")] == ["5-1", "6-1"]
    assert all(key.startswith("aidb:") for key in db.scan_iter())
    assert server.stop() == 0


def test_predictions_expire_and_large_payloads_stay_out(store, settings, tmp_path):
    settings(redis__ttl__predictions="1h", redis__payload_bytes_max="64B", read_from="redis")
    server = Server(tmp_path / "data").start()
    post(server, prediction(1, input={"x": "y" * 100}, output={"c": 1}))
    caught_up(server)
    db = store.client()
    found = db.hgetall("aidb:prediction:p-1")
    assert (found["omitted"], "input" in found, found["output"]) == ("input", False, '{"c": 1}')
    assert 3500 < db.ttl("aidb:prediction:p-1") <= 3600
    # SQL has it, and answers.
    assert server.json("/v1/models/m/predictions/p-1")["input"] == {"x": "y" * 100}
    assert server.stop() == 0


def test_redis_answers_as_sql_does(store, settings, tmp_path):
    settings(read_from="redis", redis__predictions_window=50, redis__metrics_window=50)
    server = Server(tmp_path / "data").start()
    log(server, 0, 400)
    log(server, 400, 600)
    caught_up(server)
    assert store.client().zcard("aidb:idx:predictions:1") <= 55
    answers = everything(server)
    assert server.stop() == 0
    settings(read_from="sql")
    sql = Server(tmp_path / "data").start()
    caught_up(sql, "sql")
    assert everything(sql) == answers
    assert sql.stop() == 0


def test_a_number_that_is_known_is_not_believed_for_ever(store, settings, tmp_path):
    settings(read_from="redis")
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    caught_up(server)
    version = "/v1/models/resnet50/versions/v1"
    questions = ["/v1/models/resnet50", version, f"{version}/stats", f"{version}/predictions", "/v1/runs/r1"]
    questions.append("/v1/runs/r1/metrics/loss?split=train")
    answers = {question: server.json(question) for question in questions}
    by_name = {"model": questions[:4], "version": questions[1:4], "run": questions[4:]}
    db = store.client()
    for kind, asked in by_name.items():
        key = f"aidb:{kind}:1"
        kept = db.hgetall(key)
        db.delete(key)
        assert {question: server.json(question) for question in questions} == answers
        db.hset(key, mapping=kept | {kind: "of another log"})
        assert all(server.json(question) == answers[question] for question in asked)
        db.hset(key, mapping=kept)
    db.hset("aidb:model:1", "framework", "as it is in Redis")
    assert server.json(questions[0])["framework"] == "as it is in Redis"
    assert server.stop() == 0


def test_questions_go_on_over_new_connections(store, settings, tmp_path):
    """A server that was restarted, or that ends what is idle, has closed the old ones: nobody is told of that."""
    settings(read_from="redis")
    server = Server(tmp_path / "data").start()
    post(server, *STORY, *(prediction(at) for at in range(150)))
    caught_up(server)
    db = store.client()
    # Whoever answers with that is Redis.
    db.hset("aidb:model:1", "framework", "as it is in Redis")

    def ask(_) -> None:
        assert server.json("/v1/models/resnet50")["framework"] == "as it is in Redis"
        page = server.json("/v1/models/m/versions/v/predictions?limit=100")
        assert len({found["prediction_id"] for found in page["items"]}) == 100

    for _ in range(3):
        ask(None)
        # The store is written over another one, which ends with other commands.
        asking = [client["id"] for client in db.client_list() if client["cmd"] in ("hmget", "hget")]
        assert asking and all(db.client_kill_filter(_id=client) == 1 for client in asking)
    ask(None)
    with ThreadPoolExecutor(64) as many:
        list(many.map(ask, range(640)))
    clients = [client for client in db.client_list() if client["id"] != str(db.client_id())]
    assert 2 <= len(clients) <= 16 + 5, "questions share a bounded number of connections"
    assert server.stop() == 0


def test_two_models_may_answer_the_same_requests(store, settings, tmp_path):
    settings(redis__ttl__predictions="forever", redis__predictions_window=20, read_from="redis")
    server = Server(tmp_path / "data").start()
    db = store.client()
    for model in ("live", "shadow"):
        post(server, *(prediction(at, model=model, predicted_class=model) for at in range(10)))
    caught_up(server)
    assert db.hget("aidb:prediction:p-3", "model") == "live"
    assert db.hget("aidb:prediction:p-3:2", "model") == "shadow"
    # Feedback that names no model is about both.
    post(server, {"type": "FeedbackLogged", "prediction_id": "p-3", "correct": True})
    # The first model's leave, and their keys become free; the other's keep their own.
    post(server, *(prediction(at, model="live") for at in range(100, 200)))
    post(server, prediction(3, model="shadow", confidence=0.25))
    caught_up(server)
    assert not db.exists("aidb:prediction:p-3")
    found = server.json("/v1/models/shadow/predictions/p-3")
    assert (found["predicted_class"], found["confidence"], found["feedback"]["correct"]) == ("shadow", 0.25, True)
    page = server.json("/v1/models/shadow/versions/v/predictions")["items"]
    assert [one["prediction_id"] for one in page] == [f"p-{at}" for at in range(9, -1, -1)]
    assert db.zcard("aidb:idx:predictions:2") == 10
    assert server.stop() == 0


def test_a_late_half_does_not_hide_what_is_new(store, settings, tmp_path):
    settings(redis__ttl__predictions="forever", redis__predictions_window=20)
    server = Server(tmp_path / "data").start()
    db = store.client()
    post(server, prediction(0, part="request"))
    post(server, *(prediction(at) for at in range(1, 101)))
    caught_up(server)
    bound = db.hget("aidb:left", "1")
    post(server, prediction(0, part="response", confidence=0.5))
    caught_up(server)
    assert db.hget("aidb:left", "1") == bound
    assert 20 <= db.zcard("aidb:idx:predictions:1") <= 22
    assert server.stop() == 0


def test_readers_of_streams_keep_their_places_over_a_rebuild(store, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, *(prediction(at) for at in range(10)))
    caught_up(server)
    db = store.client()
    stream = "aidb:stream:predictions:1"
    db.xgroup_create(stream, "readers", id="0")

    def read(count):
        answer = db.xreadgroup("readers", "one", {stream: ">"}, count=count)
        return [entry for _, entries in answer for entry, _ in entries]

    first = read(4)
    assert httpx.post(f"{server.url}/v1/projections/redis/rebuild").status_code == 202
    post(server, *(prediction(at) for at in range(10, 20)))
    until(lambda: db.xlen(stream) == 20, "the stream goes on")
    caught_up(server)
    assert first + read(100) == [f"{offset}-1" for offset in range(20)]
    assert db.zcard("aidb:idx:predictions:1") == 20
    assert server.stop() == 0


@pytest.mark.parametrize("heard", [False, True])
def test_a_backlog_leaves_what_is_newest(store, settings, tmp_path, heard):
    """Most of it is pushed out by what comes behind it, and never written."""
    count, window, length = 120_000, 50, 200
    settings(redis__ttl__predictions="forever", redis__predictions_window=window, redis__stream_length=length)
    events = (prediction(at, version=f"v{at % 2}", confidence=0.5, error="x" * 100) for at in range(count))
    # Two that belong to one, far apart; one that lies ahead of its time; and what waits for a prediction that goes.
    halves = [prediction("half", version="v0", part="request"), prediction("half", version="v0", part="response")]
    ahead = prediction("ahead", version="v0", time="2100-01-01T00:00:00Z")
    late = {"type": "FeedbackLogged", "prediction_id": "p-1", "correct": True}
    path = tmp_path / "events.ndjson"
    path.write_text(ndjson(halves[0], ahead, *events, late, halves[1]))
    data = tmp_path / "data"
    subprocess.run([binary(), "import", "--data", str(data), str(path)], check=True, capture_output=True)
    db = store.client()
    if heard:
        listener = store.client().pubsub(ignore_subscribe_messages=True)
        listener.subscribe("aidb:live:predictions:2")
        until(lambda: db.pubsub_numsub("aidb:live:predictions:2")[0][1] == 1, "the subscription is there")
    server = Server(data).start()
    caught_up(server)
    # Offsets: the first half, the one ahead, then all others.
    for version, parity in ((1, 0), (2, 1)):
        members = db.zrevrange(f"aidb:idx:predictions:{version}", 0, window - 1)
        newest = [f"p-{at}" for at in range(count - 1, 0, -1) if at % 2 == parity][:window]
        if version == 1:
            newest = ["p-ahead", *newest][:window]
        assert [member[21:] for member in members] == newest
        keys = ["aidb:prediction:" + rest for rest in newest]
        assert all(db.hget(key, "prediction_id") == rest for key, rest in zip(keys, newest, strict=True))
    assert db.dbsize() < 10 * window + 30
    half = server.json("/v1/models/m/predictions/p-half")
    assert not db.exists("aidb:prediction:p-half") or db.hget("aidb:prediction:p-half", "log_offset") == "0", half
    for stream, last in (("events", count + 3), ("predictions:2", count + 1)):
        entries = db.xrange(f"aidb:stream:{stream}")
        assert length <= len(entries) <= 2 * length and entries[-1][0] == f"{last}-1"
        # Each names the one before it in the log, whether it is here or was passed over.
        step = 1 if stream == "events" else 2
        for entry, fields in entries:
            assert fields["prev"] == f"{int(entry.split('-')[0]) - step}-1"
        newest = [int(entry.split("-")[0]) for entry, _ in entries[-length:]]
        assert newest == list(range(last - (length - 1) * step, last + 1, step))
    if heard:
        # Whoever listens hears all of it. The first message says that it is subscribed.
        assert listener.get_message(timeout=1) is None
        heard = sum(1 for _ in iter(lambda: listener.get_message(timeout=1), None))
        assert heard == count // 2
    assert server.stop() == 0


def test_subscribers_hear_what_comes(store, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, prediction(0))
    caught_up(server)
    listener = store.client().pubsub(ignore_subscribe_messages=True)
    listener.subscribe("aidb:live:predictions:1")
    until(lambda: store.client().pubsub_numsub("aidb:live:predictions:1")[0][1] == 1, "the subscription is there")
    post(server, prediction(1), prediction(2))
    heard = [until(lambda: listener.get_message(timeout=1), "a message comes") for _ in range(2)]
    assert [json.loads(message["data"])["prediction_id"] for message in heard] == ["p-1", "p-2"]
    assert server.stop() == 0


def test_keys_of_others_are_not_touched(store, settings, tmp_path):
    db = store.client()
    db.set("aidb:mine", "precious")
    server = Server(tmp_path / "data").start()
    post(server, prediction(1))
    found = until(lambda: (found := status(server))["state"] == "stopped" and found, "the projection stops")
    assert "aidb:mine" in found["last_error"] and "redis.prefix" in found["last_error"]
    assert set(db.scan_iter()) == {"aidb:mine"}
    # The rest does not notice.
    assert server.json("/v1/models/m/predictions/p-1")["prediction_id"] == "p-1"
    assert "redis" in json.dumps(server.json("/readyz")["degraded"])
    assert server.stop() == 0
    settings(redis__prefix="other")
    again = Server(tmp_path / "data").start()
    caught_up(again)
    assert db.get("aidb:mine") == "precious"
    assert db.exists("other:prediction:p-1")
    assert again.stop() == 0


def test_another_logs_store_is_refused(store, settings, tmp_path):
    first = Server(tmp_path / "first").start()
    post(first, prediction(1))
    caught_up(first)
    assert first.stop() == 0
    before = store.client().hgetall("aidb:checkpoint")
    second = Server(tmp_path / "second").start()
    post(second, prediction(2))
    found = until(lambda: (found := status(second))["state"] == "stopped" and found, "the projection stops")
    assert "rebuild redis" in found["last_error"]
    assert store.client().hgetall("aidb:checkpoint") == before
    assert second.stop() == 0
    # Two logs on one server, each with its prefix.
    settings(redis__prefix="second")
    second = Server(tmp_path / "second").start()
    caught_up(second)
    assert store.client().exists("aidb:prediction:p-1", "second:prediction:p-2") == 2
    assert second.stop() == 0


def test_a_server_that_is_emptied_is_filled_again(store, settings, tmp_path):
    settings(redis__ttl__predictions="forever")
    server = Server(tmp_path / "data").start()
    db = store.client()
    for round in range(5):
        post(server, *(prediction(100 * round + at) for at in range(100)))
        db.flushall()
    post(server, prediction(999))
    caught_up(server)
    until(lambda: db.zcard("aidb:idx:predictions:1") == 501, "everything is there again")
    assert server.stop() == 0


def test_a_key_of_another_type_in_our_place_stops_it(store, settings, tmp_path):
    settings(redis__ttl__predictions="forever")
    server = Server(tmp_path / "data").start()
    post(server, prediction(1))
    caught_up(server)
    db = store.client()
    at = db.hget("aidb:checkpoint", "offset")
    db.set("aidb:prediction:p-2", "something else")
    post(server, prediction(2), prediction(3))
    found = until(lambda: (found := status(server))["state"] == "stopped" and found, "the projection stops")
    assert "aidb:prediction:p-2" in found["last_error"]
    assert db.hget("aidb:checkpoint", "offset") == at, "nothing behind it counts as done"
    assert server.json("/v1/models/m/predictions/p-2")["prediction_id"] == "p-2"
    db.delete("aidb:prediction:p-2")
    assert httpx.post(f"{server.url}/v1/projections/redis/rebuild").status_code == 202
    caught_up(server)
    until(lambda: db.zcard("aidb:idx:predictions:1") == 3, "all three are there")
    assert server.stop() == 0


def test_a_server_that_is_full_is_waited_for(store, settings, tmp_path):
    settings(redis__ttl__predictions="forever")
    server = Server(tmp_path / "data").start()
    post(server, prediction(0))
    caught_up(server)
    db = store.client()
    db.config_set("maxmemory", db.info("memory")["used_memory"] + 200_000)
    for round in range(10):
        post(server, *(prediction(1000 * round + at, error="x" * 200) for at in range(1, 1000)))
    found = until(lambda: (found := status(server))["state"] == "retrying" and found, "it waits")
    assert "OOM" in found["last_error"]
    assert server.get("/readyz").status_code == 200
    db.config_set("maxmemory", 0)
    caught_up(server)
    until(lambda: db.zcard("aidb:idx:predictions:1") == 9991, "everything is there")
    assert server.stop() == 0


@pytest.mark.parametrize(
    "policy",
    ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"],
)
def test_a_server_that_throws_keys_away_is_not_believed(store, settings, tmp_path, policy):
    # Those that have an expiry go with any policy.
    settings(redis__ttl__predictions="1h", read_from="redis")
    server = Server(tmp_path / "data").start()
    post(server, *STORY, *(prediction(at, error="x" * 200) for at in range(1000)))
    caught_up(server)
    db = store.client()
    db.config_set("maxmemory-policy", policy)
    db.config_set("maxmemory", db.info("memory")["used_memory"] - 300_000)
    post(server, *(prediction(at, error="x" * 200) for at in range(1000, 2000)))
    until(lambda: db.info("stats")["evicted_keys"] > 0, "keys go")
    # From here on it throws away no more; what is gone is gone.
    db.config_set("maxmemory", 0)

    def degraded():
        # It looks once a second, when there is something to write.
        post(server, prediction(5000))
        found = status(server)
        return found["state"] == "degraded" and "evicted_keys" in found["last_error"] and found

    until(degraded, "it is noticed")
    assert "degraded" in json.dumps(server.json("/readyz")["degraded"])
    page = server.json("/v1/models/m/versions/v/predictions?limit=10000")["items"]
    assert len(page) == 2001, "SQL answers"
    assert server.json("/v1/models/resnet50")["framework"] == "PyTorch"
    # With room for everything, and built again, it is whole.
    db.config_set("maxmemory-policy", "noeviction")
    db.config_set("maxmemory", 0)
    assert httpx.post(f"{server.url}/v1/projections/redis/rebuild").status_code == 202
    caught_up(server)
    assert db.hget("aidb:checkpoint", "not_whole") == "0"
    until(lambda: db.zcard("aidb:idx:predictions:2") == 2001, "everything is there")
    assert server.stop() == 0


def test_a_server_that_is_not_there_yet_is_waited_for(store, settings, tmp_path):
    store.kill()
    settings(read_from="redis")
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    # SQL answers meanwhile.
    assert server.json("/v1/models/resnet50")["framework"] == "PyTorch"
    assert status(server)["state"] == "retrying"
    store.start()
    caught_up(server)
    assert store.client().hget("aidb:model:1", "model") == "resnet50"
    assert server.stop() == 0


def test_reads_go_on_while_the_server_is_gone_or_hangs(store, settings, tmp_path):
    settings(read_from="redis", redis__ttl__predictions="forever")
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    caught_up(server)
    # Nothing comes meanwhile that would tell the projection.
    os.kill(store.process.pid, signal.SIGSTOP)
    assert server.json("/v1/models/resnet50")["framework"] == "PyTorch"
    os.kill(store.process.pid, signal.SIGCONT)
    store.kill()
    assert server.json("/v1/models/resnet50")["framework"] == "PyTorch"
    until(lambda: status(server)["state"] == "retrying", "it notices by itself")
    store.start()
    caught_up(server)
    assert store.client().hget("aidb:model:1", "model") == "resnet50"
    # Emptied while nothing comes, it is filled again as well.
    store.client().flushall()
    until(lambda: store.client().hget("aidb:model:1", "model") == "resnet50", "it is filled again")
    assert server.stop() == 0


def test_an_older_copy_of_the_server_is_brought_up_to_date(tmp_path, settings, store):
    settings(redis__ttl__predictions="forever")
    db = store.client()
    server = Server(tmp_path / "data").start()
    post(server, *(prediction(at) for at in range(100)))
    caught_up(server)
    db.save()
    post(server, *(prediction(at, confidence=0.5) for at in range(50, 150)))
    caught_up(server)
    # It dies, and comes back with what it had saved.
    store.kill()
    post(server, *(prediction(at) for at in range(150, 200)))
    store.start()
    caught_up(server)
    until(lambda: db.zcard("aidb:idx:predictions:1") == 200, "everything is there")
    assert db.hget("aidb:prediction:p-60", "confidence") == "0.5"
    entries = [entry for entry, _ in db.xrange("aidb:stream:predictions:1")]
    assert entries == sorted(set(entries), key=lambda entry: int(entry.split("-")[0]))
    assert server.stop() == 0


def test_a_replica_that_becomes_master_gets_what_it_lacks(tmp_path, settings, store):
    """It lacks what its master had acknowledged, of some keys or of all."""
    settings(redis__ttl__predictions="forever", redis__rewind="1m")
    replica = Redis(tmp_path / "replica", "--replicaof", "127.0.0.1", str(store.port)).start()
    db = replica.client()
    server = Server(tmp_path / "data").start()
    try:
        post(server, *(prediction(at) for at in range(100)))
        caught_up(server)
        until(lambda: db.zcard("aidb:idx:predictions:1") == 100, "the replica follows")
        db.replicaof("NO", "ONE")
        # As if it had lost these, and had the checkpoint all the same.
        db.delete("aidb:prediction:p-7")
        db.zremrangebyrank("aidb:idx:predictions:1", 50, 60)
        assert server.stop() == 0
        settings(redis__url=replica.url)
        again = Server(tmp_path / "data").start()
        caught_up(again)
        until(lambda: db.zcard("aidb:idx:predictions:1") == 100, "it has all of them")
        assert db.hget("aidb:prediction:p-7", "prediction_id") == "p-7"
        assert again.stop() == 0
    finally:
        replica.kill()


def test_kills_at_random_leave_what_sql_has(store, settings, tmp_path, seed):
    """We are killed, Redis is killed, connections are cut, while events come."""
    settings(read_from="redis", redis__ttl__predictions="forever")
    chance = random.Random(seed)
    server = Server(tmp_path / "data").start()
    db = store.client()
    sent = 0
    for round in range(12):
        stop = threading.Event()

        def load(start=sent):
            at = start
            while not stop.is_set():
                try:
                    events = [prediction(at + one, confidence=0.5) for one in range(20)]
                    events += [{"type": "FeedbackLogged", "prediction_id": f"p-{at}", "correct": True, "id": f"f-{at}"}]
                    events += [{"type": "MetricLogged", "run": "r", "name": "loss", "value": at, "step": at}]
                    if server.post(ndjson(*events)).status_code == 200:
                        at += 20
                except httpx.HTTPError:
                    time.sleep(0.01)
            load.reached = at

        thread = threading.Thread(target=load)
        thread.start()
        time.sleep(chance.uniform(0.05, 0.4))
        what = chance.choice(["us", "redis", "connections"])
        if what == "us":
            server.kill()
            server = Server(tmp_path / "data").start()
        elif what == "redis":
            db.save()
            time.sleep(chance.uniform(0, 0.1))
            store.kill()
            store.start()
        else:
            db.client_kill_filter(_type="normal", skipme=True)
        time.sleep(0.1)
        stop.set()
        thread.join()
        sent = load.reached
    caught_up(server)
    caught_up(server, "sql")
    assert db.zcard("aidb:idx:predictions:1") >= min(sent, 10_000)
    answers = everything_about(server)
    assert server.stop() == 0
    settings(read_from="sql")
    sql = Server(tmp_path / "data").start()
    caught_up(sql, "sql")
    assert everything_about(sql) == answers
    assert sql.stop() == 0


def everything_about(server: Server) -> list:
    answers = [server.json("/v1/stats"), server.json("/v1/runs/r/metrics"), server.json("/v1/runs/r/metrics/loss")]
    answers.append(server.json("/v1/models/m/versions/v/predictions?limit=10000"))
    return answers


def test_tls_users_and_databases(tmp_path, settings, store):
    directory = tmp_path / "tls"
    certificates(directory)
    secure, tls_port = with_tls(tmp_path / "secure", directory)
    try:
        admin = secure.client()
        rules = ["on", ">s3cret", "~aidb:*", "&aidb:*", "+@all", "-@dangerous", "+info"]
        admin.execute_command("ACL", "SETUSER", "modelog", *rules)
        settings(
            redis__url=f"rediss://modelog:s3cret@127.0.0.1:{tls_port}/3",
            redis__ca_file=directory / "ca.pem",
            redis__cert_file=directory / "client.pem",
            redis__key_file=directory / "client.key",
            read_from="redis",
        )
        server = Server(tmp_path / "data").start()
        post(server, *STORY)
        caught_up(server)
        assert secure.client(db=3).hget("aidb:model:1", "model") == "resnet50"
        # Questions have connections of their own.
        secure.client(db=3).hset("aidb:model:1", "framework", "as it is in Redis")
        assert server.json("/v1/models/resnet50")["framework"] == "as it is in Redis"
        assert secure.client(db=0).dbsize() == 0
        assert "s3cret" not in server.said()
        assert server.stop() == 0
        # The password must be right, and whoever signed the server's certificate known.
        for change in (
            {"redis__url": f"rediss://modelog:wrong@127.0.0.1:{tls_port}/3"},
            {"redis__url": f"rediss://modelog:s3cret@127.0.0.1:{tls_port}/3", "redis__ca_file": directory / "client.pem"},
        ):
            settings(**change)
            refused = Server(tmp_path / "data").start()
            found = until(lambda: (found := status(refused))["last_error"] and found, "it says why")
            assert found["state"] == "retrying"
            assert "wrong" not in found["last_error"] and "s3cret" not in found["last_error"]
            assert refused.stop() == 0
    finally:
        secure.kill()


def test_wrong_settings_are_said_at_once(settings, tmp_path):
    for name, value, said in [
        ("redis__url", "http://localhost", "redis.url"),
        ("redis__prefix", "a:b", "redis.prefix"),
        ("redis__streams", "predictions,nonsense", "redis.streams"),
        ("redis__predictions_window", "0", "redis.predictions_window"),
    ]:
        environment = os.environ | {f"MODELOG_{name.upper()}": value}
        done = subprocess.run([binary(), "config", "check"], env=environment, capture_output=True, text=True)
        assert done.returncode == 78 and said in done.stderr, done.stderr


def test_redis_py_reads_what_is_there(store, settings, tmp_path):
    """The client most people have, as the page shows it."""
    server = Server(tmp_path / "data").start()
    post(server, *(prediction(at, predicted_class="cat", confidence=0.5) for at in range(20)))
    caught_up(server)
    db = redis.Redis.from_url(store.url, decode_responses=True)
    newest = db.zrevrange("aidb:idx:predictions:1", 0, 9)
    pipeline = db.pipeline(transaction=False)
    for member in newest:
        pipeline.hgetall("aidb:prediction:" + member[21:])
    found = pipeline.execute()
    assert [one["prediction_id"] for one in found] == [f"p-{at}" for at in range(19, 9, -1)]
    assert server.stop() == 0


def test_what_predictions_and_points_take(store, settings, tmp_path, figure):
    settings(redis__ttl__predictions="forever", redis__streams="")
    server = Server(tmp_path / "data").start()
    db = store.client()
    chance = random.Random(7)

    def used(events) -> float:
        before = db.info("memory")["used_memory"]
        for at in range(0, len(events), 2000):
            post(server, *events[at : at + 2000])
        caught_up(server)
        return (db.info("memory")["used_memory"] - before) / len(events)

    predictions = [
        {
            "type": "PredictionLogged", "model": "resnet50", "version": "v1.0.0",
            "prediction_id": f"{chance.getrandbits(64):016x}", "input": {"x": [chance.random() for _ in range(4)]},
            "output": {"class": at % 10}, "predicted_class": str(at % 10), "confidence": chance.random(),
            "inference_time_ms": 20 * chance.random(),
        }
        for at in range(8000)
    ]  # fmt: skip
    points = [{"type": "MetricLogged", "run": "r", "name": "loss", "value": chance.random(), "step": at} for at in range(8000)]
    prediction_bytes, point_bytes = used(predictions), used(points)
    figure(f"Redis: {prediction_bytes:.0f} bytes a prediction with its place in the index, {point_bytes:.0f} a metric point")
    assert prediction_bytes < 2048 and point_bytes < 400
    assert server.stop() == 0
