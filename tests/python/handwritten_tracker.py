"""An experiment tracker as people write one for themselves, over redis-py: the keys of the convention, and habits of their own."""

import json
import time
from datetime import datetime, timezone
from urllib.parse import quote

import redis

# A day long ago, so that nothing depends on when the tests run.
EPOCH = 1_795_366_800.0  # 2026-11-22T17:00:00Z


class Tracker:
    def __init__(self, db: redis.Redis, prefix: str = "aidb"):
        self.db = db
        self.prefix = prefix
        self.now = EPOCH

    def key(self, *parts) -> str:
        return ":".join([self.prefix, *map(str, parts)])

    def tick(self, seconds: float = 1.0) -> float:
        self.now += seconds
        return self.now

    def iso(self) -> str:
        return datetime.fromtimestamp(self.tick(), timezone.utc).isoformat()

    def next_id(self, kind: str) -> int:
        return self.db.incr(self.key("counter", kind))

    def put(self, kind: str, plural: str, name: str, fields: dict) -> int:
        number = self.next_id(kind)
        fields = {name: json.dumps(value) if isinstance(value, (dict, list)) else value for name, value in fields.items()}
        self.db.hset(self.key(kind, number), mapping={"id": number} | fields)
        self.db.zadd(self.key("idx", plural), {number: self.now})
        self.db.hset(self.key("idx", "name", kind), name, number)
        return number

    def create_model(self, name: str, **fields) -> int:
        return self.put("model", "models", name, {"name": name, "created_at": self.iso()} | fields)

    def create_version(self, model: int, version: str, **fields) -> int:
        fields = {"model_id": model, "version": version, "created_at": self.tick()} | fields
        return self.put("version", f"versions:{model}", version, fields)

    def register_dataset(self, name: str, **fields) -> int:
        return self.put("dataset", "datasets", name, {"name": name, "created_at": self.iso()} | fields)

    def create_experiment(self, name: str, **fields) -> int:
        return self.put("experiment", "experiments", name, {"name": name, "created_at": self.iso()} | fields)

    def start_run(self, experiment: int, version: int, dataset: int, **fields) -> int:
        run = self.next_id("run")
        started = datetime.fromtimestamp(self.tick(), timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")
        mapping = {"id": run, "version_id": version, "dataset_id": dataset, "status": "running", "start_time": started}
        self.db.hset(self.key("run", run), mapping=mapping | fields)
        self.db.sadd(self.key("exprun", experiment, "runs"), run)
        self.db.zadd(self.key("idx", "runs"), {run: self.now})
        return run

    def log_params(self, run: int, **params) -> None:
        # Python's own way to make text of what is no text.
        self.db.hset(self.key("hyperparam", run), mapping={name: str(value) for name, value in params.items()})

    def log_metric(self, run: int, name: str, value: float, step: int, split: str = "_", **more) -> None:
        member = json.dumps({"step": step, "value": value, "timestamp": self.tick(0.01)} | more)
        self.db.zadd(self.key("metric", run, quote(name, safe=""), split), {member: step})
        self.db.xadd(self.key("stream", "metrics", run), {"name": name, "value": value})

    def finish_run(self, run: int, status: str = "completed", **fields) -> None:
        self.db.hset(self.key("run", run), mapping={"status": status, "end_time": self.iso()} | fields)

    def log_prediction(self, version: int, input: dict, output: dict, predicted: str, confidence: float, **fields) -> int:
        number = self.next_id("prediction")
        mapping = {"id": number, "version_id": version, "input": json.dumps(input), "output": json.dumps(output)}
        mapping |= {"predicted_class": predicted, "confidence": confidence, "latency_ms": 5 + number % 7}
        mapping |= {"created_at": self.tick(0.001)} | fields
        pipeline = self.db.pipeline()
        pipeline.hset(self.key("prediction", number), mapping=mapping)
        pipeline.zadd(self.key("idx", "predictions", version), {number: self.now})
        pipeline.execute()
        return number

    def feedback(self, prediction: int, truth: str) -> None:
        self.db.hset(self.key("prediction", prediction), mapping={"true_label": truth, "feedback_at": self.tick()})


def fill(db: redis.Redis, prefix: str = "aidb", predictions: int = 20) -> Tracker:
    """Two models with a version each, three runs, and what they said of pictures."""
    tracker = Tracker(db, prefix)
    resnet = tracker.create_model("resnet50", architecture="ResNet-50", framework="PyTorch", task="classification", owner="alice")
    vit = tracker.create_model("vit/b:16", architecture="ViT-B/16", framework="JAX", tags={"stage": "prod"})
    v1 = tracker.create_version(resnet, "v1.0.0", checkpoint_path="models/resnet50_v1.pth", config={"layers": 50})
    v2 = tracker.create_version(vit, "2", path="models/vit.npz", config={"layers": 12, "dropout": float("nan")})
    imagenet = tracker.register_dataset("imagenet", path="/data/imagenet", num_samples=1_281_167, splits={"train": 0.9})
    baseline = tracker.create_experiment("baseline", description="all defaults")
    for number, (version, status) in enumerate([(v1, "completed"), (v2, "failed"), (v1, None)]):
        run = tracker.start_run(baseline, version, imagenet, name=f"try {number}", user="alice", gpu="A100")
        tracker.log_params(run, lr=0.1, batch_size=256, optimizer="sgd", nesterov=True, schedule={"warmup": 5})
        for step in range(10):
            diverged = status == "failed" and step > 6
            tracker.log_metric(run, "loss", float("nan") if diverged else 1 / (1 + step), step, "train", epoch=step // 5)
            tracker.log_metric(run, "val:top1/é", step / 10, step, "val")
        if status:
            tracker.finish_run(run, status, **({"error": "loss is nan"} if status == "failed" else {}))
    classes = ["cat", "dog"]
    for at in range(predictions):
        said = classes[at % 2]
        made = tracker.log_prediction((v1, v2)[at % 2], {"image": f"{at}.jpg"}, {"class": at % 2}, said, 0.5 + at % 50 / 100)
        if at % 2 == 0:
            tracker.feedback(made, classes[at % 4 // 2])
    db.hset(tracker.key("stats"), mapping={"predictions": predictions, "updated": time.time()})
    return tracker
