"""Servers that read from Kafka, and what must hold of what they read."""

import json
import sqlite3
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from conftest import PATIENCE, Server, binary, caught_up
from kafka_support import Kafka, Numbered, wait_for

# How soon a source hears that there are new topics and partitions, and that a broker is back.
QUICK = {"topic.metadata.refresh.interval.ms": "1000", "reconnect.backoff.max.ms": "1000"}


class Reader(Server):
    """A Modelog that reads topics. Underscored arguments are settings of its `[[kafka]]` section."""

    def __init__(self, data: Path, kafka: Kafka, *topics: str, **settings: Any):
        self.config = Path(f"{data}.toml")
        super().__init__(data, "--config", str(self.config))
        self.kafka = kafka
        self.settings = {
            "brokers": kafka.servers.split(","),
            "topics": list(topics),
            "group_id": topics[0].lstrip("^").rstrip(".*"),
            "commit_interval": "200ms",
        }
        self.configure(**{"properties": QUICK, **settings})

    def configure(self, **settings: Any) -> None:
        """Changes settings, as of the next start."""
        self.settings |= settings
        lines = [f"{key} = {toml(value)}\n" for key, value in self.settings.items()]
        self.config.write_text("[[kafka]]\n" + "".join(lines))

    @property
    def group(self) -> str:
        return self.settings["group_id"]

    @property
    def log(self) -> str:
        """The identity of its log."""
        return self.json("/version")["log"]

    @property
    def name(self) -> str:
        return f"kafka:{self.group}"

    def source(self) -> dict:
        (source,) = [item for item in self.json("/v1/sources")["items"] if item["name"] == self.name]
        return source

    def partitions(self) -> dict[tuple[str, int], dict]:
        """What it is assigned now."""
        return {(place["topic"], place["partition"]): place for place in self.source()["partitions"]}

    def partition(self, number: int) -> dict:
        """The same of a partition of its only topic; nothing if it is not assigned."""
        return self.partitions().get((self.settings["topics"][0], number), {})

    def degraded(self) -> list[dict]:
        """What `/readyz` says of the source."""
        return [entry for entry in self.json("/readyz")["degraded"] if self.name in entry.values()]

    def wait(self, what: str, condition: Callable[[], Any]) -> Any:
        return wait_for(what, condition, lambda: f"{json.dumps(self.source(), indent=1)}\n{self.said()[-5000:]}")

    def is_at_end(self, *topics: str) -> "Reader":
        """Waits until it has everything that is in its topics now."""
        read_to_the_end([self], *(topics or self.settings["topics"]))
        return self

    def commits(self, topic: str) -> dict[int, int]:
        """Waits until what it read is committed, under the name of its log."""
        ends = {partition: end for partition, end in self.kafka.ends(topic).items() if end > 0}

        def done() -> bool:
            committed = self.kafka.committed(self.group, topic)
            return {partition: offset for partition, (offset, _) in committed.items() if offset > 0} == ends

        self.wait(f"{ends} to be committed", done)
        for offset, metadata in self.kafka.committed(self.group, topic).values():
            assert offset <= 0 or metadata.startswith(f"modelog:{self.log}"), metadata
        return ends

    def events(self, kind: str | None = None, **parameters: Any) -> list[dict]:
        """What is in the log, without what Modelog says of names."""
        answer = self.get("/v1/events", params={**({"kind": kind} if kind else {}), **parameters})
        assert answer.status_code == 200, answer.text
        return [event for line in answer.text.splitlines() if (event := json.loads(line))["type"] != "EntityNamed"]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        series = [line for line in self.get("/metrics").text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in series if all(label in line for label in wanted))

    def origins(self, topic: str) -> dict[int, list[tuple[int, int]]]:
        """What the frames of the log hold of each partition: from which position to before which."""
        found: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for segment in json.loads(modelog("log", "inspect", "--format", "json", "--data", str(self.data)))["segments"]:
            frames = modelog("log", "inspect", segment["path"], "--format", "ndjson", "--data", str(self.data))
            for frame in map(json.loads, frames.splitlines()):
                for origin in frame["detail"].get("origins", []):
                    if origin["source"] == "kafka" and origin["topic"] == topic:
                        assert origin["cluster"] == self.kafka.cluster
                        found[origin["partition"]].append((origin["first"], origin["next"]))
        return dict(found)


