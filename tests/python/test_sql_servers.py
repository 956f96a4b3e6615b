"""What is in PostgreSQL and MariaDB, read by clients that are not ours, and which databases are not touched."""

import itertools
import json
import os
import random
import sqlite3
import subprocess
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from conftest import PATIENCE, Server, binary, ndjson
from sql_support import (  # noqa: F401
    CERTIFIED, PASSWORD, USER, Database, caught_up, database, rebuild, same, settings, shared, status, stops
)  # fmt: skip
from test_durability import ROUTES, history
from test_kafka_security import signed
from test_redis import STORY, post, prediction, until

# One call of events that naive systems get wrong.
NAMES = [
    "Model", "model", "MODEL", "model ", " model", "mod\u00e8le", "mode\u0300le", "modele", "stra\u00dfe", "strasse",
    "\U0001f600", "\U0001f601", "\u6a21\u578b", "m\\N", "\\.", "\\", "a'b\"c`d", "%s $1 ? {} :x", "NULL", "-- ;",
    "\U0001f600" * 125, "n" * 500, "n" * 499 + "m",
]  # fmt: skip
TEXTS = [
    "", " ", "\\N", "\\.", "line\nline\r\n\ttab\x01\x1f\x7f\u2028", "a'b\"c`d\\", "\U0001f9d1\u200d\U0001f680", "\ufeff\ufffd",
    "\u00e9" * 40_000, "\U0001f680" * (1 << 18),
]  # fmt: skip
LONG = "k" * 10_000
# By name, exactly as they are sent.
ODD = {
    "numbers": '{"a": 9007199254740993, "b":1.0 , "c":1e400,"d":-0.0,"e":[12345678901234567890123,0.10000000000000000001]}',
    "keys": '{ "a":1,"a" : 2,   "A":3, "":4 }',
    "zero": '{"nul":"\\u0000","\\u0000":1, "pair":"\\ud83d\\ude00", "slash":"\\/", "tab":"\\t", "copy":"\\\\N\\\\."}',
    "raw": '{"emoji":"\U0001f600","accent":"e\u0300\u00e8","quote":"\'`"}',
    "text": '"just text"',
    "deep": "[" * 100 + "]" * 100,
    "lines": '{\n\t"a" :\r\n [ 1 ,\n2 ]\n}',
    "large": '{"x": "' + "\u20ac\\u0000\\n" * 90_000 + '"}',
}
TIMES = [
    "1700-01-01T00:00:00.000001", "1969-12-31T23:59:59.999999", "1970-01-01T00:00:00.000000", "1900-02-28T23:59:59.999999",
    "2026-03-29T02:30:00.123456", "2038-01-19T03:14:08.000001", "2200-01-01T00:00:00.999999",
]  # fmt: skip
VALUES = [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 1e-7, 123456789.12345679, "NaN", "Infinity", "-Infinity"]
INTEGERS = [-(1 << 63), (1 << 63) - 1, (1 << 53) + 1, 0]


def strange() -> list[str]:
    """The events, one by one as they are sent."""
    events: list[dict] = [{"type": "ModelCreated", "model": name, "description": f"of {name}"} for name in NAMES]
    events += [
        {"type": "PredictionLogged", "model": "m", "version": "v", "prediction_id": f"text-{at}", "error": text}
        for at, text in enumerate(TEXTS)
    ]
    events += [
        {"type": "PredictionLogged", "model": "m", "version": "v", "prediction_id": f"time-{at}", "time": f"{time}Z"}
        for at, time in enumerate(TIMES)
    ]
    events += [
        {"type": "MetricLogged", "run": "r", "name": "loss", "value": value, "step": at, "epoch": value}
        for at, value in enumerate(VALUES)
    ]
    events += [{"type": "MetricLogged", "run": "r", "name": "steps", "value": 1, "step": step} for step in INTEGERS]
    # What is alike for its first 9,999 characters is not the same.
    ends = ("a", "b", "A", "a ", "\u00e1")
    events += [
        {"type": "HyperparametersLogged", "run": "r", "params": {LONG + end: end for end in ends}},
        {"type": "TagsSet", "entity": "model/m", "tags": {LONG + end: end for end in ends}},
        *({"type": "ArtifactLogged", "run": "r", "uri": LONG + end, "name": end} for end in ends),
        *({"type": "DatasetUsed", "run": "r", "dataset": "d", "version": LONG + end, "role": LONG} for end in ends),
        *({"type": "MetricLogged", "run": "r", "name": "split", "split": LONG + end, "value": 1} for end in ends),
        {"type": "DatasetRegistered", "dataset": "d", "version": LONG, "uri": LONG, "digest": LONG, "row_count": INTEGERS[1]},
        {"type": "RunStarted", "run": "long", "name": LONG, "started_by": LONG, "code": LONG},
    ]
    lines = [json.dumps(event, ensure_ascii=False) for event in events]
    for name, text in ODD.items():
        start = f'{{"type": "PredictionLogged", "model": "m", "version": "v", "prediction_id": "odd-{name}"'
        # All kinds of JSON are kept, objects where something else is not allowed.
        tags = f', "tags": {text}' if text.startswith("{") else ""
        lines.append(f'{start}, "input": {text}, "output": {text}, "timings": {text}{tags}}}')
        lines.append(f'{{"type": "ArtifactLogged", "model": "m", "version": "v", "uri": "odd-{name}", "metadata": {text}}}')
        lines.append(f'{{"type": "HyperparametersLogged", "run": "r", "params": {{"odd-{name}": {text}}}}}')
    return lines


