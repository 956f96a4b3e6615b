"""What messages may look like, and what becomes of those that nobody understands."""

import base64
import hashlib
import json
import random
from datetime import datetime, timezone

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from conftest import caught_up
from kafka_reader import Reader, assert_exactly_once, logged
from kafka_support import Kafka, Numbered, as_bytes, flush, produce


@pytest.fixture
def reader(tmp_path, kafka, topic):
    return Reader(tmp_path / "data", kafka, kafka.topic(topic))


def prediction(topic: str, id: str, **more) -> dict:
    return {
        "type": "PredictionLogged",
        "model": topic,
        "version": "v",
        "prediction_id": id,
        "output": {"of": id},
        **more,
    }


def rejected(reader: Reader) -> list[dict]:
    """What was not understood, with its bytes."""
    found = reader.events("EventRejected")
    return [{**event, "raw": base64.b64decode(event.get("raw") or "")} for event in found]


# Flat events.


def test_one_event_and_arrays_of_them(kafka: Kafka, topic, reader: Reader):
    kafka.send(topic, [prediction(topic, "0-0"), [], [prediction(topic, f"0-{at}") for at in range(1, 200)]])
    # Blanks around it, and an end of line.
    kafka.send(
        topic, [b" \r\n" + as_bytes(prediction(topic, "0-200")) + b"\n", as_bytes([prediction(topic, "0-201")]) + b"\n"]
    )
    lines = b"".join(as_bytes(prediction(topic, f"0-{at}")) + b"\n" for at in range(202, 300))
    kafka.send(topic, [lines], headers=[("Content-Type", b"application/x-ndjson; charset=utf-8")])
    reader.start().is_at_end()
    assert rejected(reader) == []
    assert logged(reader, topic) == [f"0-{at}" for at in range(300)]
    caught_up(reader)
    assert reader.json(f"/v1/models/{topic}/predictions/0-202")["output"] == {"of": "0-202"}


def test_kinds_of_events(kafka: Kafka, topic, reader: Reader):
    events = [
        {"type": "ModelCreated", "model": topic, "framework": "PyTorch"},
        {"type": "run.started", "run": f"{topic}-r", "model": topic, "version": "v"},
        {"type": "MetricLogged", "run": f"{topic}-r", "name": "loss", "value": "NaN", "step": 1},
        {"type": "feedback_logged", "prediction_id": "p", "model": topic, "version": "v", "true_class": "cat"},
        {"type": "EventLogged", "name": "deployed", "data": {"big": 12345678901234567890}, "colour": "red"},
    ]
    kafka.send(topic, events)
    reader.start().is_at_end()
    assert [event["type"] for event in reader.events()] == [
        "ModelCreated",
        "RunStarted",
        "MetricLogged",
        "FeedbackLogged",
        "EventLogged",
    ]
    assert reader.events("EventLogged")[0]["extra"] == {"colour": "red"}
    caught_up(reader)
    assert reader.json(f"/v1/models/{topic}")["framework"] == "PyTorch"
    assert reader.json(f"/v1/runs/{topic}-r/metrics/loss")["points"][0]["value"] == "NaN"


# CloudEvents, as their library writes them.


def cloud_event(topic: str, number: int) -> CloudEvent:
    return CloudEvent(
        attributes={
            "type": "PredictionLogged",
            "source": "/serving/eu-1",
            "id": f"e-{number}",
            "specversion": "1.0",
            "time": datetime(2026, 11, 22, 17, 0, number, 250_000, tzinfo=timezone.utc),
            "datacontenttype": "application/json",
            "partitionkey": f"key-{number}",
            "shard": "7",
        },
        data={"model": topic, "version": "v", "prediction_id": f"0-{number}", "output": {"class": 281}},
    )


def send_message(kafka: Kafka, topic: str, message: KafkaMessage) -> None:
    headers = list(message.headers.items())
    kafka.send(topic, [message.value], key=message.key, headers=headers)


