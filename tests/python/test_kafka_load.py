"""More messages than there is room for: a long backlog, a full disk, a log that takes nothing more."""

import base64
import http.client
import os
import random
import shutil
import subprocess
import threading
import time
from urllib.parse import urlsplit

import numpy
import pyarrow as pa
import pytest

from conftest import PATIENCE, caught_up
from kafka_reader import QUICK, Reader, assert_exactly_once, logged
from kafka_support import Kafka, Load, Memory, Numbered, wait_for
from test_disk import SEGMENT, failing, verified

GIB = 5 if os.environ.get("MODELOG_TESTS_FULL") else 1
MEMORY_MIB = 400
PARTITIONS = 4
FEATURES = "5.1,3.5,1.4,0.2,4.9,3.0,1.4,0.2,4.7,3.2,1.3,0.2,4.6,3.1,1.5,0.2,5.0,3.6,1.4,0.2,5.4,3.9,1.7,0.4"


def prediction(topic: str, partition: int, number: int) -> bytes:
    """Some 330 bytes, of which the place of the message can be read again."""
    return (
        b'{"type":"PredictionLogged","model":"%s","version":"v1.0.%d","prediction_id":"p-%d-%d","input":[%s],'
        b'"output":{"class":%d},"predicted_class":"%d","predicted_value":%d,"confidence":0.%d,"inference_time_ms":%d.5}\n'
        % (
            topic.encode(),
            number % 3,
            partition,
            number,
            FEATURES.encode(),
            number % 10,
            partition,
            number,
            10 + number % 89,
            number % 7,
        )
    )


def fill(kafka: Kafka, topic: str, partition: int, count: int, codec: str) -> None:
    """As many messages as that, through kcat."""
    command = ["kcat", "-P", "-b", kafka.servers, "-t", topic, "-p", str(partition), "-z", codec]
    tuning = ["-X", "linger.ms=50", "-X", "batch.size=1000000", "-X", "queue.buffering.max.messages=500000"]
    with subprocess.Popen([*command, *tuning], stdin=subprocess.PIPE) as kcat:
        for start in range(0, count, 5000):
            numbers = range(start, min(start + 5000, count))
            kcat.stdin.write(b"".join(prediction(topic, partition, number) for number in numbers))
        kcat.stdin.close()
        assert kcat.wait(PATIENCE) == 0


def places(reader: Reader) -> dict[int, numpy.ndarray]:
    """Numbers of the messages of each partition in the order of the log, which is too long for one answer in memory."""
    connection = http.client.HTTPConnection(urlsplit(reader.url).netloc, timeout=PATIENCE)
    headers = {"accept": "application/vnd.apache.arrow.stream"}
    connection.request("GET", "/v1/events?kind=PredictionLogged", headers=headers)
    found: dict[int, list] = {partition: [] for partition in range(PARTITIONS)}
    with pa.ipc.open_stream(connection.getresponse()) as stream:
        for batch in stream:
            partitions = batch.column("predicted_class").cast("int64").to_numpy()
            numbers = batch.column("predicted_value").to_numpy()
            for partition in range(PARTITIONS):
                found[partition].append(numbers[partitions == partition])
    connection.close()
    return {partition: numpy.concatenate(parts) for partition, parts in found.items()}


def test_a_long_backlog_takes_little_memory(kafka: Kafka, topic, tmp_path, figure):
    count = (GIB << 30) // len(prediction(topic, 0, 1_000_000)) // PARTITIONS
    kafka.topic(topic, partitions=PARTITIONS)
    for partition in range(PARTITIONS):
        fill(kafka, topic, partition, count, "lz4" if partition % 2 else "none")
    assert kafka.ends(topic) == dict.fromkeys(range(PARTITIONS), count)
    total = count * PARTITIONS
    reader = Reader(tmp_path / "data", kafka, topic)
    peaks: list[float] = []
    seconds = 0.0

    def read_until(offset: int) -> None:
        nonlocal seconds
        reader.start()
        began = time.monotonic()
        with Memory(reader.process.pid) as memory:
            end = "modelog_log_end_offset"
            wait_for(
                f"{offset} events", lambda: reader.metric(end) >= offset, lambda: (reader.metric(end), reader.source())
            )
        seconds += time.monotonic() - began
        peaks.append(memory.peak_mib)

    # Killed in the middle of it, and once more.
    for part in (0.3, 0.6):
        read_until(int(total * part))
        reader.kill()
    read_until(total)
    reader.is_at_end()
    found = places(reader)
    for partition, numbers in found.items():
        assert numpy.array_equal(numbers, numpy.arange(count)), f"partition {partition}: once each, in order"
    figure(
        f"Kafka: a backlog of {GIB} GiB in {total} messages, killed twice on the way: {seconds:.0f} s with the starts, "
        f"{max(peaks):.0f} MiB (bound {MEMORY_MIB})"
    )
    assert max(peaks) <= MEMORY_MIB
    reader.kill()
    shutil.rmtree(reader.data)
    kafka.delete(topic)


