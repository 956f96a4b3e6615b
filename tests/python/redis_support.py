"""Redis servers for the tests, each on a free port and in a directory of its own."""

import socket
import subprocess
import time
from pathlib import Path

import redis

PATIENCE = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    """A `redis-server`."""

    def __init__(self, directory: Path, *settings: str):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.settings = settings
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> "Redis":
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
            + ["--save", "", "--appendonly", "no", *self.settings],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                self.client().ping()
                return self
            except redis.ConnectionError:
                assert self.process.poll() is None, "redis-server ended"
                time.sleep(0.01)
        raise AssertionError("redis-server does not answer")

    def client(self, **options) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True, **options)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def cli(self, *arguments: str) -> str:
        """What `redis-cli` prints."""
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()