@pytest.mark.parametrize("mode", [to_binary, to_structured])
@pytest.mark.parametrize("format", ["auto", "cloudevents"])
def test_cloud_events(kafka: Kafka, topic, reader: Reader, mode, format):
    reader.configure(format=format)
    for number in [0, 1, 2, 1]:
        send_message(kafka, topic, mode(cloud_event(topic, number), JSONFormat()))
    reader.start().is_at_end()
    assert rejected(reader) == []
    # The one with an id that was there is a duplicate.
    events = reader.events("PredictionLogged")
    assert [event["id"] for event in events] == ["e-0", "e-1", "e-2"]
    assert {event["source"] for event in events} == {"/serving/eu-1"}
    assert [event["time"] for event in events] == [f"2026-11-22T17:00:0{number}.250Z" for number in range(3)]
    # What else they say is kept.
    assert "7" in json.dumps(events[0]["extra"]) and "key-0" in json.dumps(events[0]["extra"])
    caught_up(reader)
    assert reader.json(f"/v1/models/{topic}/predictions/0-2")["output"] == {"class": 281}


def test_cloud_events_in_batches_and_without_a_content_type(kafka: Kafka, topic, reader: Reader):
    structured = [json.loads(to_structured(cloud_event(topic, number), JSONFormat()).value) for number in range(6)]
    batch = [("content-type", b"application/cloudevents-batch+json; charset=UTF-8")]
    kafka.send(topic, [structured[:3]], headers=batch)
    kafka.send(topic, structured[3:])
    # Names of headers in capitals, as some libraries write them; and nothing but headers is a tombstone.
    message = to_binary(cloud_event(topic, 6), JSONFormat())
    headers = [(name.upper(), value) for name, value in message.headers.items()]
    kafka.send(topic, [message.value, None], headers=headers)
    reader.start().is_at_end()
    assert rejected(reader) == []
    assert logged(reader, topic) == [f"0-{number}" for number in range(7)]
    assert reader.metric("modelog_kafka_tombstones_total", group=topic, topic=topic) == 1


# KServe's inference logger.


def kserve(half: str, id: str, content_type: bytes = b"application/json", **more: str) -> list[tuple[str, bytes]]:
    attributes = {
        "specversion": "1.0",
        "id": id,
        "source": "http://localhost:9081/",
        "type": f"org.kubeflow.serving.inference.{half}",
        "time": "2026-11-22T17:00:00.25Z",
        "inferenceservicename": "flowers",
        "namespace": "production",
        "component": "predictor",
        "endpoint": "",
        **more,
    }
    return [("content-type", content_type), *((f"ce_{name}", value.encode()) for name, value in attributes.items())]


@pytest.mark.parametrize("format", ["auto", "kserve"])
def test_kserve(kafka: Kafka, topic, reader: Reader, format):
    reader.configure(format=format)
    request = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [6.8, 2.8]}]}
    response = {"model_name": "flowers", "model_version": "3", "outputs": [{"name": "y", "data": [1]}]}
    producer = kafka.producer()
    produce(producer, topic, request, headers=kserve("request", "r-1"))
    produce(producer, topic, response, headers=kserve("response", "r-1"))
    # Halves come in any order, and the type of their bodies is whatever the caller said it was.
    form = b"application/x-www-form-urlencoded"
    produce(producer, topic, response, headers=kserve("response", "r-2", form))
    produce(producer, topic, request, headers=kserve("request", "r-2", form))
    # Half a prediction is logged at once.
    produce(producer, topic, {"instances": [[1]]}, headers=kserve("request", "r-3", endpoint="canary"))
    flush(producer)
    reader.start().is_at_end()
    assert rejected(reader) == []
    halves = reader.events("PredictionLogged")
    assert [event["part"] for event in halves] == ["request", "response", "response", "request", "request"]
    assert {event["model"] for event in halves} == {"production/flowers"}
    assert halves[4]["version"] == "canary"
    caught_up(reader)
    for id in ("r-1", "r-2"):
        found = reader.json(f"/v1/models/production%2Fflowers/predictions/{id}")
        assert (found["input"], found["output"]) == (request, response)
    assert reader.json("/v1/stats", params={"at_least": len(halves)})["predictions"] == 2
    # Produced again, they are known.
    kafka.send(topic, [request], headers=kserve("request", "r-1"))
    kafka.send(topic, [response], headers=kserve("response", "r-1"))
    reader.is_at_end()
    assert len(reader.events("PredictionLogged")) == 5


