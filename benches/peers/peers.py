"""Modelog beside what else people log predictions and metrics with, on the same events, in one run.

Everyone is called as its documentation says, by Python, from one thread, on loopback, with its own defaults unless the row
says otherwise. Contenders take turns, each with the same events and a store of its own; figures are medians over the
rounds. What each was given is counted in its store afterwards: a row whose events are not all there is an error.

A row stops after its events or after some seconds, whichever comes first: a round is bounded whoever is slow.
"""

import argparse
import atexit
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Callable

# Before they are imported: neither tells anybody that it is used.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", AIM_UI_TELEMETRY_ENABLED="0")
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]

import redis  # noqa: E402
import requests  # noqa: E402

BATCH = 1_000
# How long a server may take to answer first.
PATIENCE = 300
MODELOG = "Modelog"
SYNCED = "yes"


def predictions(count: int, seed: int) -> list[dict]:
    """Predictions as the benchmark of the program has them: random ids and payloads."""
    chance = random.Random(seed)
    return [
        {
            "prediction_id": f"{chance.getrandbits(128):032x}",
            "model": chance.choice(["resnet50", "bert-base", "fraud-detector", "ranker"]),
            "version": chance.choice(["v1.0.0", "v1.1.0"]),
            "input": {"image": f"{chance.getrandbits(32):08x}.jpg"},
            "output": {"class": chance.randrange(1000), "scores": [chance.random(), chance.random()]},
            "predicted_class": f"class-{chance.randrange(1000)}",
            "confidence": chance.random(),
            "inference_time_ms": chance.random() * 60,
        }
        for _ in range(count)
    ]


