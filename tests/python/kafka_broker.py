"""Apache Kafka itself: brokers on free loopback ports, in processes that the tests start, kill and start again."""

import base64
import os
import random
import re
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from conftest import PATIENCE, ROOT, TARGET

VERSION = (
    os.environ.get("MODELOG_KAFKA") or re.search("<kafka>(.*)</kafka>", (ROOT / "tests/kafka/pom.xml").read_text())[1]
)

# For one machine and tests that wait: nothing is put off, and the topics of its own are small.
SETTINGS = {
    "auto.create.topics.enable": "false",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "group.initial.rebalance.delay.ms": "0",
    "group.max.session.timeout.ms": "1800000",
    "group.min.session.timeout.ms": "500",
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.retention.check.interval.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
    "message.max.bytes": "20971520",
    "num.io.threads": "4",
    "num.network.threads": "2",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.segment.bytes": "10485760",
    "replica.fetch.max.bytes": "20971520",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
}
# Compiled at once rather than well: brokers live for seconds.
JAVA = [
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Djava.awt.headless=true",
]


def free_port() -> int:
    """A port below those that the kernel gives to clients: while a broker is down, nobody else comes to have it."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def jars() -> Path:
    directory = TARGET / f"tests-kafka-{VERSION}"
    assert (directory / "installed").exists(), f"{directory} is missing: tests/run --install brings it"
    return directory


def java(main: str, *arguments: str) -> list[str]:
    """A program among Kafka's jars. It does not outlive the tests, however they end."""
    return ["setpriv", "--pdeathsig", "KILL", "java", *JAVA, "-cp", f"{jars()}/*", main, *arguments]


class Broker:
    """A node: broker, and controller too unless it is given the node that is. Data and ports outlive its process."""

    running: list["Broker"] = []

    def __init__(self, directory: Path, controller: "Broker | None" = None, listeners: dict | None = None, **settings):
        """`listeners` are those beside the plain one: their names, and the protocols they speak."""
        self.directory = directory
        self.controller = controller or self
        self.node = 1 if controller is None else 2
        self.ports = {name: free_port() for name in ["PLAINTEXT", "CONTROLLER", *(listeners or {})]}
        self.protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        self.cluster = controller.cluster if controller else cluster_id()
        self.replicas = 1
        self.settings = settings
        self.format_options: list[str] = []
        self.process: subprocess.Popen | None = None

    def address(self, listener: str = "PLAINTEXT") -> str:
        return f"127.0.0.1:{self.ports[listener]}"

    def properties(self) -> dict[str, str]:
        served = [name for name in self.ports if name != "CONTROLLER" or self.controller is self]
        return {
            **SETTINGS,
            "process.roles": "broker,controller" if self.controller is self else "broker",
            "node.id": str(self.node),
            "controller.quorum.voters": f"1@{self.controller.address('CONTROLLER')}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(f"{name}://{self.address(name)}" for name in served),
            "advertised.listeners": ",".join(
                f"{name}://{self.address(name)}" for name in served if name != "CONTROLLER"
            ),
            "listener.security.protocol.map": ",".join(f"{name}:{self.protocols[name]}" for name in self.ports),
            "log.dirs": str(self.directory / "data"),
            "offsets.topic.replication.factor": str(self.replicas),
            "transaction.state.log.replication.factor": str(self.replicas),
            **self.settings,
        }

    def begin(self) -> None:
        """Starts the process and does not wait for it."""
        self.directory.mkdir(exist_ok=True)
        written = self.directory / "server.properties"
        written.write_text("".join(f"{name}={value}\n" for name, value in self.properties().items()))
        if not (self.directory / "data").exists():
            format_ = ["format", "-t", self.cluster, "-c", str(written), *self.format_options]
            done = subprocess.run(java("kafka.tools.StorageTool", *format_), capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                java("kafka.Kafka", str(written)), cwd=self.directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        Broker.running.append(self)

    def start(self) -> "Broker":
        self.begin()
        self.serves()
        return self

    def serves(self) -> None:
        """Waits until it answers, and leads what it should."""
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            assert self.process.poll() is None, f"the broker ended:\n{self.said()}"
            assert time.monotonic() < deadline, f"the broker does not answer:\n{self.said()}"
            time.sleep(0.05)

    def answers(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.ports["PLAINTEXT"])) != 0:
                return False
        try:
            known = AdminClient({"bootstrap.servers": self.address(), "log_level": 0}).list_topics(timeout=2)
        except KafkaException:
            return False
        leaders = [partition.leader for topic in known.topics.values() for partition in topic.partitions.values()]
        return self.node in known.brokers and -1 not in leaders

    def said(self) -> str:
        return (self.directory / "log").read_text()[-5000:]

    def signal(self, sign: signal.Signals) -> None:
        self.process.send_signal(sign)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait(PATIENCE)
        if self in Broker.running:
            Broker.running.remove(self)

    def stop(self) -> None:
        """Lets it end in order."""
        self.signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        Broker.running.remove(self)


def cluster_id() -> str:
    """A UUID as Kafka writes them, which no command takes for an option."""
    while True:
        id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not id.startswith("-"):
            return id


def pair(directory: Path) -> tuple[Broker, Broker]:
    """Two nodes of one cluster, the first one its controller. Both hold Kafka's own topics."""
    directory.mkdir(exist_ok=True)
    first = Broker(directory / "1")
    second = Broker(directory / "2", controller=first)
    first.replicas = second.replicas = 2
    first.begin()
    second.begin()
    first.serves()
    second.serves()
    return first, second
