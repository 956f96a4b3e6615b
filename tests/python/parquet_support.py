"""What the tests on Parquet share: histories made by the real program, and tools in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TARGET, binary, ndjson

# Versions that people still have, beside the one among the tests' requirements.
POLARS = ["Polars 1.41.2", "Polars 1.30.0"]
# Only in tests/run --full.
FULL = pytest.mark.full
SPARK = "pyspark-4.3.0"


def tool(name: str, *arguments: str, cwd: Path, zone: str = "UTC") -> dict:
    """What `parquet_tools.py` prints, in the version of the tool that the name says."""
    name, _, version = name.partition(" ")
    environment = {**os.environ, "TZ": zone}
    if version or name == "Spark":
        beside = TARGET / f"tests-python-{SPARK if name == 'Spark' else f'{name.lower()}-{version}'}"
        assert beside.exists(), f"{beside} is missing: tests/run --install brings it"
        environment["PYTHONPATH"] = str(beside)
    command, *rest = arguments
    program = str(Path(__file__).with_name("parquet_tools.py"))
    done = subprocess.run(
        [sys.executable, program, command, name, *rest], capture_output=True, text=True, cwd=cwd, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def modelog(directory: Path, command: str, *arguments: str, now: str | None = None, **options) -> str:
    """Runs a command on `modelog-data` in a directory, at another time if one is given."""
    clock = ["faketime", "-f", f"@{now}"] if now else []
    done = subprocess.run(
        [*clock, binary(), command, "--data", str(directory / "modelog-data"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": "UTC"},
        **options,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def import_events(directory: Path, events: list[dict], now: str | None = None) -> None:
    modelog(directory, "import", "-", now=now, input=ndjson(*events))


def compact(directory: Path, now: str | None = None) -> None:
    modelog(directory, "compact", now=now)
