"""How long DuckDB takes over the predictions of a data directory: prints seconds, the median of several runs, as JSON.

    duckdb_speed.py DIR

DIR is a data directory, or the directory of its Parquet files. Nothing is kept between runs but what the system keeps
of files; the first run is not counted.
"""

import json
import random
import statistics
import sys
import time
from pathlib import Path

import duckdb

RUNS = 7

# Of event time, in UTC. DuckDB takes longer over `time::DATE`, which asks its calendar about zones.
BY_DAY = """
    SELECT model, version, make_timestamp(epoch_us(time))::DATE AS day, count(*)
    FROM '{files}' GROUP BY ALL
"""
# Of arrival: the directories' names.
BY_DATE = "SELECT model, version, date, count(*) FROM '{files}' GROUP BY ALL"
ONE = "SELECT * FROM '{files}' WHERE prediction_id = ?"


def median(run) -> float:
    run()
    took = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return round(statistics.median(took), 4)


def measure(directory: Path) -> dict:
    parquet = directory / "parquet"
    files = f"{parquet if parquet.is_dir() else directory}/kind=PredictionLogged/*/*.parquet".replace("'", "''")
    connection = duckdb.connect()

    def ask(query: str, *values):
        return connection.execute(query.format(files=files), values).fetchall()

    ((rows, count),) = ask("SELECT count(*), count(DISTINCT filename) FROM read_parquet('{files}', filename = true)")
    sample = ask("SELECT prediction_id FROM '{files}' WHERE prediction_id IS NOT NULL USING SAMPLE 1000")
    names = iter(random.Random(1).choices([name for (name,) in sample], k=RUNS + 1)) if sample else None

    def one():
        name = next(names)
        assert ask(ONE, name), f"{name} is not found"

    return {
        "duckdb": duckdb.__version__,
        "predictions": rows,
        "files": count,
        "runs": RUNS,
        "count_by_version_and_day_seconds": median(lambda: ask(BY_DAY)),
        "count_by_version_and_arrival_day_seconds": median(lambda: ask(BY_DATE)),
        "one_prediction_by_id_seconds": median(one) if names else None,
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(json.dumps(measure(Path(sys.argv[1]))))
