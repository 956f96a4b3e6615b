"""Taking over a database that others wrote by hand, with a client that is not ours, on a real server."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import time

import pytest
from conftest import PATIENCE, Server, binary, caught_up, ndjson
from handwritten_tracker import EPOCH, Tracker, fill
from redis_support import Redis, certificates, free_port, with_tls
from test_redis import caught_up as follows

START = "2026-11-22T17:00:"


@pytest.fixture
def store(tmp_path):
    server = Redis(tmp_path / "redis").start()
    yield server
    server.kill()


class Imported:
    """What `modelog import` did."""

    def __init__(self, done: subprocess.CompletedProcess):
        self.code, self.said = done.returncode, done.stderr
        self.summary = json.loads(done.stdout) if done.stdout else None

    @property
    def counts(self) -> tuple[int, int, int]:
        return tuple(self.summary[name] for name in ("accepted", "duplicates", "rejected"))

    @property
    def left_out(self) -> dict[tuple[str, str], int]:
        (line,) = self.summary["files"]
        return {(found["keys"], found["reason"]): found["count"] for found in line.get("not_events", [])}


def start_import(*arguments, **options) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([binary(), "import", "--json", *map(str, arguments)], **pipes, **options)


def run_import(*arguments, **options) -> Imported:
    process = start_import(*arguments, **options)
    out, err = process.communicate(timeout=PATIENCE)
    return Imported(subprocess.CompletedProcess(arguments, process.returncode, out, err))


def events(server: Server, kind: str | None = None) -> list[dict]:
    answer = server.get("/v1/events", params={"kind": kind} if kind else {}, headers={"accept": "application/x-ndjson"})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def rows(server: Server, query: str) -> list[tuple]:
    caught_up(server)
    with sqlite3.connect(f"file:{server.database}?mode=ro", uri=True) as database:
        return database.execute(query).fetchall()


def test_a_database_is_taken_over(store, tmp_path):
    fill(store.client())
    data = tmp_path / "data"
    done = run_import("--data", data, store.url)
    assert done.code == 0, done.said
    # Entities, three times parameters and a dataset's use, points, two ends, predictions, feedback.
    assert done.counts == (2 + 2 + 1 + 1 + 3 + 3 + 60 + 2 + 20 + 10, 0, 0)
    assert done.left_out == {
        ("aidb:counter:*", "numbers that the log gives itself"): 6,
        ("aidb:idx:*", "an index, which the log makes itself"): 7,
        ("aidb:stats", "counted again from the events"): 1,
        ("aidb:stream:*", "a feed of what other keys hold"): 3,
    }
    server = Server(data).start()
    assert [kind["type"] for kind in events(server) if kind["type"] != "MetricLogged"][:12] == (
        ["ModelCreated"] * 2 + ["ModelVersionCreated"] * 2 + ["DatasetRegistered", "ExperimentCreated"]
        + ["RunStarted"] * 3 + ["HyperparametersLogged"] * 3
    )  # fmt: skip
    model = server.json("/v1/models/resnet50")
    assert (model["architecture"], model["task_type"], model["tags"]) == ("ResNet-50", "classification", {"owner": "alice"})
    assert (model["id"], model["created_at"]) == (1, f"{START}01Z")
    version = server.json("/v1/models/vit%2Fb%3A16/versions/2")
    assert (version["checkpoint_path"], version["config"]) == ("models/vit.npz", {"layers": 12, "dropout": "NaN"})
    dataset = server.json("/v1/datasets")["items"][0]
    assert (dataset["uri"], dataset["row_count"], dataset["split_info"]) == ("/data/imagenet", 1_281_167, {"train": 0.9})
    first, second, third = [server.json(f"/v1/runs/{run}") for run in (1, 2, 3)]
    assert (first["name"], first["experiment"], first["model"], first["version"]) == ("try 0", "baseline", "resnet50", "v1.0.0")
    assert (first["dataset"], first["started_by"], first["tags"]) == ("imagenet", "alice", {"gpu": "A100"})
    params = {"lr": 0.1, "batch_size": 256, "optimizer": "sgd", "nesterov": "True", "schedule": "{'warmup': 5}"}
    assert first["params"] == params
    assert [run["status"] for run in (first, second, third)] == ["finished", "failed", "running"]
    assert second["error"] == "loss is nan"
    assert first["started_at"] < first["finished_at"] < second["started_at"]
    loss = server.json("/v1/runs/2/metrics/loss?split=train")["points"]
    assert [point["value"] for point in loss[5:]] == [1 / 6, 1 / 7, "NaN", "NaN", "NaN"]
    assert [point["epoch"] for point in loss] == [0] * 5 + [1] * 5
    assert len(server.json("/v1/runs/1/metrics/val%3Atop1%2F%C3%A9?split=val")["points"]) == 10
    prediction = server.json("/v1/models/resnet50/predictions/1")
    assert (prediction["input"], prediction["output"], prediction["predicted_class"]) == ({"image": "0.jpg"}, {"class": 0}, "cat")
    assert (prediction["confidence"], prediction["inference_time_ms"]) == (0.5, 6)
    assert (prediction["feedback"]["true_class"], prediction["feedback"]["correct"]) == ("cat", True)
    stats = server.json("/v1/models/resnet50/versions/v1.0.0/stats")
    assert (stats["predictions"], stats["labelled"], stats["accuracy"]) == (10, 10, 0.5)
    # The same in SQL.
    assert rows(server, "select count(*), sum(value is null) from metrics") == [(60, 3)]
    assert rows(server, "select count(*) from predictions") == [(20,)]
    assert rows(server, "select count(*) from feedback") == [(10,)]
    # Again, through the server that holds the directory, and by its address.
    for place in (["--data", data], ["--url", server.url]):
        again = run_import(*place, store.url)
        assert (again.code, again.counts) == (0, (0, 104, 0)), again.said
    assert server.stop() == 0


def test_an_import_by_url_says_the_same(store, server, tmp_path):
    fill(store.client())
    assert run_import("--url", server.url, store.url).counts == (104, 0, 0)
    assert run_import("--data", tmp_path / "other", store.url).counts == (104, 0, 0)
    other = Server(tmp_path / "other").start()

    def said(server):
        return [{name: event[name] for name in event if name not in ("append_time", "log_offset")} for event in events(server)]

    assert said(other) == said(server)
    assert other.stop() == 0


def test_nothing_is_written_there_and_no_command_is_large(store, tmp_path):
    db = store.client()
    fill(db)
    keys = db.dbsize()
    db.config_resetstat()
    assert run_import("--data", tmp_path / "data", store.url).code == 0
    used = {name.removeprefix("cmdstat_").split("|")[0] for name in db.info("commandstats")}
    # The last two are the test's own.
    assert used <= {"scan", "hgetall", "zrange", "smembers", "lrange", "type", "get", "zscore", "client", "config", "info"}
    assert db.dbsize() == keys


def test_a_live_view_shows_what_the_database_had(store, tmp_path, monkeypatch):
    """The keys that a Modelog writes, under another prefix, beside those that were there."""
    db = store.client()
    fill(db)
    data = tmp_path / "data"
    assert run_import("--data", data, store.url).code == 0
    monkeypatch.setenv("MODELOG_REDIS__URL", store.url)
    monkeypatch.setenv("MODELOG_REDIS__PREFIX", "ours")
    monkeypatch.setenv("MODELOG_REDIS__TTL__PREDICTIONS", "forever")
    server = Server(data).start()
    follows(server)
    for kind, numbers, names in [
        ("model", (1, 2), ("name", "model")),
        ("version", (1, 2), ("version", "version")),
        ("dataset", (1,), ("name", "dataset")),
        ("experiment", (1,), ("name", "experiment")),
    ]:
        for number in numbers:
            theirs, ours = db.hgetall(f"aidb:{kind}:{number}"), db.hgetall(f"ours:{kind}:{number}")
            assert ours[names[1]] == theirs[names[0]], (kind, number)
    for run in (1, 2, 3):
        theirs, ours = db.hgetall(f"aidb:run:{run}"), db.hgetall(f"ours:run:{run}")
        assert (ours["run"], ours["name"]) == (str(run), theirs["name"])
        assert db.hgetall(f"ours:hyperparam:{run}")["lr"] == "0.1"
        for series in ("loss:train", "val%3Atop1/é:val"):
            foreign = series.replace("/é", "%2F%C3%A9")
            theirs = db.zrange(f"aidb:metric:{run}:{foreign}", 0, -1, withscores=True)
            ours = db.zrange(f"ours:metric:{run}:{series}", 0, -1, withscores=True)
            assert [score for _, score in ours] == [score for _, score in theirs] == list(range(10))
    assert db.smembers("ours:exprun:1:runs") == db.smembers("aidb:exprun:1:runs")
    for number in range(1, 21):
        theirs, ours = db.hgetall(f"aidb:prediction:{number}"), db.hgetall(f"ours:prediction:{number}")
        assert (ours["input"], ours["version_id"]) == (theirs["input"], theirs["version_id"])

    # That view is one of this very log; for another log it is a database like others.
    own = run_import("--data", data, f"{store.url}?prefix=ours")
    assert own.code == 2 and "live view of this very log" in own.said
    copied = run_import("--data", tmp_path / "other", f"{store.url}?prefix=ours")
    assert copied.code == 0 and "newest ones only" in copied.said, copied.said
    monkeypatch.delenv("MODELOG_REDIS__URL")
    other = Server(tmp_path / "other").start()
    for path in ("/v1/models", "/v1/runs/2", "/v1/runs/2/metrics/loss", "/v1/models/resnet50/predictions/1"):
        ours, theirs = [without_places(each.json(path)) for each in (server, other)]
        assert ours == theirs, path
    assert other.stop() == 0
    assert server.stop() == 0


def without_places(found):
    """What was answered, without where it stands in a log."""
    if isinstance(found, list):
        return [without_places(each) for each in found]
    if isinstance(found, dict):
        places = ("log_offset", "append_time", "next_cursor")
        return {name: without_places(value) for name, value in found.items() if name not in places}
    return found


FORMS = {
    "2026-11-22T17:00:00Z": f"{START}00Z",
    "2026-11-22T18:00:01.5+01:00": f"{START}01.500Z",
    "2026-11-22 17:00:02": f"{START}02Z",
    "2026-11-22 17:00:03.123456": f"{START}03.123456Z",
    "2026-11-22T17:00:04": f"{START}04Z",
    "1795366805": f"{START}05Z",
    "1795366806.25": f"{START}06.250Z",
    "1795366807123": f"{START}07.123Z",
    "1795366808123456": f"{START}08.123456Z",
}


def test_times_and_points_in_all_forms(store, tmp_path):
    db = store.client()
    db.hset("aidb:model:1", mapping={"name": "m"})
    db.hset("aidb:version:1", mapping={"model_id": 1, "version": "v"})
    for at, form in enumerate(FORMS):
        db.hset(f"aidb:prediction:{at}", mapping={"version_id": 1, "timestamp": form})
    # The index knows when, if the hash does not; of the last one nobody does.
    db.hset("aidb:prediction:by-index", mapping={"version_id": 1})
    db.zadd("aidb:idx:predictions:1", {"by-index": EPOCH + 9})
    db.hset("aidb:prediction:lost", mapping={"version_id": 1})
    db.hset("aidb:run:1", mapping={"name": "r", "started_at": EPOCH, "status": "done"})
    db.zadd("aidb:metric:1:plain:_", {"0.5": 1, "nan": 2, "inf": 3})
    db.zadd("aidb:metric:1:stepped", {"1:0.5": 1, "2:0.5": 2, "3:-inf:1795366830": 3})
    db.zadd("aidb:metric:1:json:val", {'{"value": NaN, "time": 1795366801.5}': 7, '{"v": 1, "step": 8, "lr": 0.1}': 8})
    db.zadd("aidb:metric:1:ours:_", {'00000000000000000012{"step":1,"value":0.5,"time":1795366803000000}': 1})
    db.rpush("aidb:metric:1:list:_", "0.5", '{"value": 0.25}', "Infinity")
    db.xadd("aidb:metric:1:stream:_", {"value": 0.5, "step": 3}, id="1795366809000-0")
    db.zadd("aidb:metric:version:1:top1:_", {"0.75": 0})
    db.set("aidb:hyperparam:1:lr", "0.1")
    db.set("aidb:hyperparam:1:a%3Ab", "text")
    db.set("aidb:experiment:1", json.dumps({"name": "as JSON", "tags": {"a": 1}}))
    done = run_import("--data", tmp_path / "data", store.url)
    assert done.code == 0, done.said
    # The model, its version, the experiment, its version's point, the lost prediction.
    assert done.summary["files"][0]["without_time"] == 5
    server = Server(tmp_path / "data").start()
    predictions = events(server, "PredictionLogged")
    *timed, lost = [found["time"] for found in predictions]
    assert timed == [*FORMS.values(), f"{START}09Z"] and not lost.startswith("2026-11-22T17")
    assert [found["prediction_id"] for found in predictions] == [*map(str, range(len(FORMS))), "by-index", "lost"]

    def points(name, split=None):
        found = server.json(f"/v1/runs/1/metrics/{name}", params={"split": split} if split else {})["points"]
        return [(point["step"], point["value"], point["time"][17:]) for point in found]

    assert points("plain") == [(1, 0.5, "00Z"), (2, "NaN", "00Z"), (3, "Infinity", "00Z")]
    assert points("stepped") == [(1, 0.5, "00Z"), (2, 0.5, "00Z"), (3, "-Infinity", "30Z")]
    assert points("json", "val") == [(7, "NaN", "01.500Z"), (8, 1, "00Z")]
    assert points("ours") == [(1, 0.5, "03Z")]
    assert points("list") == [(0, 0.5, "00Z"), (1, 0.25, "00Z"), (2, "Infinity", "00Z")]
    assert points("stream") == [(3, 0.5, "09Z")]
    (extra,) = [found["extra"] for found in events(server, "MetricLogged") if "extra" in found]
    assert extra == {"lr": 0.1}
    run = server.json("/v1/runs/1")
    # It ended nobody knows when: with its last point.
    assert (run["params"], run["finished_at"]) == ({"lr": 0.1, "a:b": "text"}, f"{START}30Z")
    assert server.json("/v1/experiments")["items"][0]["tags"] == {"a": 1}
    assert server.stop() == 0


# What to do to a good database, and what is said about it.
BAD = {
    "a run's version": (lambda db: db.hset("aidb:run:1", "version_id", 77), 'aidb:run:1: version_id: "77" refers to aidb:version:77'),
    "a version's model": (lambda db: db.hset("aidb:version:2", "model_id", 9), 'aidb:version:2: model_id: "9" refers to aidb:model:9'),
    "a run of points": (lambda db: db.zadd("aidb:metric:99:loss:_", {"1": 1}), "aidb:metric:99:loss:_: refers to aidb:run:99"),
    "a run of parameters": (lambda db: db.hset("aidb:hyperparam:98", "a", 1), "aidb:hyperparam:98: refers to aidb:run:98"),
    "a prediction's version": (lambda db: db.hset("aidb:prediction:3", "version_id", 55), 'version_id: "55" refers to aidb:version:55'),
    "a set for a model": (lambda db: db.sadd("aidb:model:7", "x"), "aidb:model:7: is a set"),
    "a hash of points": (lambda db: db.hset("aidb:metric:1:acc:_", "1", "0.5"), "aidb:metric:1:acc:_: is a hash"),
    "text for a prediction": (lambda db: db.set("aidb:prediction:8888", "cat"), "aidb:prediction:8888: is a string that is no JSON"),
    "bytes": (lambda db: db.hset("aidb:prediction:4", "input", b"\x80\x04K"), "aidb:prediction:4: input: the value is not UTF-8"),
    "bytes for a point": (lambda db: db.zadd("aidb:metric:1:raw:_", {b"\xff": 1}), "aidb:metric:1:raw:_: a member is not UTF-8"),
    "a point of words": (lambda db: db.zadd("aidb:metric:1:odd:_", {"high": 1}), 'member: "high" is no point'),
    "a time": (lambda db: db.hset("aidb:model:1", "created_at", "last week"), 'aidb:model:1: created_at: "last week" is no time'),
    "a number": (lambda db: db.hset("aidb:prediction:5", "confidence", "high"), 'confidence: "high" is no number'),
    "a name twice": (lambda db: db.hset("aidb:model:2", "name", "resnet50"), "is the name of aidb:model:1 already"),
    "no name": (lambda db: db.hset("aidb:experiment:9", "x", 1), "aidb:experiment:9: nothing says what it is called"),
    # What the formats find, with the key.
    "a name with a line break": (lambda db: db.hset("aidb:model:3", "name", "a\nb"), "aidb:model:3: `model` contains the control"),
    "a long value": (lambda db: db.hset("aidb:prediction:6", "input", '"' + "x" * (1 << 20) + '"'), "aidb:prediction:6: `input` is"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_bad_is_named_and_nothing_is_taken(store, tmp_path, name):
    db = store.client()
    fill(db)
    change, said = BAD[name]
    change(db)
    done = run_import("--data", tmp_path / "data", store.url)
    assert done.code == 65 and said in done.said, done.said
    assert "nothing was imported" in done.said and not (tmp_path / "data").exists()
    skipped = run_import("--data", tmp_path / "data", store.url, "--on-error", "skip")
    assert skipped.code == 0 and said in skipped.said, skipped.said
    accepted, duplicates, rejected = skipped.counts
    if "`" in said:
        assert rejected == 1
    else:
        beside = {"numbers that the log gives itself", "an index, which the log makes itself"}
        beside |= {"counted again from the events", "a feed of what other keys hold"}
        assert [reason for _, reason in skipped.left_out if reason not in beside], skipped.left_out
    # One model has most of it, and takes it along.
    assert accepted >= (30 if "model" in said and rejected == 0 else 95) and duplicates == 0, skipped.counts
    again = run_import("--data", tmp_path / "data", store.url, "--on-error", "skip")
    assert again.counts[::2] == (0, 0) and again.counts[1] == accepted + rejected


def test_what_can_be_left_out_of_a_run_is(store, tmp_path):
    db = store.client()
    fill(db)
    db.hset("aidb:run:1", mapping={"dataset_id": 9, "experiment_id": 8})
    assert run_import("--data", tmp_path / "data", store.url, "--on-error", "skip").code == 0
    server = Server(tmp_path / "data").start()
    run = server.json("/v1/runs/1")
    # What the field says is beside; the index says of which experiment it is.
    assert (run["tags"], run["experiment"]) == ({"gpu": "A100", "dataset_id": 9, "experiment_id": 8}, "baseline")
    assert len(server.json("/v1/runs/1/metrics/loss?split=train")["points"]) == 10
    assert server.stop() == 0


def large(db, predictions: int, points: int) -> Tracker:
    tracker = fill(db, predictions=0)
    pipeline = db.pipeline(transaction=False)
    for step in range(points):
        pipeline.zadd("aidb:metric:1:long:train", {f"{step}:{random.random()}": step})
        if step % 5000 == 4999:
            pipeline.execute()
    for number in range(1, predictions + 1):
        mapping = {"version_id": 1 + number % 2, "input": json.dumps({"at": number}), "timestamp": EPOCH + number / 10}
        pipeline.hset(f"aidb:prediction:{number}", mapping=mapping | {"predicted_class": "cat", "true_label": "cat"})
        if number % 1000 == 0:
            pipeline.execute()
    pipeline.execute()
    return tracker


def killed_when(condition, *arguments) -> bool:
    """Imports, and kills that in the moment when something is so; answers whether it was not done before."""
    process = start_import(*arguments)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    return process.returncode == -signal.SIGKILL


def hits(db) -> int:
    """How many keys were found so far: it grows while the database is read, and not because it is asked for."""
    return db.info("stats")["keyspace_hits"]


def test_much_of_it_killed_and_begun_again(store, tmp_path, seed, figure):
    random.seed(seed)
    large(store.client(), predictions=5_000, points=50_000)
    expected = 2 + 2 + 1 + 1 + 3 + 3 + 60 + 2 + 50_000 + 5_000 + 5_000
    server = Server(tmp_path / "served").start()
    data = tmp_path / "data"

    def tail() -> int:
        return int(server.get("/v1/models", params={"at_least": 0}).headers["modelog-offset"])

    def written() -> int:
        return sum(file.stat().st_size for file in data.glob("log/*.seg"))

    # While it reads, and then each time it has appended something more.
    kills = 0
    for place, grown in ((["--url", server.url], tail), (["--data", data], written)):
        asked = hits(store.client()) + random.randrange(5_000)
        assert killed_when(lambda db=store.client(): hits(db) > asked, *place, store.url)
        for _ in range(4):
            before = grown()
            kills += killed_when(lambda: grown() > before, *place, store.url)
    assert kills >= 4, "most came when all was done"
    figure(f"import of a Redis database: {kills} kills while it appends")
    done = run_import("--url", server.url, store.url)
    assert done.code == 0 and sum(done.counts) == expected, done.said
    assert run_import("--data", data, store.url).code == 0
    for place in (["--url", server.url], ["--data", data]):
        assert run_import(*place, store.url).counts == (0, expected, 0)
    other = Server(data).start()
    for each in (server, other):
        assert rows(each, "select count(*) from metrics") == [(50_060,)]
        assert rows(each, "select count(*), count(distinct prediction_id) from predictions") == [(5_000, 5_000)]
        assert rows(each, "select count(*) from feedback") == [(5_000,)]
        ids = [event["id"] for event in everything(each) if "id" in event]
        assert len(ids) == len(set(ids)) == expected
        assert each.stop() == 0


def everything(server: Server) -> list[dict]:
    """All events, page by page."""
    found = []
    while page := server.get("/v1/events", params={"from": len(found)}, headers={"accept": "application/x-ndjson"}).text:
        found += [json.loads(line) for line in page.splitlines()]
    return found


def test_a_database_that_grew_brings_what_is_new(store, server):
    db = store.client()
    tracker = fill(db)
    assert run_import("--url", server.url, store.url).counts == (104, 0, 0)
    # The run that went on ends, one that had ended is tagged, a model is described, more is predicted and found out.
    tracker.log_metric(3, "loss", 0.01, 10, "train")
    tracker.finish_run(3)
    db.hset("aidb:run:1", "reviewed_by", "bob")
    db.hset("aidb:model:1", "description", "the old one")
    tracker.log_prediction(1, {"image": "new.jpg"}, {}, "cat", 0.9)
    tracker.feedback(2, "dog")
    done = run_import("--url", server.url, store.url)
    # A point, an end; a run and its end; a model; a prediction and what was found out.
    assert done.counts == (7, 101, 0), done.summary
    runs = [server.json(f"/v1/runs/{run}") for run in (1, 2, 3)]
    assert [run["status"] for run in runs] == ["finished", "failed", "finished"]
    assert runs[0]["tags"] == {"gpu": "A100", "reviewed_by": "bob"}
    assert server.json("/v1/models/resnet50")["description"] == "the old one"
    assert rows(server, "select count(*) from predictions") == [(21,)]
    assert rows(server, "select count(*) from metrics") == [(61,)]
    assert run_import("--url", server.url, store.url).counts[0] == 0


def test_a_database_in_use_is_read_as_it_is(store, tmp_path):
    db = store.client()
    large(db, predictions=3_000, points=20_000)
    process = start_import("--data", tmp_path / "data", store.url)
    # Keys come, change and go, and points come below those that were read.
    at = 0
    while process.poll() is None:
        at += 1
        pipeline = db.pipeline(transaction=False)
        pipeline.delete(f"aidb:prediction:{at}")
        pipeline.hset(f"aidb:prediction:{10_000 + at}", mapping={"version_id": 1, "timestamp": EPOCH})
        pipeline.zadd("aidb:metric:1:long:train", {f"-{at}:0.5": -at})
        pipeline.hset("aidb:run:3", "heartbeat", at)
        pipeline.execute()
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["rejected"] == 0
    done = run_import("--data", tmp_path / "data", store.url)
    assert done.code == 0, done.said
    server = Server(tmp_path / "data").start()
    # Those that a member hid behind are there now, and nothing twice.
    assert rows(server, "select count(*) from metrics") == [(20_060 + at,)]
    assert server.stop() == 0


def test_numbers_of_two_databases_are_kept_apart(store, tmp_path):
    db = store.client()
    fill(db)
    fill(db, prefix="team:b")
    urls = [store.url, f"{store.url}/0?prefix=team%3Ab&id_prefix=b-"]
    done = run_import("--data", tmp_path / "data", *urls)
    assert done.code == 0, done.said
    # Models and the like are the same, and say the same.
    assert [line["accepted"] for line in done.summary["files"]] == [104, 98]
    server = Server(tmp_path / "data").start()
    assert {run["run"] for run in server.json("/v1/runs")["items"]} == {"1", "2", "3", "b-1", "b-2", "b-3"}
    assert server.json("/v1/models/resnet50/predictions/b-1")["input"] == {"image": "0.jpg"}
    assert server.stop() == 0


def test_tls_users_and_databases(tmp_path):
    directory = tmp_path / "tls"
    certificates(directory)
    secure, port = with_tls(tmp_path / "secure", directory)
    try:
        fill(secure.client(db=3))
        # No more rights than the page asks for.
        rules = ["on", ">s3cret/@", "~aidb:*", "-@all", "+@read", "+select"]
        secure.client().execute_command("ACL", "SETUSER", "reader", *rules)
        secure.client().execute_command("ACL", "SETUSER", "default", ">master")
        files = f"ca_file={directory}/ca.pem&cert_file={directory}/client.pem&key_file={directory}/client.key"
        url = f"rediss://reader:s3cret%2F%40@127.0.0.1:{port}/3"
        data = tmp_path / "data"
        done = run_import("--data", data, f"{url}?{files}")
        assert (done.code, done.counts) == (0, (104, 0, 0)), done.said
        assert done.summary["files"][0]["file"] == f"rediss://127.0.0.1:{port}/3?prefix=aidb"
        # The same with certificates from the settings, and the password from where redis-cli takes it.
        settings = {f"MODELOG_REDIS__{name}_FILE": f"{directory}/{file}" for name, file in
                    [("CA", "ca.pem"), ("CERT", "client.pem"), ("KEY", "client.key")]}  # fmt: skip
        environment = os.environ | settings | {"REDISCLI_AUTH": "s3cret/@"}
        done = run_import("--data", data, f"rediss://reader@127.0.0.1:{port}/3", env=environment)
        assert (done.code, done.counts) == (0, (0, 104, 0)), done.said
        for wrong, code, said in [
            (f"rediss://reader:wr0ng@127.0.0.1:{port}/3?{files}", 78, "does not let us in"),
            (f"rediss://127.0.0.1:{port}/3?{files}", 78, "does not let us in"),
            (f"rediss://127.0.0.1:{port}/?{files}", 78, "NOAUTH"),
            (f"{url}?ca_file={directory}/client.pem", 69, "cannot be reached"),
            (f"{url}?ca_file={directory}/none.pem", 78, "none.pem cannot be read"),
            (f"{url}?{files}&prefix=other", 78, "the user needs `+@read +select`"),
        ]:
            refused = run_import("--data", data, wrong)
            assert refused.code == code and said in refused.said, refused.said
            assert "wr0ng" not in refused.said and "s3cret" not in refused.said
    finally:
        secure.kill()


def test_what_is_no_such_database_is_said(store, tmp_path):
    data = tmp_path / "data"
    fill(store.client(), prefix="ml")
    store.client().set("queue:jobs", 1)
    for url, code, said in [
        (f"redis://127.0.0.1:{free_port()}", 69, "cannot be reached"),
        (store.url, 65, "below ml (38)"),
        (f"{store.url}/5", 65, "below no other prefix"),
        (f"{store.url}/99", 78, "out of range"),
        (f"{store.url}/x", 2, "cannot be used"),
        (f"{store.url}?prefx=ml", 2, "prefx"),
        (f"{store.url}?prefix=", 2, "empty prefix"),
        ("redis://me:s3cret@:x/", 2, "the URL of the database"),
    ]:
        refused = run_import("--data", data, url)
        assert refused.code == code and said in refused.said, (url, refused.code, refused.said)
        assert "s3cret" not in refused.said and not data.exists()
    # Nowhere to put what is read.
    url = f"{store.url}?prefix=ml"
    refused = run_import("--data", data, url, env=os.environ | {"TMPDIR": str(tmp_path / "nowhere")})
    assert refused.code == 74 and "TMPDIR" in refused.said and not data.exists(), refused.said
    # Not a server at all.
    server = Server(tmp_path / "served").start()
    refused = run_import("--data", data, server.url.replace("http", "redis"))
    assert refused.code == 69, refused.said
    assert server.stop() == 0


def test_a_server_that_goes_away_meanwhile_is_said_to(store, tmp_path):
    large(store.client(), predictions=1_000, points=30_000)
    with store.client().monitor() as monitor:
        process = start_import("--data", tmp_path / "data", store.url)
        pages = (found for found in monitor.listen() if found["command"].startswith("ZRANGE aidb:metric:1:long"))
        next(pages), next(pages)
        store.kill()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 69 and "cannot be reached" in err and not (tmp_path / "data").exists(), err


def test_a_server_that_loads_is_said_to(store, tmp_path):
    db = store.client()
    large(db, predictions=2_000, points=0)
    db.config_set("save", "")
    db.save()
    store.kill()
    port = free_port()
    slow = ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"]
    command = ["redis-server", "--port", str(port), "--dir", str(store.directory), "--save", "", *slow]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while (done := run_import("--data", tmp_path / "data", f"redis://127.0.0.1:{port}")).said.count("cannot be reached"):
            assert time.monotonic() < deadline
        assert done.code == 69 and "loading" in done.said and "try again in a while" in done.said, done.said
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_the_table_for_people(store, tmp_path):
    fill(store.client())
    command = [binary(), "import", "--data", str(tmp_path / "data"), store.url]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"{store.url}/0?prefix=aidb" in done.stdout and "104" in done.stdout
    assert "left out of" in done.stderr and "aidb:stats (1): counted again from the events" in done.stderr


def test_files_and_databases_go_together(store, tmp_path):
    fill(store.client())
    (tmp_path / "events.ndjson").write_text(ndjson({"type": "ModelCreated", "model": "other"}))
    done = run_import("--data", tmp_path / "data", tmp_path / "events.ndjson", store.url)
    assert done.counts == (105, 0, 0)
    # One bad thing anywhere, and nothing is taken of either.
    store.client().sadd("aidb:model:7", "x")
    (tmp_path / "events.ndjson").write_text(ndjson({"type": "ModelCreated", "model": "another"}))
    done = run_import("--data", tmp_path / "new", tmp_path / "events.ndjson", store.url)
    assert done.code == 65 and not (tmp_path / "new").exists()
