"""A running Modelog, for clients that we did not write."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
# Where tests/run puts what the tests need beside the program.
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# How long to wait for something that must come; no test measures time.
PATIENCE = 60
# A connection for each request, as `httpx.get` makes them, without reading certificates each time.
HTTP = httpx.Client(timeout=PATIENCE, verify=False, limits=httpx.Limits(max_keepalive_connections=0))


def binary() -> str:
    return os.environ.get("MODELOG_BIN") or str(ROOT / "target" / "release" / "modelog")


class Server:
    """`modelog serve` on a free loopback port."""

    started: list["Server"] = []

    def __init__(self, data: Path, *arguments: str):
        self.data = data
        self.arguments = arguments
        self.process: subprocess.Popen | None = None
        self.said_before = 0
        self.url = ""

    def begin(self) -> None:
        """Starts the process and does not wait for anything."""
        Server.started.append(self)
        with open(f"{self.data}.log", "ab") as log:
            self.said_before = log.tell()
            self.process = subprocess.Popen(
                [binary(), "serve", "--data", str(self.data), "--listen", "127.0.0.1:0", *self.arguments],
                stderr=log,
                stdout=log,
            )

    def said(self) -> str:
        """What the process has said since it was started."""
        with open(f"{self.data}.log", "rb") as written:
            written.seek(self.said_before)
            return written.read().decode()

    def start(self) -> "Server":
        self.begin()
        return self.listens()

    def listens(self) -> "Server":
        """Waits until it says where."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = re.search(r"http://127\.0\.0\.1:\d+", self.said())
            if found:
                self.url = found.group()
                return self
            assert self.process.poll() is None, f"the server ended:\n{self.said()}"
            time.sleep(0.01)
        raise AssertionError(f"the server does not say where it listens:\n{self.said()}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def post(self, body, content_type="application/x-ndjson", **options) -> httpx.Response:
        headers = {"content-type": content_type, **options.pop("headers", {})}
        return HTTP.post(f"{self.url}/v1/events", content=body, headers=headers, **options)

    def get(self, path: str, **options) -> httpx.Response:
        return HTTP.get(f"{self.url}{path}", **options)

    def json(self, path: str, **options):
        answer = self.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def database(self) -> Path:
        return self.data / "sqlite" / "modelog.db"


def ndjson(*events: dict) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def caught_up(server: Server) -> None:
    """Waits until SQLite has everything that is in the log now."""
    (sql,) = [store for store in server.json("/v1/projections")["items"] if store["name"] == "sql"]
    end = sql["offset"] + sql["lag_events"]
    # An answer waits for some seconds; a store that met a full disk tries again after half a minute at most.
    deadline = time.monotonic() + PATIENCE
    while (answer := server.get("/v1/models", params={"at_least": end})).status_code == 503:
        assert time.monotonic() < deadline, answer.text
    assert answer.status_code == 200, answer.text


@pytest.fixture(autouse=True)
def nothing_runs_on():
    """A test that fails leaves no server behind."""
    yield
    while Server.started:
        server = Server.started.pop()
        if server.process.poll() is None:
            server.kill()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "data").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    """A broker that runs as long as the tests do. Each test has topics of its own there."""
    from kafka_broker import Broker
    from kafka_support import Kafka

    directory = tmp_path_factory.mktemp("kafka")
    broker = Broker(directory / "broker").start()
    yield Kafka(broker)
    broker.kill()
    shutil.rmtree(directory)


@pytest.fixture
def topic(request) -> str:
    """A name for a topic that no other test has."""
    return f"{re.sub('[^a-z0-9]+', '-', request.node.name.removeprefix('test_'))[:60]}-{os.urandom(3).hex()}"


@pytest.fixture
def seed() -> int:
    """Behind everything that is random in a test. A failing test prints it, MODELOG_SEED gives it back."""
    seed = int(os.environ.get("MODELOG_SEED", "20261125"))
    print(f"MODELOG_SEED={seed}")
    return seed


@pytest.fixture
def figure(record_property):
    """Takes a line that is printed when all tests are done, passed or not."""
    return lambda line: record_property("figure", line)


def pytest_terminal_summary(terminalreporter):
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, line in report.user_properties:
                    if name == "figure":
                        terminalreporter.write_line(line)


def pytest_configure(config):
    config.addinivalue_line("markers", "full: only in tests/run --full")


def pytest_collection_modifyitems(config, items):
    """The long versions are left out, which is said as such: nothing is skipped."""
    if os.environ.get("MODELOG_TESTS_FULL"):
        return
    long = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
