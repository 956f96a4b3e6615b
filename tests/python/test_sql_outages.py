"""PostgreSQL and MariaDB that are killed, away, busy or full, and we who are killed: what was acknowledged is there, once."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pymysql
import pytest
from conftest import Server, ndjson
from redis_support import Redis
from sql_support import (  # noqa: F401
    SERVERS, USER, Database, SqlServer, caught_up, database, rebuild, same, settings, shared, status
)  # fmt: skip
from test_disk import noise, use_up
from test_redis import STORY, post, prediction, until
from test_redis import caught_up as follows

# The long version takes ten times as many.
KILLS = 100 if os.environ.get("MODELOG_TESTS_FULL") else 10


class Load:
    """Posts until told to stop, and sends again what was not answered: events have ids, so a repeat is known as one."""

    def __init__(self, server: Server):
        self.server = server
        self.calls = self.predictions = 0
        self.stop = threading.Event()

    def call(self) -> list[dict]:
        at = self.calls
        events = [prediction(f"{at}-{one}", id=f"p-{at}-{one}", confidence=0.5) for one in range([1, 20, 200][at % 3])]
        # The other half of one that the batch before brought.
        events.append(prediction(f"{max(at - 1, 0)}-0", id=f"half-{at}", predicted_class=str(at)))
        events.append({"type": "FeedbackLogged", "id": f"f-{at}", "prediction_id": f"p-{at}-0", "correct": True})
        events.append({"type": "MetricLogged", "id": f"m-{at}", "run": "r", "name": "loss", "value": at, "step": at})
        return events

    def run(self) -> None:
        while True:
            events = self.call()
            try:
                answered = self.server.post(ndjson(*events)).status_code == 200
            except httpx.HTTPError:
                answered = False
                time.sleep(0.01)
            if answered:
                self.predictions += len(events) - 3
                self.calls += 1
                # Not as fast as it can: much to check would not be more of what is looked for.
                if self.stop.wait(0.01):
                    return

    def __enter__(self) -> "Load":
        self.stop.clear()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.thread.join()

    def check(self, database: Database) -> None:
        """Everything acknowledged is there once, and as it would be if nothing had happened."""
        caught_up(self.server)
        for table, count, key in (
            ("predictions", self.predictions, "prediction_id"), ("feedback", self.calls, "prediction_id"),
            ("metrics", self.calls, "step"),
        ):  # fmt: skip
            assert database.rows(f"SELECT count(*), count(DISTINCT {key}) FROM {table}") == [(count, count)], table
        assert database.count("rejected_rows") == 0
        assert database.one("SELECT log_offset FROM checkpoint") == status(self.server)["offset"]
        assert self.server.json("/v1/models/m/versions/v/stats")["predictions"] == self.predictions
        before = database.dump()
        rebuild(self.server)
        caught_up(self.server)
        same(database.dump(), before)


def test_we_are_killed_while_events_come(database, settings, tmp_path, seed):
    moments = random.Random(seed)
    server = Server(tmp_path / "data").start()
    load = Load(server)
    with load:
        for _ in range(KILLS):
            time.sleep(moments.uniform(0, 0.4))
            server.kill()
            if moments.random() < 0.3:
                # While it starts.
                server.begin()
                time.sleep(moments.uniform(0, 0.2))
                server.kill()
            server.start()
    load.check(database)
    assert server.stop() == 0


def test_kills_while_tables_are_made(shared, monkeypatch, tmp_path, seed):
    """MariaDB makes them one by one, each for good. A rebuild makes them anew."""
    moments = random.Random(seed)
    monkeypatch.setenv("MODELOG_READ_FROM", "sql")

    def one_dies(server: Server) -> None:
        time.sleep(moments.uniform(0, 0.6))
        if moments.random() < 0.7:
            server.kill()
            server.start()
        else:
            shared.kill()
            shared.start()

    for round in range(3):
        database = shared.add_database()
        monkeypatch.setenv("MODELOG_SQL__URL", database.url())
        server = Server(tmp_path / f"data{round}")
        server.start()
        post(server, *STORY)
        one_dies(server)
        caught_up(server)
        before = database.dump()
        assert httpx.post(f"{server.url}/v1/projections/sql/rebuild").status_code == 202
        one_dies(server)
        caught_up(server)
        same(database.dump(), before)
        assert (database.count("predictions"), database.count("metrics")) == (1, 2)
        assert server.stop() == 0


def test_the_database_is_killed_while_events_come(shared, database, settings, tmp_path, seed):
    """The server, a process of it, or only the connections."""
    moments = random.Random(seed)

    def backend() -> None:
        # One that dies makes PostgreSQL throw all out and recover.
        found = shared.ask("SELECT pid FROM pg_stat_activity WHERE usename = %s AND datname = %s", USER, database.name)
        if found:
            subprocess.run(["kill", "-KILL", str(moments.choice(found)[0])], check=False, capture_output=True)
            shared.start(durable=True)

    def dies(how: signal.Signals):
        def kill() -> None:
            shared.end(how)
            time.sleep(moments.uniform(0, 0.3))
            shared.start(durable=True)

        return kill

    ways = {
        "kill": dies(signal.SIGKILL),
        # In PostgreSQL a restart that waits for nobody, in MariaDB one in good order.
        "restart": dies(signal.SIGQUIT if database.postgres else signal.SIGTERM),
        "connections": shared.cut_connections,
        "statements": lambda: shared.cut_connections("pg_cancel_backend" if database.postgres else "QUERY"),
    }
    if database.postgres:
        ways["backend"] = backend
    server = Server(tmp_path / "data").start()
    load = Load(server)
    with load:
        for way in [*ways, *moments.choices([*ways], k=KILLS - 5)]:
            time.sleep(moments.uniform(0.05, 0.4))
            ways[way]()
    load.check(database)
    assert server.stop() == 0


def test_a_database_that_is_not_there_yet_is_waited_for(shared, database, settings, tmp_path):
    shared.kill()
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    until(lambda: status(server)["state"] == "retrying", "it waits")
    assert server.get("/healthz").status_code == 200
    post(server, prediction(1))
    shared.start()
    caught_up(server)
    assert database.count("predictions") == 2
    assert server.json("/v1/models/resnet50")["framework"] == "PyTorch"
    assert server.stop() == 0


def test_reads_come_back_with_the_database(shared, database, settings, tmp_path):
    settings(sql__busy_timeout="1s")
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    caught_up(server)
    shared.kill()
    answer = server.get("/v1/models/resnet50?at_least=0")
    assert answer.status_code == 503 and "retry-after" in answer.headers, answer.text
    assert "hush" not in answer.text
    # Events are taken all the while.
    post(server, prediction(1))
    shared.start()
    until(lambda: server.get("/v1/models/m/predictions/p-1").status_code == 200, "it answers again")
    assert server.json("/v1/models/resnet50")["framework"] == "PyTorch"
    assert server.stop() == 0


def test_a_database_that_hangs_holds_nobody_up(shared, database, settings, tmp_path):
    settings(sql__busy_timeout="1s")
    server = Server(tmp_path / "data").start()
    post(server, *STORY)
    caught_up(server)
    shared.signal_all(signal.SIGSTOP)
    try:
        post(server, *(prediction(at) for at in range(10)))
        assert server.get("/v1/models/resnet50").status_code == 503
        assert server.get("/healthz").status_code == 200
        assert server.stop() == 0
        server.start()
        post(server, *(prediction(at) for at in range(10, 20)))
        assert server.get("/v1/models/resnet50").status_code == 503
    finally:
        shared.signal_all(signal.SIGCONT)
    caught_up(server)
    assert database.count("predictions") == 21
    assert server.json("/v1/models/resnet50")["framework"] == "PyTorch"
    assert server.stop() == 0


def test_an_older_copy_of_the_database_is_brought_up_to_date(shared, database, settings, tmp_path):
    """As after a restore, or where the database lost its last commits with its machine."""
    server = Server(tmp_path / "data").start()
    load = Load(server)
    with load:
        until(lambda: load.calls > 10, "events come")
    caught_up(server)
    shared.end(signal.SIGINT if database.postgres else signal.SIGTERM)
    subprocess.run(["cp", "-a", shared.data, shared.home / "copy"], check=True)
    shared.start()
    with load:
        until(lambda: load.calls > 20, "more events come")
    caught_up(server)
    shared.kill()
    shutil.rmtree(shared.data)
    (shared.home / "copy").rename(shared.data)
    shared.start()
    with load:
        until(lambda: load.calls > 30, "more events come")
    load.check(database)
    assert server.stop() == 0


def test_commits_that_a_killed_database_loses_come_back_by_themselves(shared, database, settings, tmp_path):
    """Nothing comes meanwhile that would tell us."""
    if database.postgres:
        shared.ask(f"ALTER ROLE {USER} IN DATABASE {database.name} SET synchronous_commit = off")
    server = Server(tmp_path / "data").start()
    for at in range(4):
        post(server, prediction(at))
        caught_up(server)
        shared.kill()
        shared.start(durable=True)

        def there() -> bool:
            answer = server.get(f"/v1/models/m/predictions/p-{at}?at_least=0")
            assert answer.status_code in (200, 404, 503), answer.text
            return answer.status_code == 200

        until(there, "it is there again")
        assert database.count("predictions") == at + 1
    assert server.stop() == 0


LOCKS = {
    "postgres": [
        "LOCK TABLE modelog.predictions IN ACCESS EXCLUSIVE MODE", "SELECT * FROM modelog.checkpoint FOR UPDATE",
        "LOCK TABLE modelog.checkpoint IN SHARE MODE", "SELECT * FROM modelog.predictions FOR SHARE",
    ],
    "mariadb": [
        "LOCK TABLES predictions WRITE", "SELECT * FROM checkpoint FOR UPDATE", "LOCK TABLES checkpoint READ",
        "SELECT * FROM predictions LOCK IN SHARE MODE", "FLUSH TABLES WITH READ LOCK",
    ],
}  # fmt: skip


def test_locks_of_others_are_waited_for(shared, database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, *(prediction(at) for at in range(10)))
    caught_up(server)
    for at, lock in enumerate(LOCKS[shared.kind]):
        other = database.connect(autocommit=False)
        other.cursor().execute(lock)
        # Something new, and something about a row that is there.
        post(server, prediction(100 + at), prediction(3, predicted_class=str(at)))
        until(lambda: shared.waits(database.name) or status(server)["state"] == "retrying", f"it waits: {lock}")
        other.close()
        caught_up(server)
        found = database.rows("SELECT predicted_class FROM predictions WHERE prediction_id = 'p-3'")
        assert found == [(str(at),)], lock
    assert database.count("predictions") == 10 + len(LOCKS[shared.kind])
    assert database.count("rejected_rows") == 0
    assert server.stop() == 0


def test_a_wait_that_the_database_ends_is_begun_again(shared, database, settings, tmp_path):
    """MariaDB takes back the statement only, and the transaction is there still."""
    settings(sql__busy_timeout="1s")
    if database.postgres:
        shared.ask(f"ALTER ROLE {USER} IN DATABASE {database.name} SET lock_timeout = '100ms'")
    else:
        shared.ask("SET GLOBAL innodb_lock_wait_timeout = 1")
        shared.ask("SET GLOBAL lock_wait_timeout = 1")
    try:
        server = Server(tmp_path / "data").start()
        post(server, *(prediction(at) for at in range(10)))
        caught_up(server)
        other = database.connect(autocommit=False)
        other.cursor().execute("SELECT * FROM predictions WHERE prediction_id = 'p-3' FOR UPDATE")
        post(server, *(prediction(at, confidence=0.5) for at in range(20)))
        until(lambda: status(server)["state"] == "retrying", "the wait ends")
        other.close()
        caught_up(server)
        assert database.rows("SELECT count(*), count(confidence) FROM predictions") == [(20, 20)]
        assert database.count("rejected_rows") == 0
        assert server.stop() == 0
    finally:
        if not database.postgres:
            shared.ask("SET GLOBAL innodb_lock_wait_timeout = 50")
            shared.ask("SET GLOBAL lock_wait_timeout = 86400")


def test_a_deadlock_is_tried_again(shared, database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    scratch = shared.add_database()
    if not database.postgres:
        scratch.execute("CREATE TABLE many (number integer)")
    for at in range(5):
        post(server, *(prediction(one) for one in range(10)))
        caught_up(server)
        other = database.connect(autocommit=False)
        cursor = other.cursor()
        # That the other one is not chosen: it never looks for deadlocks, it has written more.
        if database.postgres:
            cursor.execute("SET deadlock_timeout = '1h'")
        else:
            cursor.execute(f"INSERT INTO {scratch.name}.many SELECT seq FROM seq_1_to_5000")
        cursor.execute("SELECT * FROM predictions WHERE prediction_id = 'p-3' FOR UPDATE")
        post(server, *(prediction(one, predicted_class=str(at)) for one in range(10)))
        until(lambda: shared.waits(database.name) or status(server)["state"] == "retrying", "it waits")
        with suppress(psycopg.OperationalError, pymysql.OperationalError):
            cursor.execute("SELECT * FROM checkpoint FOR UPDATE")
            cursor.execute("SELECT * FROM predictions FOR UPDATE")
        other.close()
        caught_up(server)
        found = database.rows("SELECT count(*), count(DISTINCT prediction_id), min(predicted_class) FROM predictions")
        assert found == [(10, 10, str(at))]
    assert database.count("rejected_rows") == 0
    assert server.stop() == 0


def test_writes_of_others_meet_ours(database, settings, tmp_path, seed):
    """Somebody else changes the very rows, in transactions of every kind, and takes some of it back."""
    server = Server(tmp_path / "data").start()
    post(server, prediction("0-0"))
    caught_up(server)
    done = threading.Event()
    chance = random.Random(seed)
    levels = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]

    def meddle() -> None:
        while not done.is_set():
            with suppress(psycopg.OperationalError, pymysql.OperationalError):
                other = database.connect(autocommit=False)
                cursor = other.cursor()
                if database.postgres:
                    cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {chance.choice(levels)}")
                else:
                    cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {chance.choice(levels)}")
                statements = [
                    "UPDATE checkpoint SET epoch = epoch", "UPDATE predictions SET user_id = user_id",
                    "DELETE FROM feedback", "SELECT * FROM metric_latest FOR UPDATE", "UPDATE models SET name = name",
                ]  # fmt: skip
                for statement in chance.sample(statements, 3):
                    cursor.execute(statement)
                other.rollback()
                other.close()

    meddlers = [threading.Thread(target=meddle, daemon=True) for _ in range(2)]
    for meddler in meddlers:
        meddler.start()
    load = Load(server)
    # The first prediction of the load is the one that is there.
    with load:
        until(lambda: load.calls >= 40, "events come")
    done.set()
    for meddler in meddlers:
        meddler.join()
    load.check(database)
    assert server.stop() == 0


REFUSALS = {
    "postgres": {
        "read only": ("ALTER DATABASE {database} SET default_transaction_read_only = on",
                      "ALTER DATABASE {database} SET default_transaction_read_only = off"),
        "too many connections": ("ALTER ROLE {user} CONNECTION LIMIT 0", "ALTER ROLE {user} CONNECTION LIMIT -1"),
        "maintenance": ("ALTER DATABASE {database} ALLOW_CONNECTIONS false",
                        "ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
    },
    "mariadb": {
        "read only": ("SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF"),
        "too many connections": ("ALTER USER {user}@'%' WITH MAX_CONNECTIONS_PER_HOUR 1",
                                 "ALTER USER {user}@'%' WITH MAX_CONNECTIONS_PER_HOUR 0"),
        "maintenance": ("ALTER USER {user}@'%' ACCOUNT LOCK", "ALTER USER {user}@'%' ACCOUNT UNLOCK"),
    },
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSALS["postgres"])
def test_a_database_that_takes_nothing_for_a_while_is_waited_for(shared, database, settings, tmp_path, why):
    """As one that has become the replica, or is full of other people."""
    server = Server(tmp_path / "data").start()
    post(server, prediction(0))
    caught_up(server)
    begin, end = (text.format(database=database.name, user=USER) for text in REFUSALS[shared.kind][why])
    shared.ask(begin)
    try:
        shared.cut_connections()
        post(server, prediction(1))
        found = until(lambda: (found := status(server))["state"] == "retrying" and found, f"it waits: {status(server)}")
        assert found["last_error"] and "hush" not in found["last_error"]
        shared.cut_connections()
    finally:
        shared.ask(end)
    caught_up(server)
    assert database.count("predictions") == 2
    assert server.stop() == 0


@pytest.fixture(params=SERVERS)
def small(request):
    """A server that has little space, and its disk. Mounts a file system of its own: run as root."""
    disk = Path(tempfile.mkdtemp(prefix="modelog-sql-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", disk], check=True)
    server = SERVERS[request.param](disk)
    try:
        yield server.create()
    finally:
        server.kill()
        subprocess.run(["umount", "--lazy", disk], check=True)
        disk.rmdir()


def test_a_full_disk_of_the_database_is_waited_for(small: SqlServer, monkeypatch, tmp_path):
    database = small.add_database()
    monkeypatch.setenv("MODELOG_SQL__URL", database.url())
    monkeypatch.setenv("MODELOG_READ_FROM", "sql")
    server = Server(tmp_path / "data").start()
    post(server, prediction(0))
    caught_up(server)
    ballast = small.home / "ballast"
    use_up(ballast)
    # Some is left, so that it begins to write.
    with open(ballast, "r+b") as file:
        file.truncate(ballast.stat().st_size - (1 << 20))
    sent = 1

    def more() -> dict | None:
        nonlocal sent
        if sent < 10_000:
            post(server, *(prediction(at, error=noise(str(at), 500)) for at in range(sent, sent + 200)))
            sent += 200
        found = status(server)
        return found if found["state"] == "retrying" else None

    found = until(more, "it waits")
    with suppress(subprocess.TimeoutExpired):
        # It may give up altogether: PostgreSQL where its log has no space, MariaDB where taking back needs some.
        small.process.wait(1)
    given_up = small.process.poll() is not None
    assert given_up or "space" in found["last_error"] or "full" in found["last_error"], found
    assert server.get("/healthz").status_code == 200
    ballast.unlink()
    if given_up:
        small.start()
    caught_up(server)
    assert database.rows("SELECT count(*), count(DISTINCT prediction_id) FROM predictions") == [(sent, sent)]
    assert database.count("rejected_rows") == 0
    assert server.stop() == 0


def test_redis_follows_while_the_database_is_away(shared, database, settings, tmp_path):
    redis = Redis(tmp_path / "redis").start()
    try:
        settings(redis__url=redis.url, redis__ttl__predictions="forever", read_from="redis")
        server = Server(tmp_path / "data").start()
        post(server, *STORY)
        caught_up(server)
        follows(server)
        shared.kill()
        post(server, *(prediction(at) for at in range(100)))
        follows(server)
        until(lambda: redis.client().zcard("aidb:idx:predictions:2") == 100, "Redis has them")
        assert server.json("/v1/models/m/predictions/p-7")["prediction_id"] == "p-7"
        assert server.get("/readyz").status_code == 200
        shared.start()
        caught_up(server)
        assert database.count("predictions") == 101
        assert server.stop() == 0
    finally:
        redis.kill()


def test_somebody_who_reads_for_long_does_not_stand_in_the_way(database, settings, tmp_path):
    server = Server(tmp_path / "data").start()
    post(server, *(prediction(at) for at in range(10)))
    caught_up(server)
    analyst = database.connect(autocommit=False)
    cursor = analyst.cursor()
    if database.postgres:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    else:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def seen() -> int:
        cursor.execute("SELECT count(*) FROM prediction_details")
        return cursor.fetchall()[0][0]

    assert seen() == 10
    post(server, *(prediction(at, confidence=0.5) for at in range(5, 1000)))
    post(server, *({"type": "FeedbackLogged", "prediction_id": f"p-{at}", "correct": True} for at in range(1000)))
    caught_up(server)
    assert database.count("predictions") == 1000
    assert seen() == 10
    # Only a rebuild may have to wait for the end of it.
    assert httpx.post(f"{server.url}/v1/projections/sql/rebuild").status_code == 202
    time.sleep(0.2)
    assert seen() in (0, 10)
    analyst.close()
    post(server, prediction(1000))
    caught_up(server)
    assert database.count("predictions") == 1001
    assert server.stop() == 0
