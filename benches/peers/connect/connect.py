"""Modelog beside Kafka Connect with Apache Iceberg's sink: the same topic of the same broker, one after the other, in one run.

The topic has predictions, one in a message, in four partitions, compressed with LZ4. `modelog bench --kafka` reads it first.
Then a worker of Kafka Connect, with the heap and the collector of its own start script and two tasks, writes it into an Iceberg
table of Parquet files with zstd, as the sink does by itself; rows count when they are committed. At last the worker is killed
with -9 in mid-load and started again.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BINARY = os.environ["MODELOG_BIN"]
# How long the broker may take to answer, and the worker to bring something.
PATIENCE = 180
PARTITIONS = 4
TASKS = 2
# Start-up is not counted: figures are those from this share of the messages on.
FROM = 0.3
TABLE = "peers.predictions"

# What an event is, as Connect's JSON converter wants to be told.
SCHEMA = {
    "type": "struct",
    "optional": False,
    "fields": [
        {"field": "type", "type": "string", "optional": True},
        {"field": "prediction_id", "type": "string", "optional": True},
        {"field": "model", "type": "string", "optional": True},
        {"field": "version", "type": "string", "optional": True},
        {
            "field": "input",
            "type": "struct",
            "optional": True,
            "fields": [{"field": "image", "type": "string", "optional": True}],
        },
        {
            "field": "output",
            "type": "struct",
            "optional": True,
            "fields": [
                {"field": "class", "type": "int64", "optional": True},
                {
                    "field": "scores",
                    "type": "array",
                    "optional": True,
                    "items": {"type": "double", "optional": True},
                },
            ],
        },
        {"field": "predicted_class", "type": "string", "optional": True},
        {"field": "confidence", "type": "double", "optional": True},
        {"field": "inference_time_ms", "type": "double", "optional": True},
    ],
}


def predictions(count: int):
    """Lines as the benchmark of the program has them: random ids and payloads."""
    chance = random.Random(6)
    for _ in range(count):
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program of this run; it does not outlive it."""

    started: list["Process"] = []

    def __init__(self, command: list[str], directory: Path):
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "said"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        Process.started.append(self)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def anonymous_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon:"))

    def must_live(self) -> None:
        if self.process.poll() is not None:
            sys.exit(f"{self.process.args[0]} ended:\n{self.log.read_text()[-5000:]}")

    def end(self, sign: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(sign)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_broker(directory: Path) -> str:
    """A node of Apache Kafka with its defaults, in KRaft mode."""
    directory.mkdir()
    port, controller = free_port(), free_port()
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(directory / "data"),
        "num.partitions": str(PARTITIONS),
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
    }
    written = directory / "server.properties"
    written.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    java = ["java", "-Xms1G", "-Xmx1G", "-cp", f"{os.environ['MODELOG_KAFKA_JARS']}/*"]
    tool = [*java, "kafka.tools.StorageTool"]
    cluster = subprocess.run([*tool, "random-uuid"], capture_output=True, text=True, check=True).stdout.split()[-1]
    subprocess.run([*tool, "format", f"--cluster-id={cluster}", "-c", str(written)], capture_output=True, check=True)
    broker = Process([*java, "kafka.Kafka", str(written)], directory)
    address = f"127.0.0.1:{port}"
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["kcat", "-L", "-m", "2", "-b", address], capture_output=True).returncode != 0:
        broker.must_live()
        if time.monotonic() > deadline:
            sys.exit(f"the broker does not answer:\n{broker.log.read_text()[-5000:]}")
        time.sleep(0.2)
    return address


def make_topic(address: str, topic: str) -> None:
    """The broker makes what a producer asks for."""
    ask = ["kcat", "-L", "-b", address, "-t", topic, "-X", "allow.auto.create.topics=true"]
    subprocess.run(ask, capture_output=True, check=True)