def post_strange(server: Server) -> None:
    answer = server.post(f"[{','.join(strange())}]".encode(), "application/json")
    assert answer.status_code == 200, answer.text


def check_strange(server: Server, database: Database) -> None:
    """Everything is there as it was sent: by the driver, by the command, and by our own answers."""
    assert database.rows("SELECT table_name, reason FROM rejected_rows") == []
    found = dict(database.rows("SELECT name, description FROM models WHERE description IS NOT NULL"))
    assert found == {name: f"of {name}" for name in NAMES}
    for name in NAMES:
        assert database.rows("SELECT description FROM models WHERE name = %s", name) == [(f"of {name}",)]
        assert server.json(f"/v1/models/{quote(name, safe='')}")["description"] == f"of {name}"
    printed = database.cli("SELECT name FROM models WHERE description IS NOT NULL ORDER BY id")
    assert printed.split("\n") == NAMES

    for at, text in enumerate(TEXTS):
        assert database.rows("SELECT error FROM predictions WHERE prediction_id = %s", f"text-{at}") == [(text,)], at
        assert database.cli(f"SELECT error FROM predictions WHERE prediction_id = 'text-{at}'") == text, at
        assert server.json(f"/v1/models/m/predictions/text-{at}")["error"] == text, at

    for name, text in ODD.items():
        where = f"FROM predictions WHERE prediction_id = 'odd-{name}'"
        assert database.rows(f"SELECT input, output, timings {where}") == [(text,) * 3], name
        assert database.cli(f"SELECT input {where}") == text, name
        assert database.cli(f"SELECT metadata FROM artifacts WHERE uri = 'odd-{name}'") == text, name
        assert database.cli(f"SELECT param_value FROM run_params WHERE param_key = 'odd-{name}'") == text, name
        answer = server.get(f"/v1/models/m/predictions/odd-{name}")
        assert answer.text.count(text) == (4 if text.startswith("{") else 3), name
        assert text in server.get("/v1/runs/r").text, name

    stored = database.rows("SELECT time FROM predictions WHERE prediction_id LIKE 'time-%%' ORDER BY prediction_id")
    assert [time for (time,) in stored] == [datetime.fromisoformat(time) for time in TIMES]
    for at, time in enumerate(TIMES):
        printed = database.cli(f"SELECT time FROM predictions WHERE prediction_id = 'time-{at}'").removesuffix("+00")
        assert datetime.fromisoformat(printed) == datetime.fromisoformat(time)
        answered = server.json(f"/v1/models/m/predictions/time-{at}")["time"]
        assert datetime.fromisoformat(answered).replace(tzinfo=None) == datetime.fromisoformat(time)

    points = database.rows(
        "SELECT p.value, p.non_finite, p.epoch, p.epoch_non_finite FROM metrics p JOIN metric_latest s USING (series_id) "
        "WHERE s.name = 'loss' ORDER BY p.step"
    )
    both = [((None, value) if isinstance(value, str) else (value, None)) * 2 for value in VALUES]
    assert points == both
    answered = server.json("/v1/runs/r/metrics/loss")["points"]
    assert [point["value"] for point in answered] == VALUES
    steps = "SELECT p.step FROM metrics p JOIN metric_latest s USING (series_id) WHERE s.name = 'steps' ORDER BY p.step"
    assert [step for (step,) in database.rows(steps)] == sorted(INTEGERS)

    ends = ["a", "b", "A", "a ", "\u00e1"]
    run = server.json("/v1/runs/r")
    expected = {LONG + end: end for end in ends}
    long_params = {key: value for key, value in run["params"].items() if key.startswith(LONG)}
    assert long_params == server.json("/v1/models/m")["tags"] == expected
    for table, key, value in (("run_params", "param_key", "param_value"), ("tags", "tag_key", "tag_value")):
        rows = database.rows(f"SELECT {key}, {value} FROM {table} WHERE {key} LIKE 'kkkk%%' ORDER BY log_offset, place")
        assert rows == [(LONG + end, json.dumps(end, ensure_ascii=False)) for end in ends], table
    artifacts = database.rows("SELECT uri, name FROM artifacts WHERE uri LIKE 'kkkk%%' ORDER BY log_offset")
    assert artifacts == [(LONG + end, end) for end in ends]
    assert [one["uri"] for one in run["artifacts"]] == [LONG + end for end in ends]
    used = database.rows("SELECT version, role FROM run_datasets ORDER BY log_offset")
    assert used == [(LONG + end, LONG) for end in ends]
    splits = database.rows("SELECT split FROM metric_latest WHERE name = 'split' ORDER BY last_log_offset")
    assert splits == [(LONG + end,) for end in ends]
    assert database.rows("SELECT version, uri, digest, row_count FROM datasets") == [(LONG, LONG, LONG, INTEGERS[1])]
    assert database.rows("SELECT display_name, started_by, code FROM runs WHERE name = 'long'") == [(LONG,) * 3]
    assert server.json("/v1/runs/long")["code"] == LONG


