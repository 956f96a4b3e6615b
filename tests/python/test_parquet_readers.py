"""What readers that we did not write see in the Parquet files: every value, its type, no more files than needed."""

import base64
import hashlib
import json
import random
import re
import struct
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from datetime import datetime, timedelta, timezone

import duckdb
import httpx
import polars as pl
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from conftest import PATIENCE, ROOT, Server
from parquet_support import FULL, POLARS, compact, import_events, modelog, tool

SPARK = pytest.param("Spark", marks=FULL)
READERS = ["DuckDB", "Polars", *POLARS, "pandas", "pyarrow", SPARK]
# What each calls the types that docs/parquet.md names, and a day in the directories' names.
TYPES = {
    "DuckDB": {
        "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
        "STRING": "VARCHAR",
        "INT64": "BIGINT",
        "DOUBLE": "DOUBLE",
        "BOOLEAN": "BOOLEAN",
        "BINARY": "BLOB",
        "date": "DATE",
    },
    "Polars": {
        "TIMESTAMP": "Datetime(time_unit='us', time_zone='UTC')",
        "STRING": "String",
        "INT64": "Int64",
        "DOUBLE": "Float64",
        "BOOLEAN": "Boolean",
        "BINARY": "Binary",
        "date": "Date",
    },
    "pandas": {
        "TIMESTAMP": "timestamp[us, tz=UTC][pyarrow]",
        "STRING": "string[pyarrow]",
        "INT64": "int64[pyarrow]",
        "DOUBLE": "double[pyarrow]",
        "BOOLEAN": "bool[pyarrow]",
        "BINARY": "binary[pyarrow]",
        "date": "dictionary<values=string, indices=int32, ordered=0>[pyarrow]",
    },
    "pyarrow": {
        "TIMESTAMP": "timestamp[us, tz=UTC]",
        "STRING": "string",
        "INT64": "int64",
        "DOUBLE": "double",
        "BOOLEAN": "bool",
        "BINARY": "binary",
        "date": "string",
    },
    "Spark": {
        "TIMESTAMP": "timestamp",
        "STRING": "string",
        "INT64": "bigint",
        "DOUBLE": "double",
        "BOOLEAN": "boolean",
        "BINARY": "binary",
        "date": "date",
    },
}


class Text(str):
    """JSON as it is sent, to the byte."""


JSON = Text(
    '{"big":123456789012345678901234567890,"a":1, "a" :2,"e":1E400,"s":"\\u0000\\ud83d\\ude00\\/","n":[ null,-0]}'
)
# The first and last that are legal, and around what is zero.
TIMES = [
    "1678-01-01T00:00:00+00:00",
    "1969-12-31T23:59:59.999999+00:00",
    "1970-01-01T00:00:00+00:00",
    "2261-12-31T23:59:59.999999+00:00",
]
LEAST, MOST = -(2**63), 2**63 - 1
AT = 1_795_600_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# `é` in one character and in two, trailing blanks, beyond the first 65,536 characters.
WORDS = ["", "é", "e\u0301", "blank ", "\u2028", "𝄞🙂", "x" * 10_000]