def fill(address: str, topic: str, messages: int) -> None:
    make_topic(address, topic)
    send = [BINARY, "produce", "-", "--format", "ndjson", "--compression", "lz4", "--brokers", address, "--topic", topic]
    with subprocess.Popen(send, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as producing:
        producing.stdin.writelines(predictions(messages))
    if producing.returncode:
        sys.exit("events could not be sent")


def bench(address: str, topic: str, quick: bool, directory: Path) -> dict:
    command = [BINARY, "bench", "--kafka", address, "--topic", topic, "--format", "json", "--dir", str(directory)]
    done = subprocess.run([*command, *(["--quick"] if quick else [])], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


class Worker:
    """A worker of Kafka Connect with a table of its own; it may be started again."""

    def __init__(self, address: str, topic: str, directory: Path, name: str):
        self.directory = directory / name
        self.directory.mkdir()
        plugins = self.directory / "plugins"
        plugins.mkdir()
        (plugins / "iceberg").symlink_to(Path(f"{os.environ['MODELOG_CONNECT_JARS']}-iceberg").absolute())
        # Its consumers may miss a topic that is made when it is first used.
        make_topic(address, f"{name}-control")
        self.write(
            "worker.properties",
            {
                "bootstrap.servers": address,
                "listeners": f"http://127.0.0.1:{free_port()}",
                "plugin.path": plugins,
                "plugin.discovery": "hybrid_warn",
                "offset.storage.file.filename": self.directory / "offsets",
                "key.converter": "org.apache.kafka.connect.storage.StringConverter",
                "value.converter": "org.apache.kafka.connect.storage.StringConverter",
                # The sink commits late with the default of a minute.
                "offset.flush.interval.ms": 1000,
                # Large polls, which are large batches: it is faster so than with its defaults.
                "consumer.max.poll.records": 5000,
                "consumer.max.partition.fetch.bytes": 8 << 20,
                "consumer.fetch.max.bytes": 64 << 20,
                "consumer.fetch.min.bytes": 256 << 10,
                "consumer.fetch.max.wait.ms": 200,
            },
        )
        self.write(
            "sink.properties",
            {
                "name": name,
                "topics": topic,
                "tasks.max": TASKS,
                "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
                "iceberg.catalog.type": "hadoop",
                "iceberg.catalog.warehouse": f"file://{self.directory}/warehouse",
                "iceberg.tables": TABLE,
                "iceberg.tables.auto-create-enabled": "true",
                "iceberg.control.topic": f"{name}-control",
                "iceberg.control.commit.interval-ms": 10000,
                f"iceberg.table.{TABLE}.write-props.write.parquet.compression-codec": "zstd",
                "value.converter": "org.apache.kafka.connect.json.JsonConverter",
                "value.converter.schemas.enable": "true",
                "value.converter.schema.content": json.dumps(SCHEMA, separators=(",", ":")),
            },
        )
        self.start()

    def write(self, name: str, settings: dict) -> None:
        (self.directory / name).write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    def start(self) -> None:
        java = ["java", "-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
        java += ["-XX:InitiatingHeapOccupancyPercent=35", "-Djava.awt.headless=true"]
        java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{os.environ['MODELOG_CONNECT_JARS']}-worker/*"]
        properties = [str(self.directory / name) for name in ["worker.properties", "sink.properties"]]
        self.process = Process([*java, "org.apache.kafka.connect.cli.ConnectStandalone", *properties], self.directory)

    def rows(self) -> int:
        """Those in the table's current snapshot."""
        metadata = self.directory / "warehouse" / TABLE.replace(".", "/") / "metadata"
        newest = max(metadata.glob("*.metadata.json"), key=lambda file: file.stat().st_mtime_ns, default=None)
        if newest is None:
            return 0
        try:
            table = json.loads(newest.read_text())
        except ValueError:
            # It is being written.
            return 0
        current = [it for it in table["snapshots"] if it["snapshot-id"] == table.get("current-snapshot-id")]
        return int(current[0]["summary"].get("total-records", 0)) if current else 0


def watched(worker: Worker, until, seen) -> None:
    """Looks at it until it is done; `seen` is told rows, and when. It is an error if nothing comes any more."""
    last, since = 0, time.monotonic()
    while not until(last):
        time.sleep(0.25)
        worker.process.must_live()
        now, rows = time.monotonic(), max(worker.rows(), last)
        if rows > last:
            last, since = rows, now
        seen(now, rows)
        if now - since > PATIENCE:
            sys.exit(f"Kafka Connect brings nothing any more:\n{worker.process.log.read_text()[-5000:]}")


def measure_connect(address: str, topic: str, messages: int, directory: Path) -> dict:
    worker = Worker(address, topic, directory, "connect")
    samples, memory = [], []

    def seen(now: float, rows: int) -> None:
        samples.append((now, rows, worker.process.cpu_seconds()))
        memory.append(worker.process.anonymous_mib())

    watched(worker, lambda rows: rows >= messages, seen)
    worker.process.end()
    begun = next(sample for sample in samples if sample[1] >= FROM * messages)
    end = next(sample for sample in samples if sample[1] >= messages)
    rows = end[1] - begun[1]
    return {
        "events_per_second": rows / max(end[0] - begun[0], 0.25),
        "cpu_seconds_per_million": (end[2] - begun[2]) / rows * 1e6,
        "anonymous_mib": max(memory),
        "rows": end[1],
    }


def kill_connect(address: str, topic: str, messages: int, directory: Path) -> dict:
    """From its restart to the next rows."""
    worker = Worker(address, topic, directory, "killed")
    watched(worker, lambda rows: rows >= FROM * messages, lambda now, rows: None)
    worker.process.end(signal.SIGKILL)
    before = worker.rows()
    started = time.monotonic()
    worker.start()
    more = []
    watched(worker, lambda rows: rows > before, lambda now, rows: more.append(now))
    worker.process.end()
    return {"seconds": more[-1] - started, "rows_before": before}


def row(report: dict, what: str, after: str = "") -> float:
    """The figure of a row, the first of that name behind another."""
    names = [row["what"] for row in report["rows"]]
    start = next(number for number, name in enumerate(names) if name.startswith(after))
    found = next(row for row in report["rows"][start:] if row["what"].startswith(what))
    return found["figure"]["median"]


def compared(report: dict, connect: dict, killed: dict) -> list[dict]:
    """Rows of both, and the ratio that is asked for."""
    parquet = "Kafka → verified Parquet"
    return [
        {
            "what": "Kafka → Parquet, events/s",
            "modelog": row(report, parquet),
            "connect": connect["events_per_second"],
            "asked for": "≥ 3 ×",
        },
        {
            "what": "CPU seconds a million",
            "modelog": row(report, "  CPU time", parquet),
            "connect": connect["cpu_seconds_per_million"],
            "asked for": "≤ 1/3",
        },
        {
            "what": "resident anonymous memory, MiB",
            "modelog": row(report, "  memory meanwhile", parquet),
            "connect": connect["anonymous_mib"],
            "asked for": "≤ 1/5",
        },
        {
            "what": "killed with -9: from restart to the next events, s",
            "modelog": row(report, "killed with -9"),
            "connect": killed["seconds"],
            "asked for": "≤ 3 s",
        },
    ]


def table(rows: list[dict]) -> str:
    lines = ["| what | Modelog | Connect, Iceberg's sink | Modelog by Connect | asked for |", "|---|---|---|---|---|"]
    for it in rows:
        ratio = it["modelog"] / it["connect"]
        lines.append(
            f"| {it['what']} | {it['modelog']:,.6g} | {it['connect']:,.6g} | {ratio:.2f} | {it['asked for']} |"
        )
    load = os.getloadavg()
    lines += ["", f"{os.cpu_count()} cores; load {load[0]:.1f} (1 min), {load[1]:.1f} (5 min)."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    parser.add_argument("--dir", type=Path, default=Path("."), help="where data is kept meanwhile: the disk measured")
    arguments = parser.parse_args()
    # The sink commits every ten seconds: fewer would be one commit.
    messages = 2_000_000 if arguments.quick else 4_000_000
    directory = Path(tempfile.mkdtemp(prefix="modelog-peers-", dir=arguments.dir)).absolute()
    try:
        address = start_broker(directory / "broker")
        fill(address, "predictions", messages)
        report = bench(address, "predictions", arguments.quick, directory / "modelog")
        connect = measure_connect(address, "predictions", messages, directory)
        killed = kill_connect(address, "predictions", messages, directory)
        found = compared(report, connect, killed)
        if arguments.format == "json":
            print(json.dumps({"rows": found, "bench": report, "connect": connect, "killed": killed}, indent=1))
        else:
            for it in report["rows"]:
                figure, limit = it["figure"], it["limit"]
                beside = f", {limit['figure']['median']:,.6g} {limit['what']}: {limit['ratio']:.2f}" if limit else ""
                spread = f"({figure['least']:,.6g}–{figure['greatest']:,.6g})"
                print(f"{it['what']}: {figure['median']:,.6g} {it['unit']} {spread}{beside}")
            print(f"\n{table(found)}")
    finally:
        for process in reversed(Process.started):
            process.end()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
