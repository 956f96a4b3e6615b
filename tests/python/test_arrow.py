"""Arrow streams as pyarrow writes and reads them."""

from datetime import datetime, timezone

import httpx
import pyarrow as pa
import pytest

STREAM = "application/vnd.apache.arrow.stream"


def stream(table: pa.Table, **options) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=400)
    return sink.getvalue().to_pybytes()


def predictions(rows: int) -> pa.Table:
    return pa.table(
        {
            "model": pa.array(["resnet50"] * rows).dictionary_encode(),
            "version": pa.array(["v1"] * rows, pa.large_string()),
            "prediction_id": pa.array([f"p-{row}" for row in range(rows)], pa.string_view()),
            "input": pa.array([{"pixels": [row, row + 1]} for row in range(rows)]),
            "output": pa.array([[0.25, 0.75]] * rows),
            "predicted_class": pa.array([str(row % 10) for row in range(rows)]),
            "confidence": pa.array([0.5] * rows, pa.float32()),
            "inference_time_ms": pa.array([float(row) for row in range(rows)]),
            "input_tokens": pa.array(list(range(rows)), pa.int16()),
            "time": pa.array([datetime(2026, 11, 22, 17, 0, 0)] * rows, pa.timestamp("ms")),
        }
    )


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_predictions(server, compression):
    answer = server.post(
        stream(predictions(1000), compression=compression), STREAM, params={"kind": "PredictionLogged"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "accepted": 1000,
        "duplicates": 0,
        "rejected": 0,
        "first_offset": 0,
        "end_offset": 1000,
        "unknown_fields": {},
    }
    found = server.json("/v1/models/resnet50/predictions/p-7")
    assert found["input"] == {"pixels": [7, 8]}
    assert found["output"] == [0.25, 0.75]
    assert (found["confidence"], found["inference_time_ms"], found["input_tokens"]) == (0.5, 7.0, 7)
    assert found["time"] == "2026-11-22T17:00:00Z"


def test_the_kind_may_be_in_the_metadata(server):
    table = pa.table({"run": ["r1", "r1"], "name": ["loss", "loss"], "value": [1.0, float("nan")], "step": [1, 2]})
    table = table.replace_schema_metadata({"modelog.kind": "MetricLogged"})
    assert server.post(stream(table), STREAM).json()["accepted"] == 2
    points = server.json("/v1/runs/r1/metrics/loss")["points"]
    assert [point["value"] for point in points] == [1.0, "NaN"]


def test_truncated_streams_are_refused_and_nothing_is_appended(server):
    whole = stream(predictions(900))
    for end in range(0, len(whole) - 16, 997):
        answer = server.post(whole[:end], STREAM, params={"kind": "PredictionLogged"})
        # A stream may end between messages: then it is a shorter one, but not without its schema.
        assert answer.status_code in (200, 400), (end, answer.text)
        if answer.status_code == 400:
            assert answer.json()["code"]
    end = server.json("/v1/stats")["events"]
    assert end % 100 == 0, "only whole record batches"
    assert server.get("/readyz").status_code == 200


def test_answers_can_be_had_as_arrow(server):
    server.post(stream(predictions(300)), STREAM, params={"kind": "PredictionLogged"})
    answer = server.get(
        "/v1/models/resnet50/versions/v1/predictions", params={"limit": 250}, headers={"accept": STREAM}
    )
    assert answer.headers["content-type"] == STREAM
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.num_rows == 250
    assert table.schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert table["prediction_id"][0].as_py() == "p-299"


def test_events_can_be_had_as_arrow(server):
    server.post(stream(predictions(300)), STREAM, params={"kind": "PredictionLogged"})
    with httpx.stream(
        "GET", f"{server.url}/v1/events", params={"kind": "PredictionLogged"}, headers={"accept": STREAM}
    ) as answer:
        table = pa.ipc.open_stream(answer.read()).read_all()
    assert table["log_offset"].to_pylist() == list(range(300))
    assert table["time"][0].as_py() == datetime(2026, 11, 22, 17, tzinfo=timezone.utc)
