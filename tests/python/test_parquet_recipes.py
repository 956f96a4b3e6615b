"""The recipes of docs/parquet.md, run as they are written, by every tool, on files that Modelog wrote."""

import os
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import parquet_history
from conftest import ROOT, Server, binary, caught_up
from parquet_support import FULL, POLARS, compact, import_events, tool

TOOLS = ["DuckDB", "Polars", *POLARS, "pandas", pytest.param("Spark", marks=FULL)]


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A directory with `modelog-data` in it, several files per kind, and the events in the order of the log."""
    directory = tmp_path_factory.mktemp("recipes")
    events = parquet_history.events()
    third = len(events) // 3
    for part in (events[:third], events[third : 2 * third], events[2 * third :]):
        import_events(directory, part)
        compact(directory)
    return directory, list(enumerate(events))


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_gives_the_answers_that_the_events_mean(history, name):
    directory, log = history
    expected = parquet_history.answers(log)
    # A zone in which days are others, so that no recipe leans on the machine's.
    told = tool(name, "recipes", cwd=directory, zone="America/New_York")
    assert told.keys() == expected.keys()
    for question, rows in expected.items():
        assert rows, question
        assert len(told[question]) == len(rows), question
        for row, wanted in zip(told[question], rows):
            assert_same(row, wanted, question)


def assert_same(row: dict, wanted: dict, question: str):
    assert row.keys() == wanted.keys(), question
    for field, value in wanted.items():
        if isinstance(value, float) and value - value == 0:
            assert row[field] == pytest.approx(value, rel=1e-9, abs=1e-12), (question, field, row, wanted)
        elif isinstance(value, float):
            assert row[field] == str(value), (question, field, row, wanted)
        else:
            assert row[field] == value and type(row[field]) is type(value), (question, field, row, wanted)


def test_the_answers_are_not_easy():
    """What makes the questions hard is in the history: else a recipe that forgets it would pass."""
    log = list(enumerate(parquet_history.events()))
    rows = parquet_history.judged(log)
    names = [row["prediction_id"] for row in rows]
    labels = [(offset, event) for offset, event in log if event["type"] == "FeedbackLogged"]

    def contradicts(row):
        return row["true_class"] is not None and row["correct"] == (row["predicted_class"] != row["true_class"])

    def overtaken(row):
        """An earlier time that came later."""
        own = [label for label in labels if label[1]["prediction_id"] == row["prediction_id"]]
        return any(a < b and one["time"] > other["time"] for a, one in own for b, other in own)

    hard = {
        "an id under two models": len(names) > len(set(names)),
        "a request without a response": any(not row["complete"] for row in rows),
        "a prediction without an id": any(row["prediction_id"] == str(row["log_offset"]) for row in rows),
        "repeats": len(rows) < sum(event["type"] == "PredictionLogged" for _, event in log),
        "feedback with and without a model": {"model" in label for _, label in labels} == {True, False},
        "feedback that says other than the classes": any(map(contradicts, rows)),
        "feedback that was overtaken": any(map(overtaken, rows)),
        "feedback on nothing": any(label["prediction_id"] not in names for _, label in labels),
    }
    assert all(hard.values()), hard


def test_the_page_and_the_api_count_alike(history):
    """The recipes and the server are two implementations of the same meaning."""
    directory, _ = history
    server = Server(directory / "modelog-data").start()
    try:
        caught_up(server)
        for row in tool("DuckDB", "recipes", cwd=directory)["accuracy"]:
            # A stretch of time is counted from the predictions in it, like the recipe's rows.
            stats = server.json(
                f"/v1/models/{row['model']}/versions/{row['version']}/stats", params={"since": "2000-01-01T00:00:00Z"}
            )
            assert stats["predictions"] == row["predictions"]
            assert stats["labelled"] == row["labelled"]
            assert stats["accuracy"] == pytest.approx(row["accuracy"])
            assert stats["mean_absolute_error"] == pytest.approx(row["mean_absolute_error"])
    finally:
        server.stop()


def test_the_first_line_of_the_page(history):
    directory, log = history
    (line,) = re.findall(r"^```sh\n(duckdb .*)\n```$", (ROOT / "docs" / "parquet.md").read_text(), re.M)
    said = shell(line, directory)
    logged = Counter((event["model"], event["version"]) for _, event in log if event["type"] == "PredictionLogged")
    for (model, version), count in logged.items():
        assert re.search(rf"\b{model}\b.*\b{version}\b.*\b{count}\b", said), said


def test_the_export_of_the_page(history):
    directory, log = history
    (example,) = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "docs" / "parquet.md").read_text(), re.M | re.S)
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "modelog").symlink_to(binary())
    shell(example, directory)
    days = [parquet_history.micros(datetime(2026, 11, day, tzinfo=timezone.utc)) for day in (17, 19)]
    wanted = [o for o, event in log if event["type"] == "PredictionLogged" and days[0] <= event["time"] < days[1]]
    assert wanted
    assert pq.read_table(directory / "two-days.parquet")["log_offset"].to_pylist() == wanted


def test_what_the_demo_prints_for_duckdb_runs_as_it_is_printed(tmp_path):
    done = subprocess.run(
        [binary(), "demo", "--data", str(tmp_path / "demo")], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    commands = re.findall(r"^\s*(duckdb -c \".*?\")$", done.stdout, re.M | re.S)
    assert len(commands) == 1, done.stdout
    said = shell(commands[0], tmp_path)
    assert re.search(r"\bv1\b.*\b901\b", said) and re.search(r"\bv2\b.*\b901\b", said), said


def shell(line: str, directory) -> str:
    """Runs lines in a shell that has DuckDB's own program."""
    path = f"{Path(sys.executable).parent}:{directory / 'programs'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        cwd=directory,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout
