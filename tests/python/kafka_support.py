"""Topics, groups, and producers that we did not write, for the tests of the Kafka source."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    ElectionType,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from conftest import PATIENCE
from kafka_broker import Broker
from raw import anonymous_mib

# What a broker answers of a partition that it leads since a moment ago.
UNSETTLED = (
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def wait_for(what: str, condition: Callable[[], Any], seen: Callable[[], Any] = lambda: "") -> Any:
    """Waits until the condition holds, and gives what it gave. If it never does, tells what was `seen` last."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}\n{seen()}"
        time.sleep(0.05)
    return found


def metadata_of(place: TopicPartition) -> str:
    """What was committed with a position. The client may go on reading behind its end, where nothing ends it."""
    try:
        return place.metadata or ""
    except UnicodeDecodeError as error:
        return error.object[: error.start].decode()


class Kafka:
    """A cluster, as its administrator and its producers see it."""

    def __init__(self, *brokers: Broker):
        self.brokers = brokers
        self.servers = ",".join(broker.address() for broker in brokers)
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    @property
    def cluster(self) -> str:
        return self.brokers[0].cluster

    # Topics.

    def topic(self, name: str, partitions: int = 1, nodes: list[int] | None = None, **config: str | int) -> str:
        """Creates a topic and waits until its partitions have leaders. Each partition is on all nodes, or alone on the
        one named for it. Underscores in names of settings stand for dots."""
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        where = (
            {"replica_assignment": [[node] for node in nodes]} if nodes else {"replication_factor": len(self.brokers)}
        )
        made = self.admin.create_topics([NewTopic(name, partitions, config=settings, **where)])
        made[name].result(PATIENCE)
        self.is_led(name, partitions)
        return name

    def is_led(self, topic: str, partitions: int) -> None:
        """Waits until all partitions have leaders that know that they are."""
        wait_for(f"leaders of {topic}", lambda: len(self.leaders(topic)) == partitions)
        self.ends(topic)

    def leaders(self, topic: str) -> dict[int, int]:
        """Which node leads each partition that is led."""
        found = self.admin.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
        return {number: partition.leader for number, partition in found.items() if partition.leader >= 0}

    def balance(self, topic: str, partitions: int) -> None:
        """Gives partitions back to the leaders that they were made for, once those have what came meanwhile."""
        places = [TopicPartition(topic, partition) for partition in range(partitions)]

        def preferred() -> bool:
            self.admin.elect_leaders(ElectionType.PREFERRED, places).result(PATIENCE)
            return len(set(self.leaders(topic).values())) == len(self.brokers)

        wait_for(f"leaders of {topic} on all nodes", preferred)

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result(PATIENCE)
        wait_for(f"{topic} to be gone", lambda: topic not in self.admin.list_topics(timeout=PATIENCE).topics)

    def add_partitions(self, topic: str, total: int) -> None:
        self.admin.create_partitions([NewPartitions(topic, total)])[topic].result(PATIENCE)
        self.is_led(topic, total)

    def configure(self, topic: str, **config: str | int) -> None:
        entries = [
            ConfigEntry(key.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET)
            for key, value in config.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(PATIENCE)

    def delete_before(self, topic: str, position: int, partition: int = 0) -> None:
        """What retention does, at once."""
        place = TopicPartition(topic, partition, position)
        self.admin.delete_records([place])[place].result(PATIENCE)

    def offsets(self, topic: str, which: OffsetSpec) -> dict[int, int]:
        places = {TopicPartition(topic, partition): which for partition in self.leaders(topic)}

        def asked() -> dict[int, int] | None:
            found = self.admin.list_offsets(places)
            try:
                return {place.partition: told.result(PATIENCE).offset for place, told in found.items()}
            except KafkaException as error:
                if not error.args[0].retriable() and error.args[0].code() not in UNSETTLED:
                    raise
                return None

        return wait_for(f"offsets of {topic}", asked) if places else {}

    def ends(self, topic: str) -> dict[int, int]:
        """The position after the last message of each partition, transaction markers included."""
        return self.offsets(topic, OffsetSpec.latest())

    # Groups.

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Position and metadata of what the group committed of a topic."""
        asked = [ConsumerGroupTopicPartitions(group)]
        found = self.admin.list_consumer_group_offsets(asked)[group].result(PATIENCE)
        return {
            place.partition: (place.offset, metadata_of(place))
            for place in found.topic_partitions
            if place.topic == topic
        }

    def members(self, group: str) -> list:
        return self.admin.describe_consumer_groups([group])[group].result(PATIENCE).members

    def state(self, group: str) -> str:
        """What the group does, in Kafka's word for it."""
        return self.admin.describe_consumer_groups([group])[group].result(PATIENCE).state.name

    # Messages.

    def producer(self, **settings: str | int) -> Producer:
        """confluent-kafka's. It keeps the order; it is idempotent or transactional if the settings say so. Underscores
        stand for dots."""
        given = {key.replace("_", "."): value for key, value in settings.items()}
        defaults = {"max.in.flight": 1, "linger.ms": 5, "message.max.bytes": 20_000_000, "log_level": 0}
        return Producer({"bootstrap.servers": self.servers, **defaults, **given})

    def send(self, topic: str, values: Iterable[Any], partition: int = 0, **more: Any) -> None:
        """Sends values to a partition, with what else `produce` takes."""
        producer = self.producer()
        for value in values:
            produce(producer, topic, value, partition, **more)
        flush(producer)

    def kcat(self, *arguments: str, input: bytes = b"") -> bytes:
        command = ["kcat", "-b", self.servers, *arguments]
        done = subprocess.run(command, input=input, capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def read(self, topic: str, partition: int = 0) -> list[Message]:
        """What a plain consumer is given of a partition, from its beginning to its end."""
        settings = {
            "bootstrap.servers": self.servers,
            "group.id": "reader",
            "enable.auto.commit": False,
            "log_level": 0,
        }
        consumer = Consumer({**settings, "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, partition, 0)])
        messages: list[Message] = []
        while True:
            # A message without a value counts as false.
            message = consumer.poll(PATIENCE)
            assert message is not None, "a plain consumer is given nothing"
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                break
            messages.append(message)
        consumer.close()
        return messages


def as_bytes(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else json.dumps(value).encode()


def refuse(error, _message) -> None:
    """A test does not go on as if everything had been delivered."""
    if error is not None:
        raise AssertionError(f"not delivered: {error}")


def produce(producer: Producer, topic: str, value: Any, partition: int = 0, **more: Any) -> None:
    """Gives the producer a value: bytes or None as they are, anything else as JSON."""
    while True:
        try:
            producer.produce(topic, as_bytes(value), partition=partition, on_delivery=refuse, **more)
        except BufferError:
            producer.poll(0.1)
            continue
        producer.poll(0)
        return


def flush(producer: Producer) -> None:
    assert producer.flush(PATIENCE) == 0, "messages were not delivered"


class Numbered:
    """Events that count within their partition, so that it shows when one is lost, doubled, or out of order. They have
    no ids by which a repeat would be recognised."""

    def __init__(self, kafka: Kafka, topic: str, partitions: int = 1):
        self.kafka = kafka
        self.topic = topic
        self.sent = dict.fromkeys(range(partitions), 0)

    def event(self, partition: int) -> dict:
        number = self.sent.setdefault(partition, 0)
        self.sent[partition] += 1
        return self.event_of(partition, number)

    def event_of(self, partition: int, number: int) -> dict:
        return {
            "type": "PredictionLogged",
            "model": self.topic,
            "version": "v",
            "prediction_id": f"{partition}-{number}",
            "output": {"of": number},
            "confidence": 0.5,
        }

    def send(self, count: int, *partitions: int, **settings: str | int) -> None:
        """Sends so many to each of the partitions; to all if none is named."""
        producer = self.kafka.producer(**settings)
        for _ in range(count):
            for partition in partitions or list(self.sent):
                produce(producer, self.topic, self.event(partition), partition)
        flush(producer)


class Load:
    """Sends numbered events to all partitions for as long as it is entered."""

    def __init__(self, numbered: Numbered, per_second: int):
        self.numbered = numbered
        self.pause = 0.02
        self.each = max(1, int(per_second * self.pause / len(numbered.sent)))
        self.stopped = threading.Event()
        self.failed: BaseException | None = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        try:
            producer = self.numbered.kafka.producer(enable_idempotence=True)
            while not self.stopped.wait(self.pause):
                for partition in list(self.numbered.sent):
                    for _ in range(self.each):
                        produce(producer, self.numbered.topic, self.numbered.event(partition), partition)
            flush(producer)
        except BaseException as error:
            self.failed = error

    def __enter__(self) -> "Load":
        self.thread.start()
        return self

    def __exit__(self, failure: object, *_) -> None:
        self.stopped.set()
        if failure is None:
            self.thread.join(2 * PATIENCE)
            assert not self.thread.is_alive(), "the producer hangs"
            assert self.failed is None, self.failed


class Memory:
    """The most anonymous memory that a process had while this was entered."""

    def __init__(self, pid: int):
        self.pid = pid
        self.peak_mib = 0.0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)

    def sample(self) -> None:
        while not self.stopped.wait(0.02):
            self.peak_mib = max(self.peak_mib, anonymous_mib(self.pid))

    def __enter__(self) -> "Memory":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        self.thread.join(PATIENCE)
