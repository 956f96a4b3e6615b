"""What redis-py takes to read what a live view holds, as the page on Redis shows it. Prints milliseconds as JSON.

Arguments: the URL of the server, the prefix, how often."""

import json
import statistics
import sys
import time

import redis

url, prefix, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
db = redis.Redis.from_url(url, decode_responses=True)


def version() -> str:
    model = db.hget(f"{prefix}:idx:name:model", "resnet50")
    return db.hget(f"{prefix}:idx:name:version:{model}", "v1.0.0")


def predictions() -> int:
    newest = db.zrevrange(f"{prefix}:idx:predictions:{version()}", 0, 99)
    pipeline = db.pipeline(transaction=False)
    for member in newest:
        pipeline.hgetall(f"{prefix}:prediction:{member[21:]}")
    return sum(1 for found in pipeline.execute() if json.loads(found["input"]) and json.loads(found["output"]))


def series() -> int:
    run = db.hget(f"{prefix}:idx:name:run", "measured")
    return len([json.loads(member[20:]) for member in db.zrange(f"{prefix}:metric:{run}:loss:_", 0, -1)])


def stats() -> int:
    return len(db.hgetall(f"{prefix}:stats:version:{version()}"))


def median(read, wanted: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        found = read()
        taken.append(1000 * (time.perf_counter() - began))
        assert found >= wanted, f"{found} of {wanted}"
    return statistics.median(taken)


print(json.dumps({"predictions": median(predictions, 100), "series": median(series, 1000), "statistics": median(stats, 10)}))
