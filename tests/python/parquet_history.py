"""A history with what makes questions about predictions hard, and the answers, worked out slowly and plainly.

`events` are in log order. `answers` folds them as docs/events.md says, one event at a time, without any of the tools
whose recipes it judges.
"""

import math
import random
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from itertools import groupby

FIRST_DAY = datetime(2026, 11, 16, tzinfo=timezone.utc)
DAYS = 5
CLASSES = ["cat", "dog", "", "fish"]
FEEDBACK = ["true_class", "true_value", "correct", "score"]


def micros(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


def events(seed: int = 7, predictions: int = 600) -> list[dict]:
    draw = random.Random(seed)
    made = [*metrics(draw)]
    for number in range(predictions):
        made += prediction(draw, number)
    draw.shuffle(made)
    return made


def some_time(draw: random.Random) -> int:
    day = FIRST_DAY + timedelta(days=draw.randrange(DAYS))
    # The edges of a day tell UTC from any other zone.
    within = draw.choice([0, 86_400_000_000 - 1, draw.randrange(86_400_000_000)])
    return micros(day) + within


def prediction(draw: random.Random, number: int):
    """One prediction as it may come: whole, in halves, repeated; with labels early, late, contradicting, or none."""
    model = draw.choice(["ranker", "Ranker"])
    version = draw.choice(["v1", "v2", "v10"])
    time = some_time(draw)
    # The same id under both models: two predictions.
    name = f"p-{number // 2}"
    whole = {"type": "PredictionLogged", "model": model, "version": version, "time": time, "prediction_id": name}
    result = {
        "predicted_class": draw.choice(CLASSES),
        "predicted_value": draw.choice([None, draw.uniform(-5, 5), "NaN"]),
        "confidence": draw.choice([None, draw.random(), draw.random(), "NaN", "Infinity"]),
        "inference_time_ms": draw.choice([None, draw.lognormvariate(2, 1), draw.lognormvariate(2, 1), -1.0]),
    }
    result = {field: value for field, value in result.items() if value is not None}
    shape = draw.randrange(6)
    if shape == 0:
        # Halves, of which the second may never come.
        halves = [{**whole, "version": draw.choice([version, "unversioned"]), "part": "request", "input": "{}"}]
        if draw.random() < 0.7:
            halves.append({**whole, **result, "part": "response", "time": time + 1_000})
        if draw.random() < 0.3:
            halves.reverse()
        yield from halves
    elif shape == 1:
        yield {**whole, **result}
        yield {**whole, "confidence": draw.random(), "time": time + 5_000_000, "user_id": "u-1"}
    elif shape == 2:
        # Known by the event's id, or by its place alone.
        del whole["prediction_id"]
        yield {**whole, **result, "id": f"{name}-{number}"}
        yield {**whole, **result}
        name = f"{name}-{number}"
    else:
        yield {**whole, **result}
    for _ in range(draw.choice([0, 0, 1, 1, 3])):
        label = {
            "type": "FeedbackLogged",
            "prediction_id": draw.choice([name, name, name, f"{name}-unknown"]),
            "time": time + draw.choice([-60, 0, 60, 60, 86_400]) * 1_000_000,
            "true_class": draw.choice([None, *CLASSES]),
            "true_value": draw.choice([None, draw.uniform(-5, 5)]),
            "correct": draw.choice([None, None, None, True, False]),
            "score": draw.choice([None, draw.random()]),
            "model": draw.choice([None, model]),
        }
        yield {field: value for field, value in label.items() if value is not None}


def metrics(draw: random.Random):
    for run, split in [("run-1", "train"), ("run-1", "val"), ("run-2", "train"), ("run-2", None)]:
        for step in range(20):
            value = draw.choice([math.exp(-step / 9) + draw.random() / 9, "NaN", "-Infinity"])
            point = {
                "type": "MetricLogged",
                "run": run,
                "name": "loss",
                "value": value,
                "step": step,
                "time": some_time(draw),
            }
            if split:
                point["split"] = split
            if step % 5 == 0:
                # Its step is what its epoch says.
                del point["step"]
                point["epoch"] = step + 0.75
            if step % 7 == 0:
                # That of the run, whatever else is named.
                point |= {"model": "ranker", "version": "v1"}
            yield from [point] * draw.choice([1, 1, 2])
            if step % 6 == 0:
                yield {**point, "time": point["time"] + 1}
        yield {"type": "MetricLogged", "run": run, "name": "Loss", "value": 1.0, "time": some_time(draw)}
    for step in range(5):
        yield {
            "type": "MetricLogged",
            "model": "ranker",
            "version": "v2",
            "name": "loss",
            "value": 0.5,
            "step": step,
            "time": some_time(draw),
        }
    yield {
        "type": "MetricLogged",
        "run": "run-1",
        "name": "loss",
        "value": 0.25,
        "split": "val",
        "time": some_time(draw),
    }


def number(value):
    return float(value.replace("Infinity", "inf")) if isinstance(value, str) else value


def finite(value) -> bool:
    return value is not None and math.isfinite(value)


def quantile(values: list[float], share: float) -> float:
    """Between the two nearest, in proportion."""
    values = sorted(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = math.ceil(place)
    return values[low] + (values[high] - values[low]) * (place - low)


def mean(values) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None


def merged(log: list[tuple[int, dict]]) -> list[dict]:
    """A row per prediction, in the order of first mention."""
    found: dict[tuple, dict] = {}
    for offset, event in log:
        if event["type"] != "PredictionLogged":
            continue
        name = event.get("prediction_id") or event.get("id") or str(offset)
        row = found.setdefault(
            (event["model"], name),
            {"log_offset": offset, "time": event["time"], "complete": False, "prediction_id": name},
        )
        complete = event.get("part") != "request"
        if complete or not row["complete"]:
            row["version"] = event["version"]
        row["complete"] |= complete
        for field in ["model", "user_id", "predicted_class"]:
            row[field] = event.get(field, row.get(field))
        for field in ["predicted_value", "confidence", "inference_time_ms"]:
            row[field] = number(event.get(field, row.get(field)))
    return list(found.values())


def judged(log: list[tuple[int, dict]]) -> list[dict]:
    """A row per prediction, with the feedback that counts."""
    rows = merged(log)
    labels = [(event["time"], offset, event) for offset, event in log if event["type"] == "FeedbackLogged"]
    for row in rows:
        own = [
            label
            for label in labels
            if label[2]["prediction_id"] == row["prediction_id"] and label[2].get("model") in (None, row["model"])
        ]
        time, _, latest = max(own, key=lambda label: label[:2], default=(None, None, {}))
        row["feedback_time"] = time
        row |= {field: latest.get(field) for field in FEEDBACK}
        classes = (row.get("predicted_class"), row["true_class"])
        if row["correct"] is None and None not in classes:
            row["correct"] = classes[0] == classes[1]
    return rows


def by(rows: list[dict], *keys: str):
    def key(row):
        return tuple(row[key] for key in keys)

    return [(found, list(group)) for found, group in groupby(sorted(rows, key=key), key)]


def answers(log: list[tuple[int, dict]]) -> dict[str, list[dict]]:
    rows = judged(log)
    for row in rows:
        row["day"] = str((datetime(1970, 1, 1) + timedelta(microseconds=row["time"])).date())
    complete = [row for row in rows if row["complete"]]
    return {
        "drift": drift(complete),
        "slowest": slowest(complete),
        "accuracy": accuracy(complete),
        "curves": curves(log),
        "wrong": wrong(complete),
    }


def drift(complete: list[dict]) -> list[dict]:
    told: list[dict] = []
    first: dict[tuple, float] = {}
    for (model, version, day), group in by(
        [row for row in complete if finite(row.get("confidence"))], "model", "version", "day"
    ):
        confidence = mean(row["confidence"] for row in group)
        start = first.setdefault((model, version), confidence)
        told.append(
            {
                "model": model,
                "version": version,
                "day": day,
                "predictions": len(group),
                "confidence": confidence,
                "change": confidence - start,
            }
        )
    return told


def slowest(complete: list[dict]) -> list[dict]:
    told = []
    timed = [row for row in complete if finite(row.get("inference_time_ms")) and row["inference_time_ms"] >= 0]
    for (model, version), group in by(timed, "model", "version"):
        times = [row["inference_time_ms"] for row in group]
        told.append(
            {
                "model": model,
                "version": version,
                "predictions": len(group),
                "p50_ms": quantile(times, 0.5),
                "p95_ms": quantile(times, 0.95),
            }
        )
    return sorted(told, key=lambda row: -row["p95_ms"])


def accuracy(complete: list[dict]) -> list[dict]:
    told = []
    for (model, version), group in by(complete, "model", "version"):
        labels = [row["correct"] for row in group if row["correct"] is not None]
        errors = [
            abs(row["predicted_value"] - row["true_value"])
            for row in group
            if finite(row.get("predicted_value")) and finite(row["true_value"])
        ]
        told.append(
            {
                "model": model,
                "version": version,
                "predictions": len(group),
                "labelled": len(labels),
                "coverage": len(labels) / len(group),
                "accuracy": mean(labels),
                "mean_absolute_error": mean(errors),
            }
        )
    return told


def curves(log: list[tuple[int, dict]]) -> list[dict]:
    points: dict[tuple, dict] = {}
    for offset, event in log:
        if event["type"] != "MetricLogged" or event["name"] != "loss" or "run" not in event:
            continue
        step = event.get("step", math.trunc(event.get("epoch", 0)))
        point = {
            "run": event["run"],
            "split": event.get("split"),
            "step": step,
            "time": event["time"],
            "value": number(event["value"]),
            "log_offset": offset,
        }
        # One NaN is as good as another.
        points.setdefault((point["run"], point["split"], step, event["time"], str(point["value"])), point)
    order = defaultdict(list)
    for point in points.values():
        order[point["run"], point["split"] or ""].append(point)
    told = []
    for key in sorted(order):
        told += sorted(order[key], key=lambda point: (point["step"], point["time"], point["log_offset"]))
    return [{field: value for field, value in point.items() if field != "log_offset"} for point in told]


def wrong(complete: list[dict]) -> list[dict]:
    fields = [
        "model",
        "version",
        "prediction_id",
        "time",
        "predicted_class",
        "confidence",
        "true_class",
        "feedback_time",
    ]
    told = [row for row in complete if row["correct"] is False]
    told.sort(key=lambda row: (row["time"], row["log_offset"]))
    return [{field: row.get(field) for field in fields} for row in told]