def values() -> list[dict]:
    """Events of every kind that may be sent, with the values that break naive systems."""
    events = [
        {"type": "ModelCreated", "model": "Model", "architecture": "", "framework": "é", "task_type": "e\u0301",
         "description": "blank ", "tags": Text('{ "a" : 1,"a":2}')},
        {"type": "ModelCreated", "model": "model", "extra": Text('{"odd" : [1 ,2]}'),
         "source": "a source", "id": "an id"},
        {"type": "ModelVersionCreated", "model": "model", "version": "v1 ", "checkpoint_path": "s3://bucket/x y",
         "config": JSON, "signature": Text('"text"'), "digest": "", "run": "run/1@2%", "description": "𝄞🙂",
         "tags": Text("{}")},
        {"type": "ModelVersionAliased", "model": "model", "alias": "champion", "version": "v1 "},
        {"type": "ModelVersionAliased", "model": "model", "alias": "champion", "version": None},
        {"type": "DatasetRegistered", "dataset": "d", "version": "1", "uri": "file:///etc/passwd",
         "split_info": Text("[]"), "row_count": LEAST, "digest": "x", "schema": JSON, "tags": Text("{}")},
        {"type": "DatasetRegistered", "dataset": "d", "row_count": MOST},
        {"type": "DatasetUsed", "run": "run/1@2%", "dataset": "d", "version": "1", "role": ""},
        {"type": "ExperimentCreated", "experiment": "e", "description": "x" * 10_000, "tags": Text('{"k":null}')},
        {"type": "RunStarted", "run": "run/1@2%", "name": "", "parent": "p", "experiment": "e", "model": "model",
         "version": "v1 ", "dataset": "d", "started_by": "somebody",
         "code": "https://example.org/x#y", "tags": Text("{}")},
        {"type": "HyperparametersLogged", "run": "run/1@2%", "params": JSON},
        {"type": "ArtifactLogged", "uri": "s3://bucket/a", "run": "run/1@2%", "name": "n", "media_type": "text/plain",
         "size_bytes": 2**53 + 1, "digest": "d", "metadata": Text("1e400")},
        {"type": "RunFinished", "run": "run/1@2%", "status": "failed", "error": "line 1\nline 2\ttab"},
        {"type": "TagsSet", "entity": "model/model", "tags": Text('{"b":1 ,"b":null}')},
        {"type": "EntityDeleted", "entity": "dataset/d"},
        {"type": "EntityRestored", "entity": "dataset/d"},
        {"type": "EventLogged", "name": "anything", "data": Text("{}")},
        {"type": "EventLogged", "name": "anything", "data": Text("123456789012345678901234567890")},
        {"type": "FeedbackLogged", "prediction_id": "p", "model": "model", "version": "v1 ", "true_class": "",
         "true_value": "NaN", "correct": False, "label": JSON, "score": 5e-324,
         "score_name": "s", "feedback_source": ""},
        {"type": "FeedbackLogged", "prediction_id": "p", "correct": True},
        {"type": "FeedbackLogged", "prediction_id": "p"},
    ]  # fmt: skip
    numbers = ["NaN", "Infinity", "-Infinity", -0.0, 5e-324, 1.7976931348623157e308, 0.1, 2**53 + 2.0]
    for number in numbers:
        events.append(
            {"type": "MetricLogged", "name": "loss", "value": number, "run": "r", "epoch": number, "split": ""}
        )
    for step in [LEAST, -1, 0, 2**53 + 1, MOST]:
        events.append(
            {"type": "MetricLogged", "name": "loss", "value": 1.0, "model": "m", "version": "v", "step": step}
        )
    for at in TIMES:
        events.append({"type": "MetricLogged", "name": "time", "value": 0.0, "run": "r", "time": at})
    for number, word in enumerate(WORDS):
        events.append(
            {"type": "PredictionLogged", "model": "m", "version": "v", "user_id": word, "confidence": number / 7}
        )
    events.append(
        {"type": "PredictionLogged", "model": "m", "version": "v", "prediction_id": "p", "id": "other", "input": JSON,
         "output": Text("[1.0,1,1e0]"), "predicted_class": "c", "predicted_value": "-Infinity", "confidence": "NaN",
         "inference_time_ms": -0.0, "timings": Text('{"a":1}'), "request_id": "r", "trace_id": "t", "session_id": "s",
         "user_id": "u", "environment": "prod", "sample_rate": 0.25, "input_tokens": MOST, "output_tokens": LEAST,
         "time_to_first_token_ms": 0.5, "error": "", "tags": Text("{}"), "part": "response"}
    )  # fmt: skip
    return events


def line(event: dict) -> str:
    members = (
        f"{json.dumps(name)}:{value if isinstance(value, Text) else json.dumps(value)}" for name, value in event.items()
    )
    return "{" + ",".join(members) + "}"


def shown(value):
    """A sent value as the tools' program tells it."""
    if value in ("NaN", "Infinity", "-Infinity"):
        return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}[value]
    if value in TIMES:
        return (datetime.fromisoformat(value) - EPOCH) // timedelta(microseconds=1)
    return str(value) if isinstance(value, Text) else value