def test_kserve_bodies_that_are_no_json(kafka: Kafka, topic, reader: Reader):
    bodies = [b"a=1&b=2", b"\x00\x01\xff\xfe", b"", b"{broken"]
    for number, body in enumerate(bodies):
        kafka.send(topic, [body], headers=kserve("request", f"r-{number}", b"application/octet-stream"))
    reader.start().is_at_end()
    assert rejected(reader) == []
    events = reader.events("PredictionLogged")
    assert [event["prediction_id"] for event in events] == [f"r-{number}" for number in range(len(bodies))]
    assert events[0]["input"] == "a=1&b=2"
    assert base64.b64encode(bodies[1]).decode() in json.dumps(events[1]["input"])
    assert events[3]["input"] == "{broken"


# Messages of Confluent's serializers.


def framed(value: bytes, schema: int = 100_042) -> bytes:
    return b"\x00" + schema.to_bytes(4, "big") + value


def test_confluent_framing(kafka: Kafka, topic, reader: Reader):
    kafka.send(topic, [framed(as_bytes(prediction(topic, f"0-{at}")), at) for at in range(100)])
    avro = framed(bytes([2, 12]) + b"resnet\x02v")
    kafka.send(topic, [avro, framed(b""), prediction(topic, "0-100")])
    reader.start().is_at_end()
    assert logged(reader, topic) == [f"0-{at}" for at in range(101)]
    assert [(event["raw"], event["position"].split(",")[0]) for event in rejected(reader)] == [
        (avro, f"{topic}/0/100"),
        (framed(b""), f"{topic}/0/101"),
    ]
    assert "Avro" in rejected(reader)[0]["message"]


# What cannot be understood.


def test_poison_between_good_messages(kafka: Kafka, topic, reader: Reader):
    """It is kept where it was, with all that belongs to it, and holds up nothing."""
    produced = Numbered(kafka, topic)
    produced.send(500)
    poison = b'{"type": "PredictionLogged", "model": '
    headers = [("trace", b"4bf92f"), ("trace", None), ("bytes", b"\xff\x00")]
    kafka.send(topic, [poison], key=b"key\xff", headers=headers)
    produced.send(500)
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)
    (event,) = rejected(reader)
    assert (event["reason"], event["raw"]) == ("bad_json", poison)
    assert event["position"].startswith(f"{topic}/0/500, byte ")
    assert base64.b64decode(event["key"]) == b"key\xff"
    assert json.dumps(event["headers"]).count("trace") == 2 and "4bf92f" in json.dumps(event["headers"])
    # In its place.
    kinds = [event["type"] for event in reader.events()]
    assert kinds == ["PredictionLogged"] * 500 + ["EventRejected"] + ["PredictionLogged"] * 500
    assert reader.metric("modelog_ingest_rejected_total", source="kafka", reason="bad_json") == 1
    assert reader.commits(topic) == {0: 1001}
    assert (reader.source()["state"], reader.degraded()) == ("running", [])
    # Killed and started again, it is not read again.
    reader.kill()
    reader.start().is_at_end()
    assert len(rejected(reader)) == 1


def test_a_bad_event_in_an_array(kafka: Kafka, topic, reader: Reader):
    """The others are taken; what is kept is the bad one alone."""
    events = [prediction(topic, f"0-{at}") for at in range(5)]
    bad = {**events[2], "confidence": "high"}
    kafka.send(topic, [[*events[:2], bad, *events[3:]]])
    reader.start().is_at_end()
    assert logged(reader, topic) == ["0-0", "0-1", "0-3", "0-4"]
    (event,) = rejected(reader)
    assert (event["reason"], event["raw"]) == ("wrong_type", as_bytes(bad))
    assert event["position"].startswith(f"{topic}/0/0#2")
    assert [event["type"] for event in reader.events()].index("EventRejected") == 2


