"""The recipes of docs/parquet.md, run as they are written, by every tool, on files that Modelog wrote."""

import re
import subprocess

import pytest

import parquet_history
from conftest import ROOT, binary
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
    by_name = {}
    for row in rows:
        by_name.setdefault(row["prediction_id"], []).append(row)
    assert any(len(found) == 2 for found in by_name.values()), "an id under two models"
    assert any(not row["complete"] for row in rows), "a request without a response"
    assert any(row["prediction_id"] == str(row["log_offset"]) for row in rows), "a prediction without an id"
    assert len(rows) < sum(event["type"] == "PredictionLogged" for _, event in log), "repeats"
    labels = [event for _, event in log if event["type"] == "FeedbackLogged"]
    assert {"model" in label for label in labels} == {True, False}
    assert any(row["correct"] == (row["predicted_class"] != row["true_class"]) for row in rows if row["true_class"] is not None)
    late = [row for row in rows if row["feedback_time"] is not None]
    assert any(
        label["prediction_id"] == row["prediction_id"] and label["time"] < row["feedback_time"] and offset > row["log_offset"]
        for row in late
        for offset, label in log
        if label["type"] == "FeedbackLogged"
    ), "feedback that was overtaken"


def test_the_page_and_the_api_count_alike(history):
    """The recipes and the server are two implementations of the same meaning."""
    from conftest import Server, caught_up

    directory, log = history
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
    for model, version in {(event["model"], event["version"]) for _, event in log if event["type"] == "PredictionLogged"}:
        count = sum(
            event["type"] == "PredictionLogged" and (event["model"], event["version"]) == (model, version)
            for _, event in log
        )
        assert re.search(rf"\b{model}\b.*\b{version}\b.*\b{count}\b", said), said


def test_the_line_that_the_demo_prints_runs_as_it_is_printed(tmp_path):
    done = subprocess.run(
        [binary(), "demo", "--data", str(tmp_path / "demo")], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    lines = re.findall(r"^\s*(duckdb -c .*)$", done.stdout, re.M)
    assert len(lines) == 1, done.stdout
    said = shell(lines[0], tmp_path)
    assert re.search(r"\bv1\b.*\b901\b", said) and re.search(r"\bv2\b.*\b901\b", said), said


def shell(line: str, directory) -> str:
    """Runs a line in a shell that has DuckDB's own program."""
    import os
    import sys
    from pathlib import Path

    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        cwd=directory,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout
