"""CloudEvents as the CloudEvents library writes them."""

import json
from datetime import datetime, timezone

import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import CloudEvent as OlderCloudEvent
from cloudevents.v1.http import to_binary as older_to_binary
from cloudevents.v1.http import to_structured as older_to_structured


def prediction(number: int) -> CloudEvent:
    return CloudEvent(
        attributes={
            "type": "PredictionLogged",
            "source": "/serving/eu-1",
            "id": f"e-{number}",
            "specversion": "1.0",
            "time": datetime(2026, 11, 22, 17, 0, number, 250_000, tzinfo=timezone.utc),
            "datacontenttype": "application/json",
        },
        data={
            "model": "resnet50",
            "version": "v1",
            "prediction_id": f"p-{number}",
            "output": {"class": 281},
            "predicted_class": "tabby cat",
            "confidence": 0.5,
        },
    )


def test_structured(server):
    message = to_structured(prediction(1), JSONFormat())
    answer = server.post(message.body, message.headers["content-type"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 1
    found = server.json("/v1/models/resnet50/predictions/p-1")
    assert found["predicted_class"] == "tabby cat"
    assert found["output"] == {"class": 281}
    assert found["time"] == "2026-11-22T17:00:01.250Z"

    # The id makes a repeat recognisable, from the same source only.
    answer = server.post(message.body, message.headers["content-type"])
    assert (answer.json()["accepted"], answer.json()["duplicates"]) == (0, 1)


def test_structured_of_the_older_library(server):
    event = OlderCloudEvent(
        {"type": "metric.logged", "source": "trainer"},
        {"run": "r1", "name": "loss", "value": 0.25, "step": 3},
    )
    headers, body = older_to_structured(event)
    answer = server.post(body, headers["content-type"])
    assert answer.status_code == 200, answer.text
    points = server.json("/v1/runs/r1/metrics/loss")["points"]
    assert [(point["step"], point["value"]) for point in points] == [(3, 0.25)]


def test_binary(server):
    event = prediction(2)
    event = CloudEvent(attributes={**event.get_attributes(), "subject": "€ 1 %"}, data=event.get_data())
    message = to_binary(event, JSONFormat())
    answer = server.post(message.body, headers=message.headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 1
    found = server.json("/v1/models/resnet50/predictions/p-2")
    assert found["output"] == {"class": 281}
    assert found["time"] == "2026-11-22T17:00:02.250Z"
    events = [json.loads(line) for line in server.get("/v1/events").text.splitlines()]
    assert [event["extra"] for event in events if event["type"] == "PredictionLogged"] == [{"ce_subject": "€ 1 %"}]

    answer = server.post(message.body, headers=message.headers)
    assert (answer.json()["accepted"], answer.json()["duplicates"]) == (0, 1)


def test_binary_of_the_older_library(server):
    event = OlderCloudEvent(
        {"type": "metric.logged", "source": "trainer", "datacontenttype": "application/json"},
        {"run": "r2", "name": "loss", "value": 0.25, "step": 3},
    )
    headers, body = older_to_binary(event)
    answer = server.post(body, headers=headers)
    assert answer.status_code == 200, answer.text
    points = server.json("/v1/runs/r2/metrics/loss")["points"]
    assert [(point["step"], point["value"]) for point in points] == [(3, 0.25)]


@pytest.mark.parametrize("mode", [to_binary, to_structured])
def test_both_halves_of_an_inference(server, mode):
    for ty, data in [("request", {"instances": [[5.1]]}), ("response", {"model_version": "7", "predictions": [1]})]:
        attributes = {
            "type": f"org.kubeflow.serving.inference.{ty}",
            "source": "http://localhost:9081/",
            "id": "9f3c6f2e",
            "specversion": "1.0",
            "datacontenttype": "application/json",
            "namespace": "team-a",
            "inferenceservicename": "iris",
            "component": "predictor",
            "endpoint": "",
        }
        message = mode(CloudEvent(attributes=attributes, data=data), JSONFormat())
        answer = server.post(message.body, headers=message.headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["accepted"] == 1
    found = server.json("/v1/models/team-a%2Firis/predictions/9f3c6f2e")
    assert found["version"] == "7"
    assert found["input"] == {"instances": [[5.1]]}
    assert found["output"] == {"model_version": "7", "predictions": [1]}


def test_batch(server):
    events = [json.loads(to_structured(prediction(number), JSONFormat()).body) for number in range(5)]
    answer = server.post(json.dumps(events), "application/cloudevents-batch+json")
    assert answer.json()["accepted"] == 5, answer.text
    items = server.json("/v1/models/resnet50/versions/v1/predictions")["items"]
    assert [item["prediction_id"] for item in items] == ["p-4", "p-3", "p-2", "p-1", "p-0"]


def test_a_bad_one_refuses_the_batch_and_is_named(server):
    events = [json.loads(to_structured(prediction(number), JSONFormat()).body) for number in range(3)]
    del events[1]["data"]["model"]
    answer = server.post(json.dumps(events), "application/cloudevents-batch+json")
    assert answer.status_code == 400
    error = answer.json()["errors"][0]
    assert (error["event"], error["field"]) == (1, "model")
    assert server.json("/v1/stats")["events"] == 0