def modelog(*arguments: str) -> str:
    """Runs a command that must succeed."""
    done = subprocess.run([binary(), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def read_to_the_end(readers: list[Reader], *topics: str) -> None:
    """Waits until the readers together are at the end of every partition, or at a pattern's topics' that there are."""
    kafka = readers[0].kafka
    known = kafka.admin.list_topics(timeout=PATIENCE).topics
    named = [name for topic in topics for name in known if name == topic or matches(topic, name)]
    ends = {(topic, partition): end for topic in named for partition, end in kafka.ends(topic).items()}

    def done() -> bool:
        positions: dict[tuple[str, int], int] = {}
        for reader in readers:
            for place, told in reader.partitions().items():
                positions[place] = max(positions.get(place, 0), told["position"] or 0)
        return all(positions.get(place, -1) >= end for place, end in ends.items())

    def seen() -> str:
        return "\n".join(f"{json.dumps(reader.source(), indent=1)}\n{reader.said()[-3000:]}" for reader in readers)

    wait_for(f"the end of {ends}", done, seen)


def matches(pattern: str, name: str) -> bool:
    return pattern.startswith("^") and name.startswith(pattern.strip("^.*"))


# What must hold of what was read.


def logged(server: Server, topic: str) -> list[str]:
    """Ids of the predictions of a topic in the order of the log."""
    answer = server.get("/v1/events", params={"kind": "PredictionLogged", "model": topic})
    assert answer.status_code in (200, 404), answer.text
    return [json.loads(line)["prediction_id"] for line in answer.text.splitlines()] if answer.status_code == 200 else []


def stored(server: Server, topic: str) -> list[str]:
    """The same from SQLite."""
    query = """
        SELECT prediction_id FROM predictions JOIN models ON models.id = predictions.model_id
        WHERE models.name = ? ORDER BY predictions.log_offset
    """
    with sqlite3.connect(f"file:{server.database}?mode=ro", uri=True) as database:
        assert database.execute("SELECT count(*) FROM rejected_rows").fetchone() == (0,)
        return [row[0] for row in database.execute(query, [topic])]


def by_partition(ids: list[str]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for id in ids:
        partition, number = id.split("-")
        found[int(partition)].append(int(number))
    return dict(found)


def assert_in_order(ids: list[str]) -> None:
    """Once each, in the order of their partitions; not all of them need be there."""
    for partition, numbers in by_partition(ids).items():
        pairs = zip(numbers, numbers[1:])
        wrong = [(before, after) for before, after in pairs if before >= after]
        assert not wrong, f"partition {partition}: {len(wrong)} out of order, at {wrong[:5]}"


def assert_complete(ids: Iterable[str], sent: dict[int, int], once: bool = True) -> None:
    """Everything that was sent is there, and nothing else; once, if it must."""
    counted = Counter(ids)
    expected = {f"{partition}-{number}" for partition, count in sent.items() for number in range(count)}
    lost = sorted(expected - counted.keys())
    assert not lost, f"{len(lost)} of {len(expected)} lost: {lost[:5]} …"
    assert counted.keys() == expected, f"never sent: {sorted(counted.keys() - expected)[:5]}"
    if once:
        doubled = [id for id, count in counted.items() if count > 1]
        assert not doubled, f"{len(doubled)} of {len(expected)} doubled: {sorted(doubled)[:5]} …"


def assert_exactly_once(server: Server, produced: Numbered) -> None:
    """Every message is in the log once, in the order of its partition, and so in SQLite."""
    ids = logged(server, produced.topic)
    assert_complete(ids, produced.sent)
    assert_in_order(ids)
    caught_up(server)
    assert stored(server, produced.topic) == ids
