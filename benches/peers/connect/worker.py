"""Kafka Connect: a worker with one sink, with the heap and the collector of its own start script, and two tasks."""

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from servers import Process, free_port, make_topic

TASKS = 2
POLL = 5000


def field(name: str, kind: str, **more) -> dict:
    return {"field": name, "type": kind, "optional": True, **more}


def schema(of_output: list[dict]) -> str:
    """What an event is, as Connect's JSON converter wants to be told. It leaves out what it is not told of."""
    fields = [
        *(field(name, "string") for name in ["type", "prediction_id", "model", "version"]),
        field("input", "struct", fields=[field("image", "string")]),
        field("output", "struct", fields=of_output),
        field("predicted_class", "string"),
        field("confidence", "double"),
        field("inference_time_ms", "double"),
    ]
    return json.dumps({"type": "struct", "optional": False, "fields": fields}, separators=(",", ":"))


CLASS = field("class", "int64")
SCORES = field("scores", "array", items={"type": "double", "optional": True})


class Worker:
    """It may be killed and started again."""

    def __init__(self, address: str, topic: str, directory: Path, name: str, plugin: str, sink: dict):
        self.directory = directory / name
        self.directory.mkdir()
        plugins = self.directory / "plugins"
        plugins.mkdir()
        (plugins / plugin).symlink_to(Path(f"{os.environ['MODELOG_CONNECT_JARS']}-{plugin}").absolute())
        self.write(
            "worker.properties",
            {
                "bootstrap.servers": address,
                "listeners": f"http://127.0.0.1:{free_port()}",
                "plugin.path": plugins,
                "plugin.discovery": "hybrid_warn",
                "offset.storage.file.filename": self.directory / "offsets",
                "key.converter": "org.apache.kafka.connect.storage.StringConverter",
                "value.converter": "org.apache.kafka.connect.storage.StringConverter",
                # Iceberg's sink commits late with the default of a minute.
                "offset.flush.interval.ms": 1000,
                # Large polls, which are large batches: it is faster so than with its defaults.
                "consumer.max.poll.records": POLL,
                "consumer.max.partition.fetch.bytes": 8 << 20,
                "consumer.fetch.max.bytes": 64 << 20,
                "consumer.fetch.min.bytes": 256 << 10,
                "consumer.fetch.max.wait.ms": 200,
            },
        )
        self.write(
            "sink.properties",
            {
                "name": name,
                "topics": topic,
                "tasks.max": TASKS,
                "value.converter": "org.apache.kafka.connect.json.JsonConverter",
                "value.converter.schemas.enable": "true",
                "value.converter.schema.content": schema([CLASS, SCORES]),
                **sink,
            },
        )
        self.start()

    def write(self, name: str, settings: dict) -> None:
        (self.directory / name).write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    def start(self) -> None:
        java = ["java", "-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
        java += ["-XX:InitiatingHeapOccupancyPercent=35", "-Djava.awt.headless=true"]
        jars = f"{os.environ['MODELOG_CONNECT_JARS']}-worker/*"
        java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", jars]
        properties = [self.directory / name for name in ["worker.properties", "sink.properties"]]
        self.process = Process([*java, "org.apache.kafka.connect.cli.ConnectStandalone", *properties], self.directory)


class Iceberg(Worker):
    """Parquet files in a table of Apache Iceberg, with zstd."""

    table = "peers.predictions"

    def __init__(self, address: str, topic: str, directory: Path, name: str):
        # Its consumers may miss a topic that is made when it is first used.
        make_topic(address, f"{name}-control")
        sink = {
            "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
            "iceberg.catalog.type": "hadoop",
            "iceberg.catalog.warehouse": f"file://{directory / name}/warehouse",
            "iceberg.tables": self.table,
            "iceberg.tables.auto-create-enabled": "true",
            "iceberg.control.topic": f"{name}-control",
            "iceberg.control.commit.interval-ms": 10000,
            f"iceberg.table.{self.table}.write-props.write.parquet.compression-codec": "zstd",
        }
        super().__init__(address, topic, directory, name, "iceberg", sink)

    def rows(self) -> int:
        """Those in the table's current snapshot."""
        metadata = self.directory / "warehouse" / self.table.replace(".", "/") / "metadata"
        newest = max(metadata.glob("*.metadata.json"), key=lambda file: file.stat().st_mtime_ns, default=None)
        if newest is None:
            return 0
        try:
            table = json.loads(newest.read_text())
        except ValueError:
            # It is being written.
            return 0
        current = [it for it in table["snapshots"] if it["snapshot-id"] == table.get("current-snapshot-id")]
        return int(current[0]["summary"].get("total-records", 0)) if current else 0


def jdbc(url: str, table: str, key: str) -> dict:
    """Debezium's sink: rows of a table, put in or replaced by their key, a poll's worth in one statement."""
    database = urlsplit(url)
    return {
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "connection.url": f"jdbc:postgresql://{database.hostname}:{database.port}{database.path}",
        "connection.username": database.username,
        "connection.password": "",
        "collection.name.format": table,
        "insert.mode": "upsert",
        "primary.key.mode": "record_value",
        "primary.key.fields": key,
        "batch.size": POLL,
        "dialect.postgres.unnest.insert.enabled": "true",
        # Such a statement has arrays of values, and takes arrays within them for more rows: it gets one thing less to write.
        "value.converter.schema.content": schema([CLASS]),
        "transforms": "flat",
        "transforms.flat.type": "org.apache.kafka.connect.transforms.Flatten$Value",
        "transforms.flat.delimiter": "_",
    }
