"""PostgreSQL and MariaDB servers for the tests, each on a free port and in a directory of its own, and databases there."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import psycopg
import pymysql
import pytest
from psycopg.types.string import TextLoader

import test_redis
from conftest import PATIENCE, Server, binary
from redis_support import free_port
from test_kafka_security import authority, signed
from test_redis import until

# Whom Modelog is there, and whoever may come with a certificate only. What a URL gives a meaning to is in the password.
USER, CERTIFIED, PASSWORD = "modelog", "certified", "hush:5f2c@/?#%&"
# The server's certificate is for the first only.
ADDRESSES = ["127.0.0.1", "127.0.0.2"]
# PostgreSQL does not run as root, and MariaDB need not. The name is Debian's.
NOBODY = "nobody"


class SqlServer:
    """What both kinds have in common."""

    kind: str
    scheme: str

    def __init__(self, home: Path | None = None):
        # Not below pytest's directory, which is its user's alone.
        self.home = home or Path(tempfile.mkdtemp(prefix="modelog-sql-"))
        self.data = self.home / "data"
        self.port = free_port()
        self.process: subprocess.Popen | None = None
        self.databases = 0
        self.own(self.home)

    def own(self, path: Path) -> None:
        if os.geteuid() == 0:
            shutil.chown(path, NOBODY, "nogroup")

    def run(self, *command: str | Path) -> subprocess.Popen:
        """Starts a program as the servers' user."""
        user = ["setpriv", f"--reuid={NOBODY}", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        with open(self.home / "log", "ab") as log:
            return subprocess.Popen([*user, *map(str, command)], cwd=self.home, stdout=log, stderr=log)

    def command(self, durable: bool) -> list[str | Path]:
        """What starts it. A server that is not durable loses nothing either, as long as the machine runs."""
        raise NotImplementedError

    def install(self) -> list[str | Path]:
        """What makes the data directory."""
        raise NotImplementedError

    def prepare(self) -> None:
        """The first thing that a new server is told."""

    def create(self) -> "SqlServer":
        """Makes the data directory, certificates in it, and starts."""
        assert self.run(*self.install()).wait(PATIENCE) == 0, self.said()
        self.ours = authority(self.home, "ours")
        self.strangers = authority(self.home, "strangers")
        for name in ("server", "client"):
            signed(self.home, name, self.ours)
        for file in self.home.glob("server.*"):
            self.own(file)
        self.start()
        self.prepare()
        return self

    def start(self, durable: bool = False) -> "SqlServer":
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            # Children that outlive their killed parent for a moment keep a new one from starting.
            if self.process is None or self.process.poll() is not None:
                self.process = self.run(*self.command(durable))
            try:
                self.admin().close()
                return self
            except (psycopg.OperationalError, pymysql.OperationalError):
                time.sleep(0.02)
        raise AssertionError(f"{self.kind} does not answer:\n{self.said()}")

    def said(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-5000:]

    def end(self, how: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def signal_all(self, how: signal.Signals) -> None:
        """To the server and its processes."""
        pid = self.process.pid
        for each in [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]:
            os.kill(int(each), how)

    def remove(self) -> None:
        self.kill()
        # Children that outlive it for a moment write there still.
        shutil.rmtree(self.home, ignore_errors=True)

    def admin(self, database: str | None = None, **options):
        """A connection of the one who may do everything; each statement is a transaction unless told otherwise."""
        raise NotImplementedError

    def ask(self, statement: str, *values, database: str | None = None) -> list[tuple]:
        connection = self.admin(database)
        try:
            cursor = connection.cursor()
            cursor.execute(statement, values or None)
            return [tuple(map(plain, row)) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def add_database(self) -> "Database":
        self.databases += 1
        return Database(self, f"test_{self.databases}")


def plain(value):
    """As all of them say it: times in UTC without saying so."""
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


class Postgres(SqlServer):
    kind, scheme = "postgres", "postgres"

    # Debian has several versions beside each other, and none of them where commands are looked for.
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=Path())
    access = """\
host all postgres 127.0.0.1/32 trust
hostnossl all certified 127.0.0.0/8 reject
hostssl all certified 127.0.0.0/8 scram-sha-256 clientcert=verify-ca
host all all 127.0.0.0/8 scram-sha-256
"""

    def install(self):
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        return [self.programs / "initdb", "--pgdata", self.data, "--username=postgres", *options]

    def command(self, durable):
        (self.data / "pg_hba.conf").write_text(self.access)
        settings = {
            "listen_addresses": ",".join(ADDRESSES),
            "unix_socket_directories": "",
            "fsync": "on" if durable else "off",
            "ssl": "on",
            "ssl_cert_file": self.home / "server.pem",
            "ssl_key_file": self.home / "server.key",
            "ssl_ca_file": self.home / "ours.pem",
        }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        return [self.programs / "postgres", "-D", self.data, "-p", str(self.port), *flags]

    def prepare(self):
        for user in (USER, CERTIFIED):
            self.ask(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")

    def admin(self, database=None, **options):
        address = {"host": ADDRESSES[0], "port": self.port, "dbname": database or "postgres", "user": "postgres"}
        settings = {"options": "-c search_path=modelog -c timezone=UTC", "autocommit": True}
        connection = psycopg.connect(**address | settings | options)
        for kind in ("json", "jsonb"):
            connection.adapters.register_loader(kind, TextLoader)
        return connection

    def cut_connections(self, how: str = "pg_terminate_backend") -> None:
        self.ask(f"SELECT {how}(pid) FROM pg_stat_activity WHERE usename = '{USER}'")

    def waits(self, database: str) -> bool:
        """Whether a session of ours waits for a lock there."""
        where = f"usename = '{USER}' AND datname = %s AND wait_event_type = 'Lock'"
        return bool(self.ask(f"SELECT 1 FROM pg_stat_activity WHERE {where}", database))

    def held(self) -> list:
        """Transactions of ours that are open and do nothing."""
        where = f"usename = '{USER}' AND state LIKE 'idle in transaction%'"
        return self.ask(f"SELECT pid, query FROM pg_stat_activity WHERE {where}")


class MariaDb(SqlServer):
    kind, scheme = "mariadb", "mysql"

    def install(self):
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", *self.small]
        return ["mariadb-install-db", "--no-defaults", f"--datadir={self.data}", *options]

    small = ["--innodb-log-file-size=8M", "--innodb-buffer-pool-size=64M"]

    def command(self, durable):
        # What is committed is handed to the system in any case, and that outlives a killed server.
        syncs = ["--innodb-flush-log-at-trx-commit=1"]
        if not durable:
            syncs = ["--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync"]
        files = {"datadir": "data", "socket": "socket", "pid-file": "pid", "tmpdir": ""}
        files |= {"ssl-cert": "server.pem", "ssl-key": "server.key", "ssl-ca": "ours.pem"}
        return [
            "mariadbd", "--no-defaults", f"--port={self.port}", f"--bind-address={','.join(ADDRESSES)}",
            *(f"--{name}={self.home / file}" for name, file in files.items()),
            "--skip-name-resolve", "--innodb-stats-auto-recalc=OFF", *self.small, *syncs,
        ]  # fmt: skip

    def prepare(self):
        for user, proof in ((USER, ""), (CERTIFIED, "REQUIRE X509")):
            self.ask(f"CREATE USER {user}@'%%' IDENTIFIED BY %s {proof}", PASSWORD)

    def admin(self, database=None, **options):
        address = {"host": ADDRESSES[0], "port": self.port, "database": database, "user": "root"}
        return pymysql.connect(**address | {"autocommit": True, "charset": "utf8mb4"} | options)

    def cut_connections(self, how: str = "CONNECTION") -> None:
        self.ask(f"KILL {how} USER {USER}")

    def waits(self, database: str) -> bool:
        processes = self.ask("SELECT coalesce(state, '') FROM information_schema.processlist WHERE user = %s", USER)
        # The table that tells the same lags behind.
        ((_, _, told),) = self.ask("SHOW ENGINE INNODB STATUS")
        return "TRX HAS BEEN WAITING" in told or any("lock" in state for (state,) in processes)

    def held(self) -> list:
        """Transactions of ours that are open and do nothing."""
        return self.ask(
            "SELECT p.id, trx_query FROM information_schema.innodb_trx JOIN information_schema.processlist p "
            "ON p.id = trx_mysql_thread_id WHERE p.user = %s AND p.command = 'Sleep'",
            USER,
        )


class Database:
    """A database of its own for a test, of a user who may do everything there and nothing elsewhere."""

    def __init__(self, server: SqlServer, name: str):
        self.server = server
        self.name = name
        if server.kind == "postgres":
            server.ask(f"CREATE DATABASE {name} OWNER {USER}")
            server.ask(f"GRANT ALL ON DATABASE {name} TO {CERTIFIED}")
        else:
            server.ask(f"CREATE DATABASE {name}")
            for user in (USER, CERTIFIED):
                # In the other one tables are built again.
                for place in (name, f"{name}_rebuild"):
                    server.ask(f"GRANT ALL ON {place}.* TO {user}@'%'")

    @property
    def postgres(self) -> bool:
        return self.server.kind == "postgres"

    @property
    def schema(self) -> str:
        """Where our tables are."""
        return "modelog" if self.postgres else self.name

    def url(self, user: str = USER, password: str = PASSWORD, address: str = ADDRESSES[0], **settings) -> str:
        query = "&".join(f"{name}={quote(str(value))}" for name, value in settings.items())
        credentials = f"{user}:{quote(password, safe='')}"
        return f"{self.server.scheme}://{credentials}@{address}:{self.server.port}/{self.name}" + (query and f"?{query}")

    def tls(self, level: str = "verify-full", authority: str = "ours", certificate: str | None = "client") -> dict:
        """The settings of a URL, in the words of each kind."""
        home = self.server.home
        files = {"ca": home / f"{authority}.pem"}
        if certificate:
            files |= {"cert": home / f"{certificate}.pem", "key": home / f"{certificate}.key"}
        if self.postgres:
            return {"sslmode": level, "sslrootcert": files.pop("ca")} | {f"ssl{name}": file for name, file in files.items()}
        level = {"verify-full": "VERIFY_IDENTITY", "verify-ca": "VERIFY_CA"}[level]
        return {"ssl-mode": level} | {f"ssl-{name}": file for name, file in files.items()}

    def connect(self, **options):
        return self.server.admin(self.name, **options)

    def rows(self, statement: str, *values) -> list[tuple]:
        return self.server.ask(statement, *values, database=self.name)

    def one(self, statement: str, *values):
        ((value,),) = self.rows(statement, *values)
        return value

    execute = rows

    def count(self, table: str) -> int:
        return self.one(f"SELECT count(*) FROM {table}")

    def cli(self, statement: str) -> str:
        """What the server's own client prints."""
        address = ["-h", ADDRESSES[0]]
        if self.postgres:
            command = [self.server.programs / "psql", *address, "-p", str(self.server.port), "-U", "postgres", self.name]
            command += ["-X", "-A", "-t", "-c", statement]
            environment = {"PGOPTIONS": "-c search_path=modelog -c timezone=UTC"}
        else:
            command = ["mariadb", "--no-defaults", *address, "-P", str(self.server.port), "-u", "root", self.name]
            command += ["--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4", "-e", statement]
            environment = {}
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().removesuffix("\n")

    def tables(self) -> dict[str, list[str]]:
        """The names of columns, by table."""
        columns = self.rows(
            "SELECT c.table_name, c.column_name FROM information_schema.columns c "
            "JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name "
            "WHERE c.table_schema = %s AND t.table_type = 'BASE TABLE' ORDER BY c.table_name, c.ordinal_position",
            self.schema,
        )
        found: dict[str, list[str]] = {}
        for table, column in columns:
            found.setdefault(table, []).append(column)
        return found

    def dump(self) -> dict[str, list[tuple]]:
        """Everything that is in our place, whatever order it is kept in."""
        return {
            table: sorted(self.rows(f"SELECT {', '.join(columns)} FROM {self.schema}.{table}"), key=repr)
            for table, columns in self.tables().items()
        }


def status(server: Server) -> dict:
    return test_redis.status(server, "sql")


def caught_up(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = status(server)
        if found["state"] == "running" and found["lag_events"] == 0:
            return
        assert found["state"] != "stopped", found
        time.sleep(0.02)
    raise AssertionError(f"it does not catch up: {found}")


def stops(server: Server) -> str:
    """Waits until it goes no further by itself, and gives the reason."""
    return until(lambda: (found := status(server))["state"] == "stopped" and found, "it stops")["last_error"]


def rebuild(server: Server) -> None:
    command = [binary(), "rebuild", "sql", "--data", str(server.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


def same(found: dict[str, list], expected: dict[str, list]) -> None:
    """That two dumps are, and the table where they are not."""
    assert found.keys() == expected.keys()
    for table, rows in expected.items():
        assert found[table] == rows, table


SERVERS = {"postgres": Postgres, "mariadb": MariaDb}


@pytest.fixture(scope="module", params=SERVERS)
def shared(request):
    """A server for the tests of a module, which leave it as it was."""
    server = SERVERS[request.param]()
    try:
        yield server.create()
    finally:
        server.remove()


@pytest.fixture
def database(shared):
    return shared.add_database()


@pytest.fixture
def settings(database, monkeypatch):
    """Sets what the program under test is told; questions are answered from this database alone."""

    def configure(**values):
        for name, value in values.items():
            monkeypatch.setenv(f"MODELOG_{name.upper()}", str(value))

    configure(sql__url=database.url(), read_from="sql")
    return configure
