"""Clients of several sorts that post to a server which is killed: each sends again what was not answered."""

import gzip
import http.client
import json
import random
import threading
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import urlsplit

import pyarrow as pa

from conftest import PATIENCE, Server, ndjson

ARROW = "application/vnd.apache.arrow.stream"


@dataclass
class Call:
    """A request that is sent until it is answered, the same every time."""

    keys: list[str]
    path: str
    headers: dict[str, str]
    body: bytes
    sent: int = 0


@dataclass
class Ledger:
    """What was sent and what was acknowledged. An event's key is its prediction id, in all stores."""

    submitted: set[str] = field(default_factory=set)
    # With the offset that the answer gave; None where the answer was that it had been there.
    acknowledged: dict[str, int | None] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    repeated: int = 0

    # Where events are, as far as the log was followed, and which acknowledgements were compared with that.
    places: dict[str, int] = field(default_factory=dict)
    compared: int = 0

    def follow(self, more: list[str]) -> None:
        """Takes what the log has beyond what it had. Everything acknowledged is in it where the answer said, nothing
        else than what was sent, all of it once."""
        assert self.refused == []
        start = len(self.places)
        self.places.update(zip(more, range(start, start + len(more))))
        assert len(self.places) == start + len(more), "an event is there twice"
        assert self.submitted.issuperset(more), "an event is there that nobody sent"
        acknowledged = list(islice(self.acknowledged.items(), self.compared, None))
        lost = [key for key, _ in acknowledged if key not in self.places]
        assert not lost, f"{len(lost)} acknowledged events are lost: {lost[:5]}"
        moved = [key for key, offset in acknowledged if offset not in (None, self.places[key])]
        assert not moved, f"acknowledged for another place: {moved[:5]}"
        self.compared = len(self.acknowledged)

    def check(self, logged: list[str]) -> None:
        """The same for a whole log."""
        self.places, self.compared = {}, 0
        self.follow(logged)


class Producer:
    """A client with a name and a way of its own. It keeps the call that was not answered."""

    def __init__(self, name: str, ledger: Ledger, random: random.Random):
        self.name = name
        self.ledger = ledger
        self.random = random
        self.calls = 0
        self.pending: Call | None = None

    def call(self) -> Call:
        raise NotImplementedError

    def events(self, count: int) -> list[dict]:
        keys = [f"{self.name}-{self.calls}-{at}" for at in range(count)]
        return [
            {"prediction_id": key, "model": "m", "version": f"v{self.calls % 3}", "output": {"of": key}, "confidence": 0.5}
            for key in keys
        ]

    def run(self, server: Server, stop: threading.Event, pause: float) -> None:
        """Posts until told to stop, or until the server is gone."""
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
        try:
            while not stop.is_set():
                self.post(connection)
                stop.wait(pause)
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    def finish(self, server: Server) -> None:
        """Gets the answer to the call it was at."""
        if self.pending is not None:
            connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
            self.post(connection)
            connection.close()

    def post(self, connection: http.client.HTTPConnection) -> None:
        if self.pending is None:
            self.pending = self.call()
            self.calls += 1
            self.ledger.submitted.update(self.pending.keys)
        call = self.pending
        call.sent += 1
        connection.request("POST", call.path, call.body, call.headers)
        answer = connection.getresponse()
        text = answer.read()
        self.pending = None
        if answer.status not in (200, 201):
            self.ledger.refused.append(f"{call.path} of {self.name}: {answer.status} {text.decode()}")
            return
        self.acknowledge(call, json.loads(text))

    def acknowledge(self, call: Call, answer: dict) -> None:
        self.ledger.repeated += call.sent > 1
        count = len(call.keys)
        if (answer["accepted"], answer["duplicates"]) == (0, count) and call.sent > 1:
            self.ledger.acknowledged.update(dict.fromkeys(call.keys))
            return
        if (answer["accepted"], answer["duplicates"]) != (count, 0):
            self.ledger.refused.append(f"a call of {count} of {self.name}, sent {call.sent} times: {answer}")
            return
        self.ledger.acknowledged.update(zip(call.keys, range(answer["first_offset"], answer["end_offset"])))


