"""The benchmark runs and prints every row beside its limit. What it measures here is not judged: machines differ."""

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import binary
from parquet_support import FULL

QUICK = (
    "NDJSON → durable",
    "Arrow → durable",
    "over HTTP",
    "GET of 100",
    "GET of a 1,000",
    "memory of the server",
    "log → verified Parquet",
    "the compactor at work",
    "size as Parquet",
    "Parquet, in process, into nothing",
    "Parquet into SQLite",
    "backup of 1 % new",
    "memory of a server replaying",
)


def bench(directory: Path, *arguments: str) -> list[dict]:
    # The Python that has what the tests need, DuckDB among it, is the first that is found.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [binary(), "bench", *arguments, "--dir", str(directory), "--format", "json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert not list(directory.iterdir()), "it cleans up"
    return json.loads(done.stdout)["rows"]


def test_every_row_is_there(tmp_path):
    names = " | ".join(row["what"] for row in bench(tmp_path, "--quick"))
    for part in QUICK:
        assert part in names, names
    assert "DuckDB" not in names


@FULL
def test_the_full_one_asks_duckdb_about_twenty_million_predictions(tmp_path):
    rows = {row["what"]: row for row in bench(tmp_path, "--full")}
    print(json.dumps(rows, indent=1, ensure_ascii=False))
    (count,) = (row for what, row in rows.items() if "count by version and day" in what)
    (one,) = (row for what, row in rows.items() if "one prediction by id" in what)
    assert "20 M predictions" in count["what"]
    assert (count["mark"], one["mark"]) == ({"at_most": 0.5}, {"at_most": 0.3})


def test_a_python_without_duckdb_is_told_before_anything_is_measured(tmp_path):
    lacking = tmp_path / "python3"
    lacking.write_text("#!/bin/sh\necho no module named duckdb >&2\nexit 1\n")
    lacking.chmod(0o755)
    done = subprocess.run(
        [binary(), "bench", "--full", "--dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.returncode != 0
    assert "pip install duckdb" in done.stderr and "no module named duckdb" in done.stderr, done.stderr