class Written:
    """Everything that was sent, and where the program put it."""

    def __init__(self, directory):
        self.directory = directory
        self.parquet = directory / "modelog-data" / "parquet"
        self.events = [{"time": AT + place, **event} for place, event in enumerate(values())]
        del self.events[0]["time"]
        self.refused = '{"type":"MetricLogged","name":"loss"'
        server = Server(directory / "modelog-data").start()
        try:
            # Some calls, so that there are batches and origins.
            for place in range(0, len(self.events), 10):
                body = "".join(line(event) + "\n" for event in self.events[place : place + 10])
                answer = server.post(body.encode(), headers={"Idempotency-Key": f"call-{place}"})
                assert answer.status_code == 200, answer.text
                assert answer.json()["first_offset"] == place
            answer = server.post(self.refused + "\n", params={"on_error": "skip"})
            assert answer.status_code == 200, answer.text
            self.ids = {
                "model": {item["model"]: item["id"] for item in server.json("/v1/models")["items"]},
                "run": {item["run"]: item["id"] for item in server.json("/v1/runs")["items"]},
            }
            self.openapi = server.json("/openapi.json")["components"]["schemas"]
        finally:
            server.stop()
        compact(directory)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return Written(tmp_path_factory.mktemp("readers"))


@pytest.fixture(scope="module")
def seen(written):
    """What a reader sees; each runs once."""
    kept = {}

    def read(name: str) -> dict:
        if name not in kept:
            kept[name] = tool(name, "read", cwd=written.directory, zone="America/New_York")
            for kind in kept[name].values():
                kind["rows"].sort(key=lambda row: row["log_offset"])
        return kept[name]

    return read


@pytest.mark.parametrize("reader", READERS)
def test_every_event_is_there_once_with_every_value(written, seen, reader):
    kinds = seen(reader)
    offsets = [row["log_offset"] for kind, found in kinds.items() if kind not in NO_EVENTS for row in found["rows"]]
    assert sorted(offsets) == list(range(len(written.events) + 1)), "one for the line that was refused"
    for offset, event in enumerate(written.events):
        (row,) = [row for row in kinds[event["type"]]["rows"] if row["log_offset"] == offset]
        expected = {name: shown(value) for name, value in event.items() if name != "type"}
        for name, value in row.items():
            if name in ("log_offset", "append_time", "date", "kind"):
                continue
            if name == "time" and offset == 0:
                assert value == row["append_time"], "an event that does not say when it happened"
            elif isinstance(value, float):
                assert struct.pack("d", value) == struct.pack("d", expected.pop(name)), (name, event)
            else:
                assert value == expected.pop(name, None), (name, event)
        assert not expected, "fields that no column has"


@pytest.mark.parametrize("reader", READERS)
def test_every_column_has_its_type(written, seen, reader):
    columns = columns_of_the_page()
    named = TYPES[reader.split()[0]]
    for kind, found in seen(reader).items():
        for name, (type_name, _) in columns[kind].items():
            assert found["types"].pop(name) == named[type_name], (kind, name)
        assert found["types"].pop("date") == named["date"]
        assert found["types"].pop("kind", "") in ("", named["STRING"])
        assert not found["types"], f"columns that the page does not have, in {kind}"
        for row in found["rows"]:
            day = datetime.fromtimestamp(row["append_time"] / 1e6, timezone.utc).date()
            assert row["date"] == str(day)


@pytest.mark.parametrize("reader", READERS)
def test_what_could_not_be_understood_is_there_byte_for_byte(written, seen, reader):
    (row,) = seen(reader)["EventRejected"]["rows"]
    assert base64.b64decode(row["raw"]) == written.refused.encode()
    assert row["reason"] and row["key"] is None


@pytest.mark.parametrize("reader", READERS)
def test_names_have_the_numbers_of_the_api(written, seen, reader):
    found = defaultdict(dict)
    for row in seen(reader)["EntityNamed"]["rows"]:
        found[row["entity_kind"]][row["name"]] = row
    # Not all that is named is listed: what is deleted, or never was created, is not.
    for kind in ("model", "run"):
        assert written.ids[kind]
        for name, number in written.ids[kind].items():
            assert found[kind][name]["entity_id"] == number
    version = found["version"]["v1 "]
    assert version["parent_id"] == found["model"]["model"]["entity_id"]
    assert found["model"]["Model"]["entity_id"] != found["model"]["model"]["entity_id"]


@pytest.mark.parametrize("reader", READERS)
def test_calls_are_there_with_their_keys(written, seen, reader):
    rows = {row["key"]: row for row in seen(reader)["Origin"]["rows"] if row["source"] == "call" and row["key"]}
    for place in range(0, len(written.events), 10):
        row = rows[f"call-{place}"]
        assert row["log_offset"] + row["first_ord"] == place
        assert row["rows"] == min(10, len(written.events) - place)
        assert (row["rejected"], row["duplicates"], row["topic"]) == (0, 0, None)


# Tables that repeat offsets of events.
NO_EVENTS = ("EntityNamed", "Origin")


