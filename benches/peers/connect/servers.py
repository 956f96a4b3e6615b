"""What a run starts: Apache Kafka, PostgreSQL, Redis, each on a free loopback port and in a directory of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import redis

# How long a server may take to answer.
PATIENCE = 180
PARTITIONS = 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program of this run; it does not outlive it."""

    started: list["Process"] = []

    def __init__(self, command: list, directory: Path, sign: signal.Signals = signal.SIGTERM):
        """`sign` is what ends it in order."""
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "said"
        self.sign = sign
        with open(self.log, "ab") as log:
            command = [str(word) for word in command]
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
            sys.exit(f"{self.process.args[0]} ended:\n{self.said()}")

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-5000:]

    def answers(self, asks) -> None:
        """Waits until what asks it says so."""
        deadline = time.monotonic() + PATIENCE
        while not asks():
            self.must_live()
            if time.monotonic() > deadline:
                sys.exit(f"{self.process.args[0]} does not answer:\n{self.said()}")
            time.sleep(0.2)

    def end(self, sign: signal.Signals | None = None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(sign or self.sign)
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
    broker = Process([*java, "kafka.Kafka", written], directory)
    address = f"127.0.0.1:{port}"
    asked = ["kcat", "-L", "-m", "2", "-b", address]
    broker.answers(lambda: subprocess.run(asked, capture_output=True).returncode == 0)
    return address


def make_topic(address: str, topic: str) -> None:
    """The broker makes what a producer asks for."""
    ask = ["kcat", "-L", "-b", address, "-t", topic, "-X", "allow.auto.create.topics=true"]
    subprocess.run(ask, capture_output=True, check=True)


class Postgres:
    """A server with its defaults, which sync at each commit."""

    # Debian has several versions beside each other, and none of them where commands are looked for.
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=Path())

    def __init__(self, directory: Path):
        directory.mkdir()
        self.port = free_port()
        # It does not run as root.
        user = []
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody", "nogroup")
            user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        data = directory / "data"
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        made = [*user, self.programs / "initdb", f"--pgdata={data}", *options]
        subprocess.run(made, cwd=directory, capture_output=True, check=True)
        serve = [self.programs / "postgres", "-D", data, "-p", self.port]
        only = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self.process = Process([*user, *serve, *only], directory, signal.SIGINT)
        self.process.answers(self.is_up)

    def is_up(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(self.url(database), autocommit=True)


class Redis:
    """A server that writes nothing to the disk."""

    def __init__(self, directory: Path):
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}"
        serve = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]
        self.process = Process(serve, directory)
        self.client = redis.Redis.from_url(self.url, decode_responses=True)
        self.process.answers(self.is_up)

    def is_up(self) -> bool:
        try:
            return self.client.ping()
        except redis.ConnectionError:
            return False
