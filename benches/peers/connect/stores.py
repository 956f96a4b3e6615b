"""From Kafka into a store that people query: PostgreSQL, and streams of Redis. Each store is the same server for everyone."""

import os
import shutil
import signal
import sys
from pathlib import Path

from measure import WARM, Row, measure, rows_of
from servers import Postgres, Process, Redis
from worker import Worker, jdbc

BINARY = os.environ["MODELOG_BIN"]
CONNECT = "Connect, Debezium's JDBC sink"
COPY = "by hand, confluent-kafka and COPY"
XADD = "by hand, confluent-kafka and pipelined XADD"
# How many versions the topic's predictions are of, and how many entries of each its stream keeps at least, by default.
VERSIONS = 8
KEPT = 10_000
# An event as a row, the names as Connect flattens them.
COLUMNS = """type text, prediction_id text, model text, version text, input_image text, output_class bigint,
    output_scores double precision[], predicted_class text, confidence double precision, inference_time_ms double precision"""


def start_modelog(address: str, topic: str, directory: Path, store: str) -> Process:
    """`modelog serve` with its defaults, a topic, and a store."""
    directory.mkdir()
    source = f'[[kafka]]\nbrokers = ["{address}"]\ntopics = ["{topic}"]\ngroup_id = "{directory.name}"\n'
    (directory / "modelog.toml").write_text(source + store)
    serve = [BINARY, "serve", "--config", "modelog.toml", "--data", "data", "--listen", "127.0.0.1:0"]
    return Process(serve, directory)


def start_by_hand(store: str, address: str, topic: str, directory: Path, url: str, name: str) -> Process:
    program = Path(__file__).with_name("by_hand.py")
    return Process([sys.executable, program, store, address, topic, directory.name, url, name], directory)


def must_be(found, wanted, what: str) -> None:
    if found != wanted:
        sys.exit(f"{what}: {found} in place of {wanted}")


class Table:
    """Where one program writes to: in a database of its own."""

    def __init__(self, server: Postgres, name: str, table: str, messages: int):
        self.server, self.name, self.table, self.messages = server, name.replace("-", "_"), table, messages
        with server.connect() as admin:
            # What the one before left to write is not to be written now.
            admin.execute("CHECKPOINT")
            admin.execute(f"CREATE DATABASE {self.name}")
        self.connection = server.connect(self.name)

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def one(self, statement: str, *values):
        return self.connection.execute(statement, values or None).fetchone()[0]

    def rows(self) -> int:
        """The server's statistics are up to a second late: rows are counted where figures begin and where they end."""
        schema, _, name = self.table.rpartition(".")
        told = self.one(
            "SELECT coalesce(sum(n_tup_ins), 0) FROM pg_stat_user_tables WHERE schemaname = %s AND relname = %s",
            schema or "public",
            name,
        )
        is_there = self.one("SELECT to_regclass(%s) IS NOT NULL", self.table)
        if not is_there or WARM * self.messages < told < 0.85 * self.messages:
            return int(told)
        return self.one(f"SELECT count(*) FROM {self.table}")

    def end(self) -> None:
        """Everything must be there, once."""
        must_be(self.one(f"SELECT count(*) FROM {self.table}"), self.messages, f"rows of {self.name}")
        ids = self.one(f"SELECT count(DISTINCT prediction_id) FROM {self.table}")
        must_be(ids, self.messages, f"predictions of {self.name}")
        self.connection.close()
        with self.server.connect() as admin:
            admin.execute(f"DROP DATABASE {self.name} WITH (FORCE)")