def test_large_messages(kafka: Kafka, topic, reader: Reader):
    """Too large for an event: its bytes are kept up to 16 MiB, and beyond that their beginning, length and hash."""
    kafka.configure(topic, max_message_bytes=20 << 20)
    sizes = {at: 10_000_000 if at < 3 else 18_000_000 for at in range(4)}
    large = [
        as_bytes(prediction(topic, f"9-{at}", output=random.Random(at).randbytes(size // 2).hex()))
        for at, size in sizes.items()
    ]
    produced = Numbered(kafka, topic)
    for message in large:
        produced.send(1)
        kafka.send(topic, [message])
    produced.send(1)
    reader.start().is_at_end()
    assert_exactly_once(reader, produced)
    kept = rejected(reader)
    assert [event["position"].split(",")[0] for event in kept] == [f"{topic}/0/{at}" for at in (1, 3, 5, 7)]
    assert [event["raw"] for event in kept[:3]] == large[:3]
    assert large[3].startswith(kept[3]["raw"]) and len(kept[3]["raw"]) <= 16 << 20
    assert (kept[3]["raw_bytes"], kept[3]["raw_sha256"]) == (len(large[3]), hashlib.sha256(large[3]).hexdigest())
    assert reader.commits(topic) == {0: 9}


def garbage(random_: random.Random) -> bytes:
    """Bytes, or an event that something happened to."""
    choice = random_.randrange(6)
    if choice == 0:
        # Lines and elements would be rejected each by itself.
        return random_.randbytes(random_.randrange(1, 2000)).replace(b"\n", b"\xff").replace(b"[", b"\xff")
    if choice == 1:
        return b'{"a":' * random_.randrange(1, 4000)
    if choice == 2:
        return as_bytes({"type": "NoSuchKind", "model": "m"})
    if choice == 3:
        return as_bytes({"type": "EventRejected", "reason": "mine"})
    event = bytearray(as_bytes(prediction("m", "p")))
    if choice == 4:
        return bytes(event[: random_.randrange(1, len(event) - 1)])
    event[random_.randrange(len(event))] = random_.randrange(128, 256)
    return bytes(event)


def test_a_topic_of_garbage(kafka: Kafka, topic, reader: Reader, seed):
    random_ = random.Random(seed)
    messages = [b"", *(garbage(random_) for _ in range(3000))]
    kafka.send(topic, messages)
    reader.start().is_at_end()
    kept = rejected(reader)
    assert [event["raw"] for event in kept] == messages
    assert [event["position"].split(",")[0] for event in kept] == [f"{topic}/0/{at}" for at in range(len(messages))]
    assert all(event["reason"] and event["message"] for event in kept)
    assert reader.metric("modelog_ingest_rejected_total", source="kafka") == len(messages)
    assert (reader.source()["state"], reader.degraded()) == ("running", [])
    # And good ones after it.
    produced = Numbered(kafka, topic)
    produced.send(100)
    reader.is_at_end()
    assert_exactly_once(reader, produced)
    reader.kill()
    reader.start().is_at_end()
    assert len(rejected(reader)) == len(messages)


def test_garbage_that_says_what_it_is(kafka: Kafka, topic, reader: Reader):
    """Headers promise what the value does not keep."""
    headers = [
        [("content-type", b"application/vnd.apache.arrow.stream")],
        [("content-type", b"application/cloudevents+json")],
        [("content-type", b"\xff\xfe")],
        [("ce_specversion", b"1.0")],
        [("ce_specversion", b"0.3"), ("ce_type", b"PredictionLogged"), ("ce_id", b"1"), ("ce_source", b"s")],
        [("ce_specversion", b"1.0"), ("ce_type", b"\xff"), ("ce_id", b"1"), ("ce_source", b"s")],
        [("ce_specversion", None), ("ce_type", None)],
        [("ce_type", b"org.kubeflow.serving.inference.request"), ("ce_specversion", b"1.0")],
    ]
    for given in headers:
        kafka.send(topic, [b"not what it says"], headers=given)
    reader.start().is_at_end()
    kept = rejected(reader)
    assert [event["raw"] for event in kept] == [b"not what it says"] * len(headers)
    assert all(event["headers"] for event in kept)


@pytest.mark.parametrize("format", ["json", "cloudevents", "kserve"])
def test_one_format_alone(kafka: Kafka, topic, reader: Reader, format):
    """Whoever names a format gets everything else as rejected."""
    reader.configure(format=format)
    kafka.send(topic, [prediction(topic, "json")])
    send_message(kafka, topic, to_binary(cloud_event(topic, 1), JSONFormat()))
    kafka.send(topic, [{"instances": [1]}], headers=kserve("request", "r-1"))
    reader.start().is_at_end()
    taken = {"json": "json", "cloudevents": "0-1", "kserve": "r-1"}[format]
    assert taken in [event["prediction_id"] for event in reader.events("PredictionLogged")]
    assert len(reader.events()) == 3, "nothing is dropped"