def columns_of_the_page() -> dict[str, dict[str, tuple[str, bool]]]:
    """Per kind, each column's type and whether it may be null, as docs/parquet.md says."""
    page = (ROOT / "docs" / "parquet.md").read_text()

    def column(text: str, type_name: str):
        return text.strip("*"), (type_name.split(",")[0], not text.startswith("**"))

    def table(header: str) -> list[list[str]]:
        (found,) = re.findall(rf"^\| {re.escape(header)} .*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.M)
        return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in found.splitlines()]

    common = dict(column(name, kind) for name, kind, _ in table("column | type |"))
    kinds = {"Origin": dict(column(name, kind) for name, kind, _ in table("column of `Origin` |"))}
    for kind, text, json_text, integers, floats, other in table("kind | STRING |"):
        cells = [(text, "STRING"), (json_text, "STRING"), (integers, "INT64"), (floats, "DOUBLE")]
        own = dict(column(name, type_name) for cell, type_name in cells for name in cell.split(", ") if name)
        own |= dict(column(*one.split(" ")) for one in other.split(", ") if one)
        kinds[kind.strip("`")] = common | own
    return kinds


def test_the_page_has_the_columns_of_the_files(written, tmp_path):
    columns = columns_of_the_page()
    physical = {"STRING": "BYTE_ARRAY", "BINARY": "BYTE_ARRAY", "TIMESTAMP": "INT64"}
    for path in files_for_every_kind(written, columns, tmp_path):
        file = pq.ParquetFile(path)
        kind = file.metadata.metadata[b"modelog.kind"].decode()
        said = columns.pop(kind, None)
        if said is None:
            continue
        assert [field.name for field in file.schema_arrow] and set(file.schema_arrow.names) == set(said), kind
        for place, field in enumerate(file.schema_arrow):
            type_name, nullable = said[field.name]
            column = file.schema.column(place)
            assert field.nullable == nullable, (kind, field.name)
            assert column.physical_type == physical.get(type_name, type_name), (kind, field.name)
            logical = str(column.logical_type)
            if type_name == "TIMESTAMP":
                assert "isAdjustedToUTC=true" in logical and "timeUnit=microseconds" in logical, logical
            else:
                assert logical == {"STRING": "String"}.get(type_name, "None"), (kind, field.name)
    assert not columns, f"kinds of which there is no file: {list(columns)}"


def files_for_every_kind(written, kinds, tmp_path):
    """The files of kinds that were sent; of others, an export without rows."""
    found = {path.parent.parent.name.removeprefix("kind="): path for path in written.parquet.glob("*/*/*.parquet")}
    for kind in kinds:
        if kind not in found:
            out = tmp_path / f"{kind}.parquet"
            modelog(written.directory, "export", "--kind", kind, "--format", "parquet", "--out", str(out))
            found[kind] = out
    return found.values()


# JSON, and bytes that could not be understood.
BYTE_FOR_BYTE = {
    "config", "data", "extra", "headers", "input", "key", "label", "metadata", "output", "params", "raw", "schema",
    "signature", "split_info", "tags", "timings",
}  # fmt: skip


def test_the_page_knows_which_text_is_json(written):
    page = (ROOT / "docs" / "parquet.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]*\| ([^|]*)\|", page, re.M)
    checked = 0
    for kind, json_text in rows:
        described = written.openapi.get(kind)
        if described is None:
            continue
        said = {name.strip().strip("*") for name in json_text.split(",") if name.strip()}
        kept = {
            name
            for name, field in described["properties"].items()
            if "byte for byte" in field.get("description", "") and name != "extra"
        }
        assert said == kept, kind
        checked += 1
    assert checked >= 17


def test_files_are_made_for_finding_things(written):
    for path in written.parquet.glob("*/*/*.parquet"):
        metadata = pq.ParquetFile(path).metadata
        keys = metadata.metadata
        assert keys[b"modelog.kind"].decode() == path.parent.parent.name.removeprefix("kind=")
        assert uuid.UUID(keys[b"modelog.log"].decode()).int and keys[b"modelog.schema"]
        # Old readers trip over what Arrow would say of its own types.
        assert b"ARROW:schema" not in keys
        for group in range(metadata.num_row_groups):
            assert metadata.row_group(group).num_rows <= 262_144
            for place in range(metadata.num_columns):
                column = metadata.row_group(group).column(place)
                assert column.compression == "ZSTD", column
                assert column.has_offset_index and column.statistics.has_null_count, column
                # The least and greatest JSON text say nothing; NaN alone has none.
                told = column.statistics.has_min_max and column.path_in_schema not in BYTE_FOR_BYTE
                assert column.has_column_index or not told, column
        filters = duckdb.sql(
            f"SELECT path_in_schema FROM parquet_metadata('{path}') WHERE bloom_filter_offset IS NOT NULL"
        )
        assert {name for (name,) in filters.fetchall()} == {"prediction_id", "run", "id"} & set(metadata.schema.names)