def test_a_backlog_of_large_messages_takes_little_memory(kafka: Kafka, topic, tmp_path, figure):
    """Many partitions, each of whose fetches could hold as much as one alone may."""
    partitions, each = 24, 12
    kafka.topic(topic, partitions=partitions)
    numbered = Numbered(kafka, topic, partitions)
    noise = random.Random(1).randbytes(450_000).hex()
    events_of = {
        partition: [{**numbered.event(partition), "output": noise} for _ in range(each)]
        for partition in range(partitions)
    }
    for partition, events in events_of.items():
        kafka.send(topic, events, partition)
    reader = Reader(tmp_path / "data", kafka, topic).start()
    with Memory(reader.process.pid) as memory:
        reader.is_at_end()
    figure(
        f"Kafka: {partitions * each} messages of 0.9 MB in {partitions} partitions: {memory.peak_mib:.0f} MiB (bound {MEMORY_MIB})"
    )
    assert memory.peak_mib <= MEMORY_MIB
    assert_exactly_once(reader, numbered)
    reader.kill()
    shutil.rmtree(reader.data)
    kafka.delete(topic)


class Noisy(Numbered):
    """Events that the log cannot make much smaller."""

    def event_of(self, partition: int, number: int) -> dict:
        noise = base64.b64encode(random.Random(number).randbytes(750)).decode()
        return {**super().event_of(partition, number), "output": noise}


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_holds_it_up_and_loses_nothing(kafka: Kafka, topic, small_disk, monkeypatch, figure):
    monkeypatch.setenv("MODELOG_LOG__RESERVE_BYTES", "4MiB")
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "16MiB")
    produced = Noisy(kafka, kafka.topic(topic, partitions=2), 2)
    produced.send(40_000)
    # It stays in its group though it takes nothing for longer than that.
    patience = {**QUICK, "max.poll.interval.ms": "10000"}
    reader = Reader(small_disk / "data", kafka, topic, session_timeout="6s", properties=patience).start()
    try:
        ready = wait_for("a full disk", lambda: (answer := reader.get("/readyz")).status_code == 503 and answer)
        assert ready.json()["code"] == "disk_full"
        have = logged(reader, topic)
        assert 0 < len(have) < 80_000
        with Memory(reader.process.pid) as memory:
            time.sleep(12)
        assert logged(reader, topic)[: len(have)] == have
        source = reader.source()
        assert source["state"] in ("running", "degraded") and len(source["partitions"]) == 2, source
        assert reader.get("/readyz").json()["code"] == "disk_full"
        assert all(place["lag"] > 0 for place in reader.partitions().values())
        assert memory.peak_mib <= MEMORY_MIB
        subprocess.run(["mount", "-o", "remount,size=1g", small_disk], check=True)
        reader.is_at_end()
        assert_exactly_once(reader, produced)
        reader.wait("to be well", lambda: reader.get("/readyz").status_code == 200 and reader.degraded() == [])
        reader.commits(topic)
        assert reader.stop() == 0
        verified(reader.data)
    finally:
        if reader.process.poll() is None:
            reader.kill()


@pytest.mark.parametrize(("call", "error"), [("fdatasync", "EIO"), ("pwrite64", "EIO")])
def test_a_poisoned_log_loses_nothing(kafka: Kafka, topic, tmp_path, call, error):
    produced = Numbered(kafka, kafka.topic(topic, partitions=2), 2)
    reader = Reader(tmp_path / "data", kafka, topic)
    with pytest.MonkeyPatch.context() as patch, Load(produced, 2000):
        patch.setenv("MODELOG_BIN", failing(tmp_path, reader.data / SEGMENT, call, error, 20))
        reader.start()
        reader.wait("poison", lambda: reader.get("/readyz").status_code == 503)
        assert reader.get("/readyz").json()["code"] == "poisoned"
        reader.wait("to say so", lambda: (source := reader.source())["state"] != "running" and source["reason"])
        have = logged(reader, topic)
        # It commits nothing that it does not have.
        time.sleep(1)
        committed = sum(offset for offset, _ in kafka.committed(topic, topic).values())
        assert 0 < len(have) and committed <= len(have)
        assert logged(reader, topic) == have
        reader.stop()
    assert "(INJECTED)" in (tmp_path / "trace").read_text()
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)
    assert reader.stop() == 0
    verified(reader.data)


def test_calls_over_http_are_not_held_up_by_a_backlog(kafka: Kafka, topic, tmp_path, figure):
    """Both take turns at the log."""
    produced = Numbered(kafka, kafka.topic(topic, partitions=2), 2)
    produced.send(100_000)
    reader = Reader(tmp_path / "data", kafka, topic).start()
    answered = threading.Event()
    ids = [f"h-{number}" for number in range(50)]

    def post() -> None:
        for id in ids:
            event = f'{{"type": "PredictionLogged", "id": "{id}", "model": "m", "version": "v", "output": 1}}'
            assert reader.post(event, "application/json").status_code == 200
        answered.set()

    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    reader.is_at_end()
    assert answered.wait(PATIENCE)
    assert [event["id"] for event in reader.events("PredictionLogged", model="m")] == ids
    caught_up(reader)
    assert_exactly_once(reader, produced)
