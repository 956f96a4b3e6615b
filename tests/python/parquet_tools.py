"""The tools of docs/parquet.md, each in a process of its own, so that it may be of another version than the tests have.

    parquet_tools.py recipes TOOL        what the page's recipes answer, run as they are written
    parquet_tools.py read TOOL           every kind: the columns' types and all rows
    parquet_tools.py prune TOOL KIND DAY…
                                         for each day: its rows of a kind, and how many of how many files were read

They expect `modelog-data` in the current directory and print JSON.
"""

import base64
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from datetime import date, datetime, timezone
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parquet.md"
PARQUET = Path("modelog-data") / "parquet"
LANGUAGES = {"DuckDB": "sql", "Polars": "python", "pandas": "python", "Spark": "python"}
# In the order of the page, behind the block that each tool starts with.
QUESTIONS = ["drift", "slowest", "accuracy", "curves", "wrong"]


def blocks(tool: str) -> list[str]:
    found = re.findall(rf"^\*\*{tool}\*\*\n\n```{LANGUAGES[tool]}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert len(found) == 1 + len(QUESTIONS), f"{tool}: {len(found)} blocks"
    return found


def plain(value):
    """A value as JSON has it: times as microseconds since 1970, bytes as base64, what is not finite as text."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, datetime):
        assert value.tzinfo is not None, f"{value} has no zone"
        since = value - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if isinstance(value, date):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    return value


def rows(answer) -> list[dict]:
    module = type(answer).__module__
    if module.startswith("polars"):
        found = answer.to_dicts()
    elif module.startswith("pandas"):
        found = answer.to_dict("records")
    elif module.startswith("pyarrow"):
        found = answer.to_pylist()
    elif "duckdb" in module:
        found = [dict(zip(answer.columns, row)) for row in answer.fetchall()]
    else:
        found = [row.asDict() for row in with_times_as_numbers(answer).collect()]
    return [{name: plain(value) for name, value in row.items()} for row in found]


def with_times_as_numbers(answer):
    """Spark hands times to Python in the machine's zone, without saying so; numbers have none."""
    from pyspark.sql.functions import col, unix_micros

    times = [name for name, kind in answer.dtypes if kind == "timestamp"]
    return answer.withColumns({name: unix_micros(col(name)) for name in times})


def spark_session():
    from pyspark.sql import SparkSession

    quick = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2", "spark.sql.adaptive.enabled": "false"}
    builder = SparkSession.builder.master("local[2]").config(map=quick)
    return builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()


def recipes(tool: str) -> dict[str, list[dict]]:
    start, *questions = blocks(tool)
    if tool == "DuckDB":
        import duckdb

        connection = duckdb.connect()
        connection.execute(start)
        return {question: rows(connection.sql(block)) for question, block in zip(QUESTIONS, questions)}
    if tool == "Spark":
        # The page's own `getOrCreate` gets this session.
        spark_session()
    names: dict = {}
    answers = {}
    exec(compile(start, f"{tool}, start", "exec"), names)
    for question, block in zip(QUESTIONS, questions):
        exec(compile(block, f"{tool}, {question}", "exec"), names)
        answers[question] = rows(names[question])
    return answers


def glob_of(kind: str) -> str:
    return f"{PARQUET}/kind={kind}/*/*.parquet"


def read(tool: str) -> dict[str, dict]:
    kinds = sorted(path.name.removeprefix("kind=") for path in PARQUET.glob("kind=*"))
    return {kind: READERS[tool](kind) for kind in kinds}


def read_duckdb(kind: str) -> dict:
    import duckdb

    found = duckdb.sql(f"FROM read_parquet('{glob_of(kind)}', hive_partitioning = true) ORDER BY log_offset")
    return {"types": dict(zip(found.columns, map(str, found.types))), "rows": rows(found)}


def read_polars(kind: str) -> dict:
    import polars as pl

    found = pl.scan_parquet(glob_of(kind), hive_partitioning=True).collect()
    return {"types": {name: str(kind) for name, kind in found.schema.items()}, "rows": rows(found)}


def read_pandas(kind: str) -> dict:
    import pandas as pd

    # A directory, not a glob: files that are not finished lie in it too.
    found = pd.read_parquet(PARQUET / f"kind={kind}", dtype_backend="pyarrow")
    return {"types": {name: str(kind) for name, kind in found.dtypes.items()}, "rows": rows(found)}


def read_pyarrow(kind: str) -> dict:
    import pyarrow.dataset

    found = pyarrow.dataset.dataset(PARQUET / f"kind={kind}", partitioning="hive").to_table()
    return {"types": {field.name: str(field.type) for field in found.schema}, "rows": rows(found)}


def read_spark(kind: str) -> dict:
    found = spark_session().read.parquet(f"{PARQUET}/kind={kind}").orderBy("log_offset")
    return {"types": dict(found.dtypes), "rows": rows(found)}


READERS = {
    "DuckDB": read_duckdb,
    "Polars": read_polars,
    "pandas": read_pandas,
    "pyarrow": read_pyarrow,
    "Spark": read_spark,
}


def prune(tool: str, kind: str, *days: str) -> dict:
    told = {}
    for day in days:
        count, files = PRUNERS[tool](kind, day)
        told[day] = {"rows": count, "files": files}
    return told


def prune_duckdb(kind: str, day: str):
    import duckdb

    # What no statistics answer.
    files = f"read_parquet('{glob_of(kind)}', hive_partitioning = true)"
    query = f"SELECT count(DISTINCT log_offset) FROM {files} WHERE date = DATE '{day}'"
    ((_, plan),) = duckdb.sql(f"EXPLAIN (ANALYZE, FORMAT json) {query}").fetchall()
    (of,) = re.findall(r'"Scanning Files": "(\d+/\d+)"', plan)
    ((count,),) = duckdb.sql(query).fetchall()
    return count, of


def prune_polars(kind: str, day: str):
    """What Polars tells of itself: old versions leave files out only while they run."""
    import polars as pl

    found = pl.scan_parquet(glob_of(kind), hive_partitioning=True).filter(pl.col("date") == date.fromisoformat(day))
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            os.environ["POLARS_VERBOSE"] = "1"
            pl.Config.set_verbose(True)
            count = found.select(pl.len(), pl.col("time").max()).collect()["len"].item()
        finally:
            os.dup2(kept, 2)
        said.seek(0)
        told = said.read().decode()
    skipped, all_files = map(int, re.findall(r"allows skipping (\d+) / (\d+) files", told)[-1])
    return count, f"{all_files - skipped}/{all_files}"


def prune_pyarrow(kind: str, day: str):
    import pyarrow.dataset as ds

    dataset = ds.dataset(PARQUET / f"kind={kind}", partitioning="hive")
    one = ds.field("date") == day
    return dataset.count_rows(
        filter=one
    ), f"{len(list(dataset.get_fragments(one)))}/{len(list(dataset.get_fragments()))}"


def prune_spark(kind: str, day: str):
    frame = spark_session().read.parquet(f"{PARQUET}/kind={kind}")
    one = frame.where(f"date = DATE '{day}'").select("log_offset")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        one.explain("formatted")
    assert re.search(rf"PartitionFilters: .*{day}", said.getvalue()), said.getvalue()
    execution = one._jdf.queryExecution()
    count = execution.executedPlan().executeCollectPublic().__len__()
    leaf = execution.executedPlan().collectLeaves().head()
    return count, f"{leaf.metrics().get('numFiles').get().value()}/{len(frame.inputFiles())}"


PRUNERS = {"DuckDB": prune_duckdb, "Polars": prune_polars, "pyarrow": prune_pyarrow, "Spark": prune_spark}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        told = {"recipes": recipes, "read": read, "prune": prune}[command](*arguments)
    json.dump(told, sys.stdout)