def to_events(keys: list[str], body: bytes, content_type: str, **headers: str) -> Call:
    return Call(keys, "/v1/events", {"content-type": content_type, **headers}, body)


def logged(events: list[dict], ids: bool) -> list[dict]:
    return [
        {"type": "PredictionLogged", **({"id": event["prediction_id"]} if ids else {}), **event} for event in events
    ]


def keys(events: list[dict]) -> list[str]:
    return [event["prediction_id"] for event in events]


class Lines(Producer):
    """NDJSON, now and then compressed; event ids make a repeat safe."""

    def call(self) -> Call:
        events = self.events(self.random.choice([1, 3, 50]))
        body = ndjson(*logged(events, ids=True)).encode()
        if self.random.random() < 0.3:
            return to_events(
                keys(events), gzip.compress(body, 1), "application/x-ndjson", **{"content-encoding": "gzip"}
            )
        return to_events(keys(events), body, "application/x-ndjson")


class Single(Producer):
    """One event at a time, with an id."""

    def call(self) -> Call:
        events = self.events(1)
        return to_events(keys(events), json.dumps(logged(events, ids=True)[0]).encode(), "application/json")


class Arrow(Producer):
    """Arrow streams with a column of ids."""

    def call(self) -> Call:
        events = self.events(self.random.choice([1, 40, 200]))
        table = pa.table(
            {
                "id": keys(events),
                "prediction_id": keys(events),
                "model": ["m"] * len(events),
                "version": [event["version"] for event in events],
                "confidence": [event["confidence"] for event in events],
            }
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        call = to_events(keys(events), sink.getvalue().to_pybytes(), ARROW)
        call.path += "?kind=PredictionLogged"
        return call


class Strict(Producer):
    """Numbers its calls; the events have no ids."""

    def call(self) -> Call:
        events = self.events(self.random.choice([1, 5, 30]))
        body = ndjson(*logged(events, ids=False)).encode()
        order = f"{self.name};1;{self.calls}"
        return to_events(keys(events), body, "application/x-ndjson", **{"modelog-producer": order})


class Keyed(Producer):
    """A key for each call; the events have no ids."""

    def call(self) -> Call:
        events = self.events(self.random.choice([1, 5, 30]))
        body = json.dumps(logged(events, ids=False)).encode()
        return to_events(keys(events), body, "application/json", **{"idempotency-key": f"{self.name}/{self.calls}"})


class Unified(Producer):
    """`POST /v1/predictions`, with a key for each call."""

    def call(self) -> Call:
        events = self.events(self.random.choice([1, 2, 20]))
        headers = {"content-type": "application/json", "idempotency-key": f"{self.name}/{self.calls}"}
        return Call(keys(events), "/v1/predictions", headers, json.dumps(events).encode())

    def acknowledge(self, call: Call, answer: dict) -> None:
        self.ledger.repeated += call.sent > 1
        end = answer["end_offset"]
        self.ledger.acknowledged.update(zip(call.keys, range(end - len(call.keys), end)))


SORTS = [Lines, Single, Arrow, Strict, Keyed, Unified]


def producers(ledger: Ledger, random_: random.Random, sorts: list = SORTS) -> list[Producer]:
    """One of each sort."""
    return [
        sort(f"{sort.__name__.lower()}{at}", ledger, random.Random(random_.random())) for at, sort in enumerate(sorts)
    ]


class Posting:
    """Producers at work, each in a thread of its own, with a pause between calls."""

    def __init__(self, server: Server, producers: list[Producer], pause: float = 0):
        self.stopped = threading.Event()
        self.threads = [
            threading.Thread(target=producer.run, args=(server, self.stopped, pause), daemon=True) for producer in producers
        ]

    def __enter__(self) -> "Posting":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        """Lets each finish the call it is at, or find that the server is gone."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a producer hangs"