def metrics(count: int, seed: int) -> list[tuple[str, int, float]]:
    """Name, step and value of what a training logs; the name differs by seed, since Aim keeps one value for a step."""
    chance = random.Random(seed)
    return [(f"loss-{seed}", step, chance.random()) for step in range(count)]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Process:
    """A program that is started for this run, and ended by its id with all it started."""

    def __init__(self, command: list[str], directory: Path, answers: Callable[[], bool], said: str):
        directory.mkdir(parents=True)
        self.log = directory / said
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while not answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                sys.exit(f"{command[0]} does not answer:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def answers(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            return requests.get(url, timeout=5).status_code == 200
        except requests.RequestException:
            return False

    return ask


@dataclass
class Row:
    """One way to log, with what it took in each round."""

    group: str
    what: str
    # Whether an event outlives a power loss once it is answered.
    synced: str
    way: str
    # Logs events, one or a batch of them.
    log: Callable
    logged: int = 0
    rates: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def measure(self, number: int, counts: "Counts", seconds: float) -> None:
        events = made(counts, self.group, self.way, number)
        limit = Time(seconds)
        count = (one_by_one if self.way == ONE else in_batches)(events, limit, self.log)
        self.rates.append(count / limit.passed())
        self.logged += count


class Time:
    """How long a row may go on."""

    def __init__(self, seconds: float):
        self.start = time.perf_counter()
        self.seconds = seconds

    def passed(self) -> float:
        return time.perf_counter() - self.start

    def over(self) -> bool:
        return self.passed() > self.seconds


def one_by_one(events: list, limit: Time, log: Callable) -> int:
    for count, event in enumerate(events, 1):
        log(event)
        if limit.over():
            return count
    return len(events)


def in_batches(events: list, limit: Time, log: Callable) -> int:
    done = 0
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        log(batch)
        done += len(batch)
        if limit.over():
            break
    return done


@dataclass
class Counts:
    """How many events a row has in a round."""

    single: int
    batched: int


ONE = "one by one"
BATCHES = f"{BATCH:,} a call"
PREDICTIONS, METRICS = "predictions", "metrics"


def made(counts: Counts, group: str, way: str, number: int) -> list:
    """The events of a round, the same for everyone; made before its time begins."""
    make = predictions if group == PREDICTIONS else metrics
    # What is logged one by one and what is logged in batches may lie in one store, and must not be the same there.
    return make(counts.single, 2 * number) if way == ONE else make(counts.batched, 2 * number + 1)


class Modelog:
    name = MODELOG

    def __init__(self, stack: ExitStack, directory: Path):
        program = os.environ["MODELOG_BIN"]
        self.version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()[-1]
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [program, "serve", "--data", str(directory / "data"), "--listen", self.url.removeprefix("http://")]
        server = Process(command, directory, answers(f"{self.url}/healthz"), "modelog.log")
        stack.callback(server.stop)
        self.session = requests.Session()
        stack.callback(self.session.close)
        self.rows = [self.row(group, way) for group in (PREDICTIONS, METRICS) for way in (ONE, BATCHES)]

    def post(self, body: str, media_type: str) -> None:
        answer = self.session.post(f"{self.url}/v1/events", data=body, headers={"content-type": media_type})
        if answer.status_code != 200:
            sys.exit(f"Modelog answered {answer.status_code}: {answer.text}")

    def row(self, group: str, way: str) -> Row:
        def event(given) -> dict:
            if group == PREDICTIONS:
                return {"type": "PredictionLogged", **given}
            name, step, value = given
            return {"type": "MetricLogged", "run": way, "name": name, "step": step, "value": value}

        def single(given) -> None:
            self.post(json.dumps(event(given)), "application/json")

        def batch(given) -> None:
            self.post("".join(json.dumps(event(some)) + "\n" for some in given), "application/x-ndjson")

        return Row(group, f"{MODELOG}, HTTP, {way}", SYNCED, way, single if way == ONE else batch)

    def stored(self) -> int:
        """What SQLite has too, which follows."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            (sql,) = [one for one in self.get("/v1/projections")["items"] if one["name"] == "sql"]
            if sql["lag_events"] == 0:
                break
            time.sleep(0.1)
        return self.get("/v1/stats")["events"]

    def get(self, path: str) -> dict:
        return self.session.get(f"{self.url}{path}").json()


class Redis:
    """What people build with redis-py: a counter, a hash for each prediction, a sorted set by time."""

    COUNT, BY_TIME = "prediction:count", "prediction:by_time"

    def __init__(self, stack: ExitStack, directory: Path, synced: bool):
        port = free_port()
        self.how = "appendfsync always" if synced else "its defaults"
        self.name = f"Redis with {self.how}"
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
        if synced:
            command += ["--appendonly", "yes", "--appendfsync", "always"]
        self.client = redis.Redis(port=port)

        def ask() -> bool:
            try:
                return self.client.ping()
            except redis.ConnectionError:
                return False

        server = Process(command, directory, ask, "redis.log")
        stack.callback(server.stop)
        stack.callback(self.client.close)
        self.version = self.client.info("server")["redis_version"]
        kept = SYNCED if synced else "no"
        self.rows = [
            Row(PREDICTIONS, self.what(ONE), kept, ONE, lambda given: self.log(self.client, given)),
            Row(PREDICTIONS, self.what(f"pipelined, {BATCHES}"), kept, BATCHES, self.batch),
        ]

    def what(self, way: str) -> str:
        return f"redis-py INCR + HSET + ZADD, {self.how}, {way}"

    def log(self, to, prediction: dict) -> None:
        given = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in prediction.items()}
        to.incr(self.COUNT)
        to.hset(f"prediction:{prediction['prediction_id']}", mapping=given)
        to.zadd(self.BY_TIME, {prediction["prediction_id"]: time.time()})

    def batch(self, given: list[dict]) -> None:
        with self.client.pipeline(transaction=False) as pipeline:
            for prediction in given:
                self.log(pipeline, prediction)
            pipeline.execute()

    def stored(self) -> int:
        found = {int(self.client.get(self.COUNT)), self.client.zcard(self.BY_TIME), self.client.dbsize() - 2}
        if len(found) != 1:
            sys.exit(f"{self.name} counts {found}")
        return found.pop()


class MLflow:
    name = "MLflow"

    def __init__(self, stack: ExitStack, directory: Path):
        from mlflow import MlflowClient

        port = free_port()
        self.version = version("mlflow")
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
        command += ["--artifacts-destination", str(directory / "artifacts")]
        server = Process(command, directory, answers(f"http://127.0.0.1:{port}/health"), "mlflow.log")
        stack.callback(server.stop)
        self.client = MlflowClient(f"http://127.0.0.1:{port}")
        experiment = self.client.create_experiment("peers")
        self.runs = {way: self.client.create_run(experiment).info.run_id for way in (ONE, BATCHES)}
        what = "MLflow server on SQLite"
        self.rows = [
            Row(METRICS, f"{what}, log_metric, {ONE}", SYNCED, ONE, self.single),
            Row(METRICS, f"{what}, log_batch, {BATCHES}", SYNCED, BATCHES, self.batch),
        ]

    def single(self, given) -> None:
        name, step, value = given
        self.client.log_metric(self.runs[ONE], name, value, step=step)

    def batch(self, given) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        some = [Metric(name, value, now, step) for name, step, value in given]
        self.client.log_batch(self.runs[BATCHES], metrics=some)

    def stored(self) -> int:
        return sum(
            len(self.client.get_metric_history(run, name))
            for run in self.runs.values()
            for name in self.client.get_run(run).data.metrics
        )


class Aim:
    name = "Aim"

    def __init__(self, stack: ExitStack, directory: Path):
        from aim import Run

        directory.mkdir(parents=True)
        self.version = version("aim")
        self.run = Run(
            repo=str(directory),
            system_tracking_interval=None,
            log_system_params=False,
            capture_terminal_logs=False,
        )
        stack.callback(self.run.close)
        # It has no call for several steps of a metric.
        self.rows = [Row(METRICS, f"Aim Run.track into a local repository, {ONE}", "no", ONE, self.track)]

    def track(self, given) -> None:
        name, step, value = given
        self.run.track(value, name=name, step=step)

    def stored(self) -> int:
        return sum(len(metric.values.sparse_list()[0]) for metric in self.run.metrics())


def measure(directory: Path, quick: bool) -> tuple[list[Row], dict[str, str]]:
    rounds, seconds = (1, 3.0) if quick else (3, 10.0)
    counts = Counts(200, 5_000) if quick else Counts(3_000, 100_000)
    with ExitStack() as stack:
        modelog = Modelog(stack, directory / "modelog")
        volatile = Redis(stack, directory / "redis", synced=False)
        synced = Redis(stack, directory / "redis-synced", synced=True)
        mlflow = MLflow(stack, directory / "mlflow")
        aim = Aim(stack, directory / "aim")
        contenders = [modelog, volatile, synced, mlflow, aim]
        rows = [row for contender in contenders for row in contender.rows]
        for number in range(rounds):
            for row in rows:
                print(f"round {number + 1}: {row.group}, {row.what}", file=sys.stderr)
                row.measure(number, counts, seconds)
        for contender in contenders:
            logged, found = sum(row.logged for row in contender.rows), contender.stored()
            if found != logged:
                sys.exit(f"{contender.name}: {found} of {logged} events are stored")
        versions = {
            "Modelog": modelog.version,
            "Redis": volatile.version,
            "redis-py": version("redis"),
            "MLflow": mlflow.version,
            "Aim": aim.version,
            "Python": platform.python_version(),
        }
    return rows, versions


def ratios(rows: list[Row]) -> list[dict]:
    """Each row with how many times as fast Modelog is, called the same way."""

    ours = {(row.group, row.way): row.rate for row in rows if row.what.startswith(MODELOG)}
    return [
        {
            "events": row.group,
            "what": row.what,
            "way": row.way,
            "outlives a power loss": row.synced,
            "events_per_second": row.rate,
            "least": min(row.rates),
            "greatest": max(row.rates),
            "modelog_is_times_as_fast": ours[row.group, row.way] / row.rate,
        }
        for row in rows
    ]


def table(found: list[dict], versions: dict[str, str]) -> str:
    lines = [
        "| events | how they are logged | outlive a power loss | events/s | (range) | Modelog, called the same way |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(found, key=lambda row: (row["events"] != PREDICTIONS, row["way"] != ONE)):
        ratio = row["modelog_is_times_as_fast"]
        said = "" if row["what"].startswith(MODELOG) else f"{ratio:,.2f} ×" + (" **(slower)**" if ratio < 1 else "")
        lines.append(
            f"| {row['events']} | {row['what']} | {row['outlives a power loss']} | {row['events_per_second']:,.0f} "
            f"| {row['least']:,.0f}–{row['greatest']:,.0f} | {said} |"
        )
    said = ", ".join(f"{name} {number}" for name, number in versions.items())
    load = os.getloadavg()
    lines += ["", f"{said}. {os.cpu_count()} cores; load {load[0]:.1f} (1 min), {load[1]:.1f} (5 min)."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    parser.add_argument("--dir", type=Path, default=Path("."), help="where data is kept meanwhile: the disk measured")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="modelog-peers-", dir=arguments.dir)).absolute()
    # At the very end, since Aim writes to its repository when the program exits: what was registered first is done last.
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    rows, versions = measure(directory, arguments.quick)
    found = ratios(rows)
    if arguments.format == "json":
        print(json.dumps({"rows": found, "versions": versions}, indent=1))
    else:
        print(table(found, versions))


if __name__ == "__main__":
    main()
