"""Modelog beside Kafka Connect, and beside what people write themselves: one topic of one broker, in turns, in one run.

The topic has predictions, one in a message, in four partitions, compressed with LZ4.

Into PostgreSQL: `modelog serve`, a worker of Kafka Connect with Debezium's JDBC sink, and a consumer in Python, in turns.
Into streams of Redis: `modelog serve` with its defaults, which are SQLite and Parquet too, and a consumer in Python, in turns.
Into Parquet: the topic gets more predictions, and `modelog bench --kafka` reads it. Then a worker with Apache Iceberg's sink
writes it into a table; rows count when they are committed. At last the worker is killed with -9 in mid-load and started again.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from measure import WARM, Row, measure, table, watched
from servers import Process, make_topic, start_broker
from stores import BINARY, compared_postgres, compared_redis, to_postgres, to_redis
from worker import Iceberg

PARTS = ["postgres", "redis", "parquet"]
TOPIC = "predictions"
ICEBERG = "Connect, Iceberg's sink"


def predictions():
    """Lines as the benchmark of the program has them, without end: random ids and payloads."""
    chance = random.Random(6)
    while True:
        share = [chance.randrange(10_000) / 10_000 for _ in range(3)]
        number = chance.randrange(1_000)
        yield (
            f'{{"type":"PredictionLogged","prediction_id":"{chance.getrandbits(128):032x}",'
            f'"model":"{chance.choice(["resnet50", "bert-base", "fraud-detector", "ranker"])}",'
            f'"version":"{chance.choice(["v1.0.0", "v1.1.0"])}",'
            f'"input":{{"image":"{chance.getrandbits(32):08x}.jpg"}},'
            f'"output":{{"class":{number},"scores":[{share[0]},{share[1]}]}},'
            f'"predicted_class":"class-{number}","confidence":{share[0]},"inference_time_ms":{share[2] * 60:.2f}}}\n'
        )


def fill(address: str, events, messages: int) -> None:
    """Puts the next so many into the topic."""
    send = [BINARY, "produce", "-", "--format", "ndjson", "--compression", "lz4"]
    send += ["--brokers", address, "--topic", TOPIC]
    with subprocess.Popen(send, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as producing:
        producing.stdin.writelines(islice(events, messages))
    if producing.returncode:
        sys.exit("events could not be sent")


def bench(address: str, quick: bool, directory: Path) -> dict:
    command = [BINARY, "bench", "--kafka", address, "--topic", TOPIC, "--format", "json", "--dir", str(directory)]
    done = subprocess.run([*command, *(["--quick"] if quick else [])], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def measure_iceberg(address: str, messages: int, directory: Path) -> dict:
    worker = Iceberg(address, TOPIC, directory, "connect")
    figures = measure(worker.process, worker.rows, messages, WARM)
    worker.process.end()
    return figures


def kill_iceberg(address: str, messages: int, directory: Path) -> dict:
    """From its restart to the next rows."""
    worker = Iceberg(address, TOPIC, directory, "killed")
    watched(worker.process, worker.rows, lambda rows: rows >= WARM * messages, lambda now, rows: None)
    worker.process.end(signal.SIGKILL)
    before = worker.rows()
    started = time.monotonic()
    worker.start()
    more = []
    watched(worker.process, worker.rows, lambda rows: rows > before, lambda now, rows: more.append(now))
    worker.process.end()
    return {"seconds": more[-1] - started, "rows_before": before}


def figure(report: dict, what: str, after: str = "") -> float:
    """That of a row, the first of that name behind another."""
    names = [row["what"] for row in report["rows"]]
    start = next(number for number, name in enumerate(names) if name.startswith(after))
    found = next(row for row in report["rows"][start:] if row["what"].startswith(what))
    return found["figure"]["median"]


def compared_parquet(report: dict, connect: dict, killed: dict) -> list[Row]:
    """Rows of both, and the ratio that is asked for."""
    parquet = "Kafka → verified Parquet"
    rows = [
        ("Kafka → Parquet, events/s", figure(report, parquet), connect["events_per_second"], "≥ 3 ×"),
        ("CPU seconds a million", figure(report, "  CPU time", parquet), connect["cpu_seconds_per_million"], "≤ 1/3"),
        (
            "resident anonymous memory, MiB",
            figure(report, "  memory meanwhile", parquet),
            connect["anonymous_mib"],
            "≤ 1/5",
        ),
        (
            "killed with -9: from restart to the next events, s",
            figure(report, "killed with -9"),
            killed["seconds"],
            "≤ 3 s",
        ),
    ]
    return [Row(what, [ours], {ICEBERG: [theirs]}, {ICEBERG: asked}) for what, ours, theirs, asked in rows]


def printed(report: dict) -> None:
    for it in report["rows"]:
        of, limit = it["figure"], it["limit"]
        beside = f", {limit['figure']['median']:,.6g} {limit['what']}: {limit['ratio']:.2f}" if limit else ""
        spread = f"({of['least']:,.6g}–{of['greatest']:,.6g})"
        print(f"{it['what']}: {of['median']:,.6g} {it['unit']} {spread}{beside}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be given again")
    parser.add_argument("--rounds", type=int, help="how often each program fills PostgreSQL and Redis [3; a look: 1]")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    parser.add_argument("--dir", type=Path, default=Path("."), help="where data is kept meanwhile: the disk measured")
    arguments = parser.parse_args()
    quick, parts = arguments.quick, arguments.only or PARTS
    rounds = arguments.rounds or (1 if quick else 3)
    messages = 500_000 if quick else 1_000_000
    # Iceberg's sink commits every ten seconds: fewer would be one commit.
    messages_parquet = 2_000_000 if quick else 4_000_000
    directory = Path(tempfile.mkdtemp(prefix="modelog-peers-", dir=arguments.dir)).absolute()
    # PostgreSQL's user has to get to its own.
    directory.chmod(0o711)
    measured = {}
    # Asked to stop, it stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def report(part: str, found, rows: list[Row]) -> None:
        measured[part] = {"rows": [asdict(row) for row in rows], "measured": found}
        if arguments.format == "table":
            print(f"{table(rows)}\n", flush=True)

    try:
        address = start_broker(directory / "broker")
        make_topic(address, TOPIC)
        events = predictions()
        if parts != ["parquet"]:
            fill(address, events, messages)
        if "postgres" in parts:
            found = to_postgres(address, TOPIC, messages, rounds, directory)
            report("postgres", found, compared_postgres(found))
        if "redis" in parts:
            found = to_redis(address, TOPIC, messages, rounds, directory)
            report("redis", found, compared_redis(found))
        if "parquet" in parts:
            fill(address, events, messages_parquet - (messages if parts != ["parquet"] else 0))
            benched = bench(address, quick, directory / "modelog")
            connect = measure_iceberg(address, messages_parquet, directory)
            killed = kill_iceberg(address, messages_parquet, directory)
            if arguments.format == "table":
                printed(benched)
            found = {"bench": benched, "connect": connect, "killed": killed}
            report("parquet", found, compared_parquet(benched, connect, killed))
        if arguments.format == "json":
            print(json.dumps(measured, indent=1))
    finally:
        for process in reversed(Process.started):
            process.end()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