def test_values_that_break_naive_systems_are_kept(database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    if database.postgres:
        # Other people's tables beside ours are their own affair.
        database.execute("CREATE TABLE public.models (mine text)")
    post_strange(server)
    caught_up(server)
    check_strange(server, database)
    assert server.stop() == 0


HOSTILE = {
    "postgres": {
        "default_transaction_isolation": "serializable",
        "search_path": "public",
        "timezone": "Asia/Kathmandu",
        "datestyle": "German, DMY",
        "intervalstyle": "iso_8601",
        "standard_conforming_strings": "off",
        "bytea_output": "escape",
        "extra_float_digits": "-15",
        "transform_null_equals": "on",
        "client_encoding": "LATIN1",
        "enable_indexscan": "off",
    },
    "mariadb": {
        "sql_mode": "'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH'",
        "time_zone": "'+05:45'",
        "tx_isolation": "'SERIALIZABLE'",
        "character_set_server": "latin1",
        "collation_server": "latin1_german1_ci",
        "autocommit": "OFF",
        "default_storage_engine": "MyISAM",
        "innodb_default_row_format": "compact",
        "innodb_strict_mode": "OFF",
        "sql_auto_is_null": "ON",
        "sql_safe_updates": "ON",
        "sql_select_limit": "3",
        "group_concat_max_len": "4",
        "completion_type": "CHAIN",
    },
}


def test_what_a_server_is_set_to_does_not_change_what_is_kept(shared, database, settings, tmp_path):
    """Not only values: what is told to sessions by default is somebody else's as well."""
    hostile = HOSTILE[shared.kind]
    if database.postgres:
        for name, value in hostile.items():
            shared.ask(f"ALTER ROLE {USER} IN DATABASE {database.name} SET {name} = '{value}'")
    else:
        shared.ask(f"ALTER DATABASE {database.name} CHARACTER SET latin1 COLLATE latin1_swedish_ci")
        before = {name: shared.ask(f"SELECT @@GLOBAL.{name}")[0][0] for name in hostile}
    try:
        if not database.postgres:
            for name, value in hostile.items():
                shared.ask(f"SET GLOBAL {name} = {value}")
        server = Server(tmp_path / "data").start()
        post_strange(server)
        post(server, *(prediction(at, model="other") for at in range(100)))
        caught_up(server)
        page = server.json("/v1/models/other/versions/v/predictions?limit=100")["items"]
        assert [one["prediction_id"] for one in page] == [f"p-{at}" for at in range(99, -1, -1)]
    finally:
        if not database.postgres:
            for name, value in before.items():
                shared.ask(f"SET GLOBAL {name} = %s", value)
    check_strange(server, database)
    assert server.stop() == 0


def messy(chance: random.Random, count: int) -> list[dict]:
    """Events about few things, so that they meet in all orders and many in a batch are about the same row."""

    def some(**fields) -> dict:
        return {name: value for name, value in fields.items() if chance.random() < 0.6}

    def one() -> dict:
        at = chance.randrange(30)
        model, version, run = f"m{at % 3}", f"v{at % 2}", f"r{at % 4}"
        number = chance.choice([0.5, 1, 2, "NaN", "Infinity", -1.5])
        key = chance.choice(["a", "b", "A", "c "])
        entity = chance.choice([f"model/{model}", f"version/{model}@{version}", f"run/{run}", "dataset/d", "experiment/e"])
        kind = chance.choice(KINDS)
        text = f"t{chance.randrange(100)}"
        owner = chance.choice([{"run": run}, {"model": model, "version": version}])
        fields: dict = {
            "ModelCreated": {"model": model} | some(framework=text, description=text, tags={key: text}),
            "ModelVersionCreated": {"model": model, "version": version} | some(config={key: at}, run=run, digest=text),
            "ModelVersionAliased": {"model": model, "alias": key, "version": chance.choice([version, None])},
            "DatasetRegistered": {"dataset": "d"} | some(uri=text, version=text, row_count=at, schema=[at]),
            "DatasetUsed": {"run": run, "dataset": "d"} | some(version=f"v{at % 2}", role="train"),
            "ExperimentCreated": {"experiment": "e"} | some(description=text),
            "RunStarted": {"run": run, "model": model} | some(experiment="e", version=version, name=text, parent="r9"),
            "RunFinished": {"run": run, "status": "failed"} | some(error=text),
            "HyperparametersLogged": {"run": run, "params": {key: chance.choice([at, None, text]), "z": at}},
            "MetricLogged": owner | {"name": f"n{at % 2}", "value": number, "step": at % 5} | some(split=key, epoch=at),
            "ArtifactLogged": owner | {"uri": f"u{at % 5}"} | some(size_bytes=at, metadata={key: text}, name=text),
            "PredictionLogged": {"model": model, "version": version, "prediction_id": f"p{at}"}
            | some(input={key: at}, output=[text], confidence=number, predicted_class=text, tags={key: at})
            | some(input_tokens=at, part=chance.choice(["request", "response"]), error=text),
            "FeedbackLogged": {"prediction_id": f"p{at}"} | some(model=model, true_class=text, score=number, correct=at > 9),
            "TagsSet": {"entity": entity, "tags": {key: chance.choice([text, None]), "z": at}},
            "EntityDeleted": {"entity": entity},
            "EntityRestored": {"entity": entity},
        }[kind]
        return {"type": kind, "time": 1_795_366_800_000_000 + chance.randrange(50)} | fields

    return [one() for _ in range(count)]


KINDS = [
    "ModelCreated", "ModelVersionCreated", "ModelVersionAliased", "DatasetRegistered", "DatasetUsed", "ExperimentCreated",
    "RunStarted", "RunFinished", "HyperparametersLogged", "MetricLogged", "MetricLogged", "ArtifactLogged",
    "PredictionLogged", "PredictionLogged", "PredictionLogged", "FeedbackLogged", "TagsSet", "EntityDeleted",
    "EntityRestored", "EntityRestored",
]  # fmt: skip


def post_messy(server: Server, seed: int, count: int = 3000) -> None:
    chance = random.Random(seed)
    events = messy(chance, count)
    while events:
        size = chance.choice([1, 7, 130, 600])
        post(server, *events[:size])
        del events[:size]


def of_sqlite(path, tables: dict[str, list[str]]) -> dict[str, list[tuple]]:
    """The same columns there, with times as the others say them."""
    times = {"time", "created_at", "deleted_at", "started_at", "finished_at", "append_time", "last_time", "first_time"}

    def told(column, value):
        if column in times and value is not None:
            return datetime.fromisoformat("1970-01-01") + (datetime.resolution * value)
        return value

    found = {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        for table, columns in tables.items():
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM {table}")
            found[table] = [tuple(map(told, columns, row)) for row in rows]
    return found


def asked(server: Server, route: str) -> str:
    text = server.get(route).text
    if "since" not in route:
        return text
    # A mean that the database takes depends in its last digits on the order in which it adds up.
    return json.dumps(json.loads(text, parse_float=lambda text: f"{float(text):.12g}"))


def test_tables_and_answers_are_those_of_sqlite(database, settings, tmp_path, seed):
    server = Server(tmp_path / "data").start()
    assert server.post(history()).status_code == 200
    post_messy(server, seed)
    caught_up(server)
    routes = [route for route in ROUTES if route != "/v1/events"]
    for at in range(4):
        routes += [f"/v1/runs/r{at}{rest}" for rest in ("", "/metrics", "/metrics/n0", "/metrics/n1?split=a")]
        routes += [f"/v1/models/m{at % 3}{rest}" for rest in ("", "/versions", "/versions/v1/predictions", "/predictions/p7")]
    answers = {route: asked(server, route) for route in routes}
    assert server.stop() == 0
    settings(sql__url="sqlite:sqlite/modelog.db")
    again = Server(tmp_path / "data").start()
    caught_up(again)
    for route in routes:
        assert asked(again, route) == answers[route], route
    assert again.stop() == 0
    with sqlite3.connect(f"file:{again.database}?mode=ro", uri=True) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'schema_version'")
        tables = {
            table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] for (table,) in names.fetchall()
        }
    expected = of_sqlite(again.database, tables)
    for table, columns in tables.items():
        rows = database.rows(f"SELECT {', '.join(columns)} FROM {table}")
        assert alike(columns, rows) == alike(columns, expected[table]), table


def alike(columns: list[str], rows: list[tuple]) -> list[tuple]:
    """Without what may differ: how truth is told, and blanks in what was put together from several events."""

    def told(column, value):
        if isinstance(value, bool):
            return int(value)
        return value.replace(" ", "") if column == "non_finite" and value else value

    return sorted((tuple(map(told, columns, row)) for row in rows), key=repr)


def test_the_views_answer(database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    post_strange(server)
    caught_up(server)
    (found,) = database.rows(
        "SELECT model, version, output, predicted_class, true_class, correct, confidence, time FROM prediction_details "
        "WHERE prediction_id = 'p:1'"
    )
    time = datetime(2026, 11, 22, 17)
    shown = found[:2] + found[3:7] + (as_time(found[7]),)
    assert shown == ("resnet50", "v1", "cat", "cat", True, 0.75, time)
    assert json.loads(found[2]) == {"c": 1}
    points = database.rows("SELECT metric, split, step, value, non_finite FROM metric_details WHERE run = 'r1' ORDER BY step")
    assert points == [("loss", "train", 1, 0.5, None), ("loss", "train", 2, None, "NaN")]
    (run,) = database.rows("SELECT run, experiment, model, version, status FROM run_details WHERE run = 'r1'")
    assert run == ("r1", "baseline", "resnet50", "v1", "running")
    # Whatever is in them: all rows are shown, and JSON is looked into where the database can.
    for view in ("prediction_details", "metric_details", "run_details"):
        assert len(database.rows(f"SELECT * FROM {view}")) == database.count(view)
    assert database.count("prediction_details") == database.count("predictions") == 1 + len(TEXTS) + len(TIMES) + len(ODD)
    path = "output->>'c'" if database.postgres else "json_value(output, '$.c')"
    assert database.rows(f"SELECT {path} FROM prediction_details WHERE prediction_id = 'p:1'") == [("1",)]
    if database.postgres:
        assert database.one("SELECT pg_typeof(input)::text FROM prediction_details LIMIT 1") == "jsonb"
    assert server.stop() == 0


def as_time(value) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value).replace(tzinfo=None)


def test_a_rebuild_makes_the_same_tables(database, settings, tmp_path, seed):
    server = Server(tmp_path / "data").start()
    post_messy(server, seed, 1500)
    post_strange(server)
    caught_up(server)
    before = database.dump()
    assert before["predictions"] and before["statistics"]
    shown = subprocess.run(
        [binary(), "projections", "--data", str(server.data)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert shown.returncode == 0 and "sql" in shown.stdout and PASSWORD not in shown.stdout + shown.stderr
    database.execute("DELETE FROM predictions WHERE prediction_id = 'p7'")
    rebuild(server)
    caught_up(server)
    same(database.dump(), before)
    assert server.stop() == 0
    database.execute("DELETE FROM metrics")
    rebuild(server)
    same(database.dump(), before)
    # What the command left is where the server goes on.
    server.start()
    post(server, prediction(1))
    caught_up(server)
    assert database.count("predictions") == len(before["predictions"]) + 1
    assert server.stop() == 0


def never_short(server: Server) -> None:
    """While tables are built again beside new events, every answer has what was there before."""
    for call in range(20):
        post(server, *(prediction(call * 500 + at) for at in range(500)))
    caught_up(server)
    started = status(server)["last_success"]
    assert httpx.post(f"{server.url}/v1/projections/sql/rebuild").status_code == 202
    answers, rebuilding = 0, True
    while rebuilding:
        post(server, prediction(10_000 + answers))
        for path in ("/v1/models/m/versions/v/predictions?limit=100&at_least=0", "/v1/models/m/predictions/p-0?at_least=0"):
            answer = server.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert len(answer.json().get("items", range(100))) == 100, path
        answers += 1
        found = status(server)
        assert found["state"] != "stopped", found
        rebuilding = found["state"] != "running" or found["last_success"] == started or found["lag_events"] > 0
    assert answers > 1, "it was over before anything was asked"
    caught_up(server)


def test_no_answer_is_short_while_tables_are_built_again(database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    never_short(server)
    places = "schemata" if database.postgres else "tables"
    column = "schema_name" if database.postgres else "table_schema"
    assert database.rows(f"SELECT {column} FROM information_schema.{places} WHERE {column} LIKE '%%_rebuild'") == []
    assert server.stop() == 0


def test_no_answer_of_sqlite_is_short_while_it_is_built_again(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELOG_READ_FROM", "sql")
    server = Server(tmp_path / "data").start()
    never_short(server)
    assert [path.name for path in (server.data / "sqlite").iterdir() if "rebuild" in path.name] == []
    assert server.stop() == 0


def test_a_rebuild_without_the_right_to_a_second_place_is_done_in_this_one(shared, database, settings, tmp_path):
    if database.postgres:
        shared.ask(f"REVOKE CREATE ON DATABASE {database.name} FROM {USER}", database=database.name)
        shared.ask(f"CREATE SCHEMA modelog AUTHORIZATION {USER}", database=database.name)
    else:
        shared.ask(f"REVOKE ALL ON {database.name}_rebuild.* FROM {USER}@'%'")
    server = Server(tmp_path / "data").start()
    post(server, *(prediction(at) for at in range(100)))
    caught_up(server)
    before = database.dump()
    rebuild(server)
    same(database.dump(), before)
    assert "no tables can be made aside" in Path(f"{server.data}.log").read_text()
    assert server.stop() == 0


def test_tables_of_others_are_not_touched(database, settings, tmp_path):
    """In the place that would be ours; in PostgreSQL that is a schema."""
    if database.postgres:
        database.execute("CREATE SCHEMA modelog")
        database.execute(f"GRANT ALL ON SCHEMA modelog TO {USER}")
    # Named like one of ours.
    database.execute(f"CREATE TABLE {database.schema}.models (id integer, name text, mine text)")
    database.execute(f"INSERT INTO {database.schema}.models VALUES (1, 'a', 'precious')")
    if database.postgres:
        database.execute(f"GRANT ALL ON modelog.models TO {USER}")
    before = database.dump()
    server = Server(tmp_path / "data").start()
    post(server, prediction(1))
    reason = stops(server)
    assert database.schema in reason and PASSWORD not in reason
    assert database.dump() == before
    assert "sql" in json.dumps(server.json("/readyz")["degraded"]), "events are taken all the same"
    # Nor does a rebuild: it forgets what is ours, and this is not.
    command = [binary(), "rebuild", "sql", "--data", str(server.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode != 0 and reason in done.stderr
    assert database.dump() == before
    assert server.stop() == 0


def test_tables_of_others_beside_ours_survive_a_rebuild(database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, prediction(1))
    caught_up(server)
    database.execute(f"CREATE TABLE {database.schema}.customers (name text)")
    database.execute(f"INSERT INTO {database.schema}.customers VALUES ('precious')")
    subprocess.run([binary(), "rebuild", "sql", "--data", str(server.data)], capture_output=True, timeout=PATIENCE)
    assert database.rows(f"SELECT name FROM {database.schema}.customers") == [("precious",)]
    assert server.stop() == 0


@pytest.mark.parametrize("shared", ["postgres"], indirect=True)
def test_views_of_others_on_ours_are_named_before_a_rebuild_drops_anything(shared, database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, prediction(1))
    caught_up(server)
    database.execute("CREATE VIEW public.ids AS SELECT prediction_id FROM modelog.predictions")
    command = [binary(), "rebuild", "sql", "--data", str(server.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode != 0 and "view public.ids depends on table predictions" in done.stderr, done.stderr
    assert database.rows("SELECT * FROM public.ids") == [("p-1",)]
    assert server.get("/v1/models/m/predictions/p-1").status_code == 200
    database.execute("DROP VIEW public.ids")
    rebuild(server)
    assert database.count("predictions") == 1
    assert server.stop() == 0


@pytest.mark.parametrize("shared", ["mariadb"], indirect=True)
def test_what_an_exchange_left_behind_is_cleared_and_nothing_of_others(shared, database, settings, tmp_path):
    """A rebuild that is killed between the exchange of all tables and the removal of the old ones."""
    server = Server(tmp_path / "data").start()
    post(server, prediction(1))
    caught_up(server)
    aside = f"{database.name}_rebuild"
    shared.ask(f"CREATE DATABASE {aside}")
    for table in ("schema_version", "models"):
        shared.ask(f"CREATE TABLE {aside}.old_{table} LIKE {database.name}.{table}")

    def left() -> list:
        return shared.ask("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", aside)

    rebuild(server)
    assert left() == [] and aside not in str(shared.ask("SHOW DATABASES"))
    # Tables of somebody else in that place stay, whatever becomes of the rebuild.
    shared.ask(f"CREATE DATABASE {aside}")
    shared.ask(f"CREATE TABLE {aside}.customers (name text)")
    shared.ask(f"CREATE TABLE {aside}.old_models (name text)")
    done = subprocess.run([binary(), "rebuild", "sql", "--data", str(server.data)], capture_output=True, text=True)
    assert done.returncode != 0 and aside in done.stderr and "was not made by Modelog" in done.stderr, done.stderr
    assert sorted(left()) == [("customers",), ("old_models",)]
    assert database.count("predictions") == 1
    shared.ask(f"DROP DATABASE {aside}")
    rebuild(server)
    assert database.count("predictions") == 1
    assert server.stop() == 0


def test_another_logs_tables_are_refused(database, settings, tmp_path):
    first = Server(tmp_path / "first").start()
    post(first, prediction(1))
    caught_up(first)
    assert first.stop() == 0
    before = database.dump()
    second = Server(tmp_path / "second").start()
    post(second, prediction(2))
    assert "rebuild sql" in stops(second)
    assert database.dump() == before
    assert second.stop() == 0
    # Two logs on one server, each with a place of its own.
    other = database if database.postgres else database.server.add_database()
    settings(sql__url=database.url(schema="second") if database.postgres else other.url())
    second.start()
    caught_up(second)
    schema = "second" if database.postgres else other.name
    assert other.rows(f"SELECT prediction_id FROM {schema}.predictions") == [("p-2",)]
    assert database.dump() == before
    assert second.stop() == 0


@pytest.mark.parametrize("shared", ["postgres"], indirect=True)
def test_a_database_that_cannot_hold_every_text_is_refused(shared, database, settings, tmp_path):
    shared.ask(f"CREATE DATABASE narrow OWNER {USER} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    settings(sql__url=database.url().replace(database.name, "narrow"))
    server = Server(tmp_path / "data").start()
    post(server, prediction(1))
    assert "UTF8" in stops(server)
    assert shared.ask("SELECT 1 FROM information_schema.schemata WHERE schema_name = 'modelog'", database="narrow") == []
    assert server.stop() == 0


def test_tables_of_a_newer_version_are_refused(database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, prediction(1))
    caught_up(server)
    assert server.stop() == 0
    database.execute("UPDATE schema_version SET version = 99")
    before = database.dump()
    server.start()
    post(server, prediction(2))
    reason = stops(server)
    assert "99" in reason and "newer modelog" in reason
    assert database.dump() == before
    rebuild(server)
    caught_up(server)
    assert database.count("predictions") == 2
    assert server.stop() == 0


def test_a_table_that_is_gone_is_told_and_built_again(database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, prediction(1), *STORY)
    caught_up(server)
    before = database.dump()
    database.execute("DROP TABLE predictions" + " CASCADE" * database.postgres)
    post(server, prediction(1))
    assert "rebuild sql" in stops(server)
    rebuild(server)
    caught_up(server)
    assert database.count("predictions") == len(before["predictions"])
    assert server.stop() == 0


def test_a_place_that_is_gone_is_filled_again_at_the_next_start(database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    caught_up(server)
    before = database.dump()
    assert server.stop() == 0
    if database.postgres:
        database.execute("DROP SCHEMA modelog CASCADE")
    else:
        database.execute(f"DROP DATABASE {database.name}")
        database.server.ask(f"CREATE DATABASE {database.name}")
    server.start()
    caught_up(server)
    same(database.dump(), before)
    assert server.stop() == 0


def refuse(database: Database, how: str, what: str = "confidence < 0.9") -> None:
    """Makes the database refuse some predictions."""
    if how == "constraint":
        database.execute(f"ALTER TABLE predictions ADD CONSTRAINT not_sure CHECK (confidence IS NULL OR {what})")
    elif database.postgres:
        database.execute(
            "CREATE FUNCTION public.not_sure() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF new.confidence >= 0.9 THEN RAISE EXCEPTION 'not_sure'; END IF; RETURN new; END $$"
        )
        database.execute("CREATE TRIGGER not_sure BEFORE INSERT ON predictions FOR EACH ROW EXECUTE FUNCTION public.not_sure()")
    else:
        database.execute(
            "CREATE TRIGGER not_sure BEFORE INSERT ON predictions FOR EACH ROW "
            "IF new.confidence >= 0.9 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not_sure'; END IF"
        )


@pytest.mark.parametrize("how", ["constraint", "trigger"])
def test_rows_that_the_database_refuses_are_recorded_and_the_rest_goes_on(shared, database, settings, tmp_path, how):
    server = Server(tmp_path / "data").start()
    post(server, prediction(0))
    caught_up(server)
    refuse(database, how)
    bad = {17, 300, 301, 999}
    events = [prediction(at, confidence=0.95 if at in bad else 0.5) for at in range(1, 1001)]
    events.append({"type": "FeedbackLogged", "prediction_id": "p-1", "correct": True})
    answer = server.post(ndjson(*events)).json()
    caught_up(server)
    ids = [prediction_id for (prediction_id,) in database.rows("SELECT prediction_id FROM predictions ORDER BY log_offset")]
    assert ids == [f"p-{at}" for at in range(1001) if at not in bad]
    assert database.count("feedback") == 1
    rejected = database.rows("SELECT table_name, log_offset, reason FROM rejected_rows ORDER BY log_offset")
    first = answer["first_offset"] - 1
    assert [row[:2] for row in rejected] == [("predictions", first + at) for at in sorted(bad)]
    assert all("not_sure" in reason for _, _, reason in rejected)
    # A hundred are recorded; more at once mean that something else is wrong.
    before = database.dump()
    post(server, *(prediction(at, confidence=0.95) for at in range(2000, 2101)))
    reason = stops(server)
    assert "100" in reason and "predictions" in reason and "not_sure" in reason
    assert database.dump() == before, "nothing of it is kept"
    until(lambda: not shared.held(), "it lets go of what it had begun")
    # With the reason gone, it goes on from there.
    if how == "constraint":
        database.execute("ALTER TABLE predictions DROP CONSTRAINT not_sure")
    else:
        database.execute("DROP TRIGGER not_sure" + " ON predictions" * database.postgres)
    assert server.stop() == 0
    server.start()
    caught_up(server)
    assert database.count("predictions") == 1001 - len(bad) + 101
    assert server.stop() == 0


@pytest.mark.parametrize("shared", ["mariadb"], indirect=True)
def test_rows_larger_than_a_packet_are_recorded_and_the_rest_goes_on(shared, database, settings, tmp_path):
    before = shared.ask("SELECT @@GLOBAL.max_allowed_packet")[0][0]
    shared.ask("SET GLOBAL max_allowed_packet = 1048576")
    try:
        server = Server(tmp_path / "data").start()
        large, small = "x" * (1 << 20), "\u20ac'\\" * 100_000
        post(server, *(prediction(at, error=large if at in (3, 70) else small) for at in range(20)))
        post(server, prediction(70, error=large), prediction(71), prediction(72, error="x" * 1_000_000))
        post(server, *(prediction(at, error="y" * 20_000) for at in range(100, 400)))
        caught_up(server)
        ids = {prediction_id for (prediction_id,) in database.rows("SELECT prediction_id FROM predictions")}
        expected = [*(at for at in range(20) if at != 3), 71, 72, *range(100, 400)]
        assert ids == {f"p-{at}" for at in expected}
        rejected = database.rows("SELECT table_name, log_offset, reason FROM rejected_rows ORDER BY log_offset")
        assert [table for table, _, _ in rejected] == ["predictions"] * 2
        assert all("max_allowed_packet" in reason for _, _, reason in rejected), rejected
        assert server.stop() == 0
    finally:
        shared.ask("SET GLOBAL max_allowed_packet = %s", before)


def test_predictions_are_kept_as_long_as_is_said(database, settings, tmp_path):
    settings(sql__predictions_keep="1s")
    server = Server(tmp_path / "data").start()
    old = [prediction(at) for at in range(2500)]
    old += [{"type": "FeedbackLogged", "prediction_id": f"p-{at}", "correct": True} for at in range(2500)]
    post(server, *old)
    caught_up(server)
    last = database.one("SELECT max(append_time) FROM predictions")
    numbers = itertools.count(10_000)

    def newer():
        # What counts is when the log took events, any of them.
        post(server, prediction(next(numbers)))
        caught_up(server)
        return (database.one("SELECT max(append_time) FROM predictions") - last).total_seconds() > 1

    until(newer, "time passes")
    ((first, last),) = database.rows("SELECT min(append_time), max(append_time) FROM predictions")
    assert (last - first).total_seconds() <= 1
    assert database.count("feedback") == 0
    assert server.json("/v1/stats")["predictions"] >= 2501, "they were counted"
    assert server.stop() == 0


def test_tls_with_certificates_on_both_sides(shared, database, settings, tmp_path):
    signed(shared.home, "stranger", shared.strangers)
    settings(sql__url=database.url(CERTIFIED, **database.tls()))
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    caught_up(server)
    assert database.count("predictions") == 1
    assert server.json("/v1/models/resnet50")["framework"] == "PyTorch"
    if database.postgres:
        sessions = "SELECT bool_and(ssl), min(client_dn) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = %s"
        assert database.rows(sessions, CERTIFIED) == [(True, "/CN=client")]
    assert server.stop() == 0
    before = database.dump()
    # Only by name is the address a part of what is verified.
    settings(sql__url=database.url(CERTIFIED, address="127.0.0.2", **database.tls("verify-ca")))
    server.start()
    caught_up(server)
    assert server.stop() == 0
    post_refused = prediction(5)
    for why, url in {
        "an authority that did not sign it": database.url(CERTIFIED, **database.tls(authority="strangers")),
        "a server by another address": database.url(CERTIFIED, address="127.0.0.2", **database.tls()),
        "no certificate of ours": database.url(CERTIFIED, **database.tls(certificate=None)),
        "a certificate nobody there knows": database.url(CERTIFIED, **database.tls(certificate="stranger")),
        "no encryption": database.url(CERTIFIED, **({"sslmode": "disable"} if database.postgres else {"ssl-mode": "DISABLED"})),
    }.items():
        settings(sql__url=url)
        refused = Server(tmp_path / "data").start()
        post(refused, post_refused)
        found = until(lambda: (found := status(refused))["last_error"] and found, f"{why}: it says something")
        assert found["state"] == "retrying", (why, found)
        assert PASSWORD not in refused.said() and "hush" not in refused.said() + found["last_error"], why
        assert refused.stop() == 0
        assert database.dump() == before, why


def test_a_wrong_password_is_not_told_and_a_right_one_is_enough(shared, database, settings, tmp_path):
    settings(sql__url=database.url(password="wr0ng/word"))
    server = Server(tmp_path / "data").start()
    post(server, prediction(1))
    found = until(lambda: (found := status(server))["last_error"] and found, "it says why")
    assert found["state"] == "retrying", found
    shown = [found["last_error"], server.said(), server.get("/readyz").text, server.get("/metrics").text]
    for command in (["projections", "--data", str(server.data)], ["config", "show"], ["config", "check"]):
        done = subprocess.run([binary(), *command], capture_output=True, text=True, timeout=PATIENCE)
        shown.append(done.stdout + done.stderr)
    for text in shown:
        assert not any(word in text for word in ("wr0ng", PASSWORD, quote(PASSWORD, safe=""))), text
    # Somebody gives the user that password.
    if database.postgres:
        shared.ask(f"ALTER ROLE {USER} PASSWORD 'wr0ng/word'")
    else:
        shared.ask(f"ALTER USER {USER}@'%' IDENTIFIED BY 'wr0ng/word'")
    try:
        caught_up(server)
        assert database.count("predictions") == 1
    finally:
        if database.postgres:
            shared.ask(f"ALTER ROLE {USER} PASSWORD '{PASSWORD}'")
        else:
            shared.ask(f"ALTER USER {USER}@'%%' IDENTIFIED BY %s", PASSWORD)
    assert server.stop() == 0


def test_wrong_urls_are_said_at_once():
    for url in (
        "postgres://me:hush@", "mysql://me:hush@127.0.0.1:x/db", "postgres://me:hush@127.0.0.1/db?sslmode=sometimes",
        "mysql://me:hush@127.0.0.1", "mysql://me:hush@127.0.0.1/db?ssl-mode=maybe", "oracle://me:hush@db/ml",
        "postgres://me:hush@127.0.0.1/db?nonsense=1",
    ):  # fmt: skip
        environment = os.environ | {"MODELOG_SQL__URL": url}
        done = subprocess.run([binary(), "config", "check"], env=environment, capture_output=True, text=True)
        assert done.returncode == 78 and "sql.url" in done.stderr, (url, done.stderr)
        assert "hush" not in done.stdout + done.stderr
