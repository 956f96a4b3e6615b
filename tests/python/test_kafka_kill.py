"""The real program, killed at random moments while it consumes: every message is in the log and in SQLite, once, in the
order of its partition."""

import os
import random
import time

from conftest import Server
from kafka_reader import Reader, assert_exactly_once
from kafka_support import Kafka, Load, Numbered
from test_kill import check_at_rest

KILLS = 100 if os.environ.get("MODELOG_TESTS_FULL") else 15


def end(server: Server) -> int:
    return server.json("/v1/stats", params={"at_least": 0})["events"]


def assert_positions_continue(reader: Reader, topic: str, ends: dict[int, int]) -> None:
    """Frames hold each position once: the next one of a partition begins where the one before it ended."""
    origins = reader.origins(topic)
    for partition, last in ends.items():
        bounds = [0, *(bound for pair in origins[partition] for bound in pair), last]
        assert bounds[::2] == bounds[1::2], f"partition {partition}: {origins[partition]}"


def test_kills_while_it_consumes(kafka: Kafka, topic, tmp_path, monkeypatch, seed, figure):
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "256KiB")
    monkeypatch.setenv("MODELOG_PARQUET__MAX_DELAY", "2s")
    moments = random.Random(seed)
    produced = Numbered(kafka, kafka.topic(topic, partitions=4), 4)
    # A member that was killed is missed for so long; one that comes back under its name, not at all.
    reader = Reader(tmp_path / "data", kafka, topic, session_timeout="6s")
    waits: list[float] = []
    while_starting = 0
    with Load(produced, 4000):
        for _ in range(KILLS):
            if moments.random() < 0.2:
                # While it opens its log, or joins the group.
                reader.begin()
                time.sleep(moments.random() * 0.5)
                reader.kill()
                while_starting += 1
                continue
            started = time.monotonic()
            reader.start()
            before = end(reader)
            reader.wait("more events", lambda: end(reader) > before)
            waits.append(time.monotonic() - started)
            time.sleep(moments.random() * 0.7)
            reader.kill()
        # The last one was killed among what is still coming.
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)
    total = sum(produced.sent.values())
    assert reader.json("/v1/stats", params={"at_least": total})["predictions"] == total
    ends = reader.commits(topic)
    ids = [event["prediction_id"] for event in reader.events("PredictionLogged")]
    assert reader.stop() == 0
    assert_positions_continue(reader, topic, ends)
    check_at_rest(reader, ids)
    figure(
        f"Kafka: {KILLS} kills ({while_starting} while starting) in {total} messages; from the start to the next event "
        f"{sorted(waits)[len(waits) // 2]:.1f} s in the middle, {max(waits):.1f} s at most"
    )