def test_the_manifest_tells_what_lies_there(written):
    told = json.loads((written.parquet / "_manifest.json").read_text())["manifest"]
    lies = {str(path.relative_to(written.parquet)) for path in written.parquet.rglob("*") if path.is_file()}
    assert lies == {entry["path"] for entry in told["files"]} | {"_manifest.json", "_lock"}, (
        "nothing else is left there"
    )
    assert told["cold_end"] == len(written.events) + 1
    for entry in told["files"]:
        content = (written.parquet / entry["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])
        rows = pq.read_table(written.parquet / entry["path"], columns=["log_offset"], partitioning=None)
        offsets = rows["log_offset"].to_pylist()
        assert offsets == sorted(offsets)
        assert (len(offsets), offsets[0], offsets[-1] + 1) == (entry["rows"], entry["first"], entry["end"])
        assert entry["path"].endswith(f"{entry['first']:020}-{entry['end']:020}.parquet")


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Predictions that the log took on three days, each compacted on its own day."""
    directory = tmp_path_factory.mktemp("days")
    for day in (20, 21, 22):
        events = [
            {"type": "PredictionLogged", "model": "m", "version": "v", "prediction_id": f"p-{day}-{n}", "time": AT - n}
            for n in range(day)
        ]
        # Late in the evening elsewhere: the day is that of UTC.
        now = f"2026-11-{day} 01:30:00"
        import_events(directory, events, now=now)
        compact(directory, now=now)
    return directory


@pytest.mark.parametrize("reader", ["DuckDB", "Polars", *POLARS, "pyarrow", SPARK])
def test_other_days_are_not_read(days, reader):
    wanted = {f"2026-11-{day}": {"rows": day, "files": "1/3"} for day in (20, 21, 22)}
    wanted["2026-11-23"] = {"rows": 0, "files": "0/3"}
    assert tool(reader, "prune", "PredictionLogged", *wanted, cwd=days, zone="America/New_York") == wanted


def test_a_day_is_a_day_of_arrival(days):
    found = sorted(path.name for path in (days / "modelog-data" / "parquet" / "kind=PredictionLogged").iterdir())
    assert found == ["date=2026-11-20", "date=2026-11-21", "date=2026-11-22"]


GROUP = 262_144


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A file of several row groups, with ids that say nothing about their place."""
    directory = tmp_path_factory.mktemp("many")
    draw = random.Random(11)
    ids = [f"{draw.getrandbits(128):032x}" for _ in range(2 * GROUP + 1000)]
    lines = (
        f'{{"type":"PredictionLogged","model":"m","version":"v","prediction_id":"{name}","confidence":{n % 97 / 97}}}\n'
        for n, name in enumerate(ids)
    )
    modelog(directory, "import", "-", input="".join(lines))
    compact(directory)
    (file,) = (directory / "modelog-data" / "parquet" / "kind=PredictionLogged").glob("*/*.parquet")
    return file, ids


def row_groups_scanned(query: str) -> int:
    """As DuckDB accounts for it."""
    ((_, plan),) = duckdb.sql(f"EXPLAIN (ANALYZE, FORMAT json) {query}").fetchall()
    return json.loads(plan)["query"]["total_row_groups_scanned"]


def test_one_prediction_is_found_through_the_bloom_filter(many):
    file, ids = many
    groups = pq.ParquetFile(file).metadata.num_row_groups
    assert groups >= 3
    absent = [f"{draw:032x}" for draw in range(2**127, 2**127 + 20)]
    assert not set(absent) & set(ids)
    read = 0
    for name in [ids[0], ids[GROUP], ids[-1], *absent]:
        query = f"SELECT log_offset FROM '{file}' WHERE prediction_id = '{name}'"
        assert duckdb.sql(query).fetchall() == [(place,) for place in range(len(ids)) if ids[place] == name]
        read += row_groups_scanned(query)
        probed = duckdb.sql(f"FROM parquet_bloom_probe('{file}', 'prediction_id', '{name}')").fetchall()
        assert len(probed) == groups, "a filter in every row group"
    # One for each that is there; a filter may say "perhaps" of what is not, but seldom. The ids' range says nothing.
    assert 3 <= read <= 3 + 23 * groups // 10


def test_a_stretch_is_found_through_the_statistics(many):
    file, ids = many
    groups = pq.ParquetFile(file).metadata.num_row_groups
    query = f"SELECT confidence FROM '{file}' WHERE log_offset BETWEEN 1000 AND 1999"
    assert len(duckdb.sql(query).fetchall()) == 1000
    assert row_groups_scanned(query) == 1 < groups
    lazy = (
        pl.scan_parquet(file)
        .filter(pl.col("log_offset").is_between(GROUP, GROUP + 9))
        .select("prediction_id")
        .collect()
    )
    assert lazy["prediction_id"].to_list() == ids[GROUP : GROUP + 10]


def test_the_script_that_times_duckdb(many):
    file, ids = many
    program = str(ROOT / "tests" / "python" / "duckdb_speed.py")
    done = subprocess.run([sys.executable, program, str(file.parents[3])], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["predictions"], told["files"]) == (len(ids), 1)
    assert all(seconds > 0 for name, seconds in told.items() if name.endswith("_seconds"))


def see_with_duckdb(directory):
    return [
        offset
        for (offset,) in duckdb.sql(f"SELECT log_offset FROM '{directory}/kind=MetricLogged/*/*.parquet'").fetchall()
    ]


def see_with_polars(directory):
    return (
        pl.scan_parquet(f"{directory}/kind=MetricLogged/*/*.parquet")
        .select("log_offset")
        .collect()["log_offset"]
        .to_list()
    )


def see_with_pyarrow(directory):
    """A directory: whatever lies in it must be whole, or hidden."""
    dataset = pyarrow.dataset.dataset(f"{directory}/kind=MetricLogged", partitioning="hive")
    return dataset.to_table(columns=["log_offset"])["log_offset"].to_pylist()


class Writer:
    """A server that closes small files, and the events it is sent."""

    def __init__(self, directory):
        self.server = Server(directory).start()
        self.client = httpx.Client(timeout=PATIENCE)
        self.draw = random.Random(3)
        self.sent = 0

    def send(self):
        body = "".join(
            f'{{"type":"MetricLogged","name":"m{n % 7}","value":{self.draw.random()},"run":"r","step":{n}}}\n'
            for n in range(self.sent, self.sent + 2_000)
        )
        headers = {"content-type": "application/x-ndjson"}
        answer = self.client.post(f"{self.server.url}/v1/events", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        self.sent = answer.json()["end_offset"]


@pytest.mark.parametrize("kills", [0, 3], ids=["at peace", "killed now and then"])
def test_who_reads_while_files_are_written_sees_each_event_once_or_not_yet(tmp_path, monkeypatch, kills):
    monkeypatch.setenv("MODELOG_PARQUET__TARGET_FILE_BYTES", "64KiB")
    monkeypatch.setenv("MODELOG_PARQUET__MAX_DELAY", "1s")
    directory = tmp_path / "data" / "parquet"
    readers = [see_with_duckdb, see_with_polars, see_with_pyarrow]
    writer = Writer(tmp_path / "data")
    deadline = time.monotonic() + 3 * PATIENCE
    before = 0
    states = set()
    try:
        # Until files have been closed often, and readers have seen that.
        while len(states) < 12 or writer.sent < 60_000 or kills:
            assert time.monotonic() < deadline, f"{len(states)} states seen of {writer.sent} events"
            writer.send()
            if kills and len(states) >= 12 - 3 * kills:
                kills -= 1
                writer.server.kill()
                writer.server.start()
                # What was finished a moment before and not yet in the list is written again.
                before = 0
            if not list(directory.glob("kind=MetricLogged/*/*.parquet")):
                continue
            for see in readers:
                offsets = see(directory)
                # From the first on, each once, and never fewer than before.
                assert sorted(offsets) == list(range(len(offsets))), see.__name__
                assert len(offsets) >= before, see.__name__
                before = len(offsets)
                states.add(before)
    finally:
        writer.server.stop()
    for see in readers:
        assert sorted(see(directory)) == list(range(writer.sent)), "all of it, once the server has stopped"
