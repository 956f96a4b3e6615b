"""What people write themselves: a consumer that hands on what came, waits until the store has it, then commits its place.

python by_hand.py postgres BROKERS TOPIC GROUP URL TABLE
python by_hand.py redis BROKERS TOPIC GROUP URL STREAM

At least once, whatever is killed: what was written and not yet committed is written again.
"""

import json
import signal
import sys

import psycopg
import redis
from confluent_kafka import Consumer

BATCH = 5000
NAMES = (
    "type",
    "prediction_id",
    "model",
    "version",
    "input_image",
    "output_class",
    "output_scores",
    "predicted_class",
    "confidence",
    "inference_time_ms",
)


def fields(message) -> tuple:
    event = json.loads(message.value())
    return (
        event["type"],
        event["prediction_id"],
        event["model"],
        event["version"],
        event["input"]["image"],
        event["output"]["class"],
        event["output"]["scores"],
        event["predicted_class"],
        event["confidence"],
        event["inference_time_ms"],
    )


def to_postgres(url: str, table: str):
    """One COPY, one transaction."""
    connection = psycopg.connect(url)

    def write(messages: list) -> None:
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for message in messages:
                copy.write_row(fields(message))
        connection.commit()

    return write


def to_redis(url: str, stream: str):
    """One pipeline, an entry for each event."""
    client = redis.Redis.from_url(url)

    def write(messages: list) -> None:
        pipeline = client.pipeline(transaction=False)
        for message in messages:
            entry = dict(zip(NAMES, fields(message)))
            entry["output_scores"] = json.dumps(entry["output_scores"])
            pipeline.xadd(stream, entry)
        pipeline.execute()

    return write


def main() -> None:
    store, brokers, topic, group, url, name = sys.argv[1:]
    write = {"postgres": to_postgres, "redis": to_redis}[store](url, name)
    settings = {"bootstrap.servers": brokers, "group.id": group}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    while True:
        messages = [message for message in consumer.consume(BATCH, 0.5) if not message.error()]
        if messages:
            write(messages)
            consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