def to_postgres(address: str, topic: str, messages: int, rounds: int, directory: Path) -> list[dict]:
    server = Postgres(directory / "postgres")

    def measured(name: str, table: str, start, share: float, columns: str = "") -> dict:
        home = directory / name
        target = Table(server, name, table, messages)
        if columns:
            target.connection.execute(f"CREATE TABLE {table} ({columns})")
        process = start(home, target)
        figures = measure(process, target.rows, messages, share, 0.5)
        process.end(signal.SIGKILL)
        target.end()
        shutil.rmtree(home)
        return figures

    def modelog(home: Path, target: Table) -> Process:
        return start_modelog(address, topic, home, f'[sql]\nurl = "{target.url}"\n')

    def connect(home: Path, target: Table) -> Process:
        sink = jdbc(target.url, target.table, "prediction_id")
        return Worker(address, topic, home.parent, home.name, "jdbc", sink).process

    def by_hand(home: Path, target: Table) -> Process:
        return start_by_hand("postgres", address, topic, home, target.url, target.table)

    keyed = f"{COLUMNS}, PRIMARY KEY (prediction_id)"
    found = []
    for number in range(rounds):
        found.append(
            {
                "Modelog": measured(f"modelog-sql-{number}", "modelog.predictions", modelog, 0),
                CONNECT: measured(f"connect-sql-{number}", "predictions", connect, WARM, keyed),
                # It has no key: a key would refuse what is read twice, and the consumer with it.
                COPY: measured(f"by-hand-sql-{number}", "predictions", by_hand, 0, COLUMNS),
            }
        )
    server.process.end()
    return found


def to_redis(address: str, topic: str, messages: int, rounds: int, directory: Path) -> list[dict]:
    def measured(name: str, start, rows, check) -> dict:
        home = directory / name
        server = Redis(directory / f"{name}-server")
        process = start(home, server)
        figures = measure(process, lambda: rows(server.client), messages)
        check(server.client)
        process.end(signal.SIGKILL)
        server.process.end()
        shutil.rmtree(home)
        return figures

    def modelog(home: Path, server: Redis) -> Process:
        return start_modelog(address, topic, home, f'[redis]\nurl = "{server.url}"\n')

    def modelog_counts(client) -> None:
        must_be(client.hget("aidb:stats", "predictions"), str(messages), "predictions in Redis")
        # Streams keep the newest, and what they have no room for may never have been there. Ids are offsets: none is there twice.
        newest = client.xinfo_stream("aidb:stream:events")["last-generated-id"]
        must_be(newest, f"{messages - 1}-1", "the newest entry of Modelog's stream")
        lengths = [client.xlen(key) for key in client.scan_iter("aidb:stream:predictions:*")]
        must_be(len(lengths), VERSIONS, "streams of versions")
        must_be(min(lengths) >= KEPT, True, f"that each stream keeps {KEPT}")

    def by_hand(home: Path, server: Redis) -> Process:
        return start_by_hand("redis", address, topic, home, server.url, "predictions")

    def by_hand_counts(client) -> None:
        must_be(by_hand_rows(client), messages, "entries of the stream")

    def modelog_rows(client) -> int:
        return int(client.hget("aidb:checkpoint", "offset") or 0)

    def by_hand_rows(client) -> int:
        return client.xlen("predictions")

    found = []
    for number in range(rounds):
        found.append(
            {
                "Modelog": measured(f"modelog-redis-{number}", modelog, modelog_rows, modelog_counts),
                XADD: measured(f"by-hand-redis-{number}", by_hand, by_hand_rows, by_hand_counts),
            }
        )
    return found


def compared_postgres(rounds: list[dict]) -> list[Row]:
    asked = {
        "events_per_second": {CONNECT: "≥ 2 ×", COPY: "≥ 1 ×"},
        "cpu_seconds_per_million": {CONNECT: "≤ 1/5"},
        "anonymous_mib": {CONNECT: "≤ 1/5"},
    }
    return rows_of("Kafka → PostgreSQL", rounds, asked)


def compared_redis(rounds: list[dict]) -> list[Row]:
    """What is asked for is twice what Connect's sink does, which is not in this run."""
    return rows_of("Kafka → Redis streams", rounds, {})
