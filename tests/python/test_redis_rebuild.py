"""A Redis store that is built again while everybody reads it, and everything that may break that off."""

import socket
import subprocess
import threading

import httpx
from conftest import Server, binary
from test_redis import STORY, caught_up, post, prediction, settings, status, store, until  # noqa: F401

STEPS = [b"EXISTS", b"UNLINK", b"RENAME", b"SCAN", b"HSET"]


def dump(db) -> dict:
    """All keys of a store with what they hold, but for the feeds, and for what a checkpoint says that hangs on how it came about."""
    found = {}
    for key in db.scan_iter("aidb:*"):
        kind = db.type(key)
        if kind == "hash":
            found[key] = db.hgetall(key)
        elif kind == "zset":
            found[key] = db.zrange(key, 0, -1, withscores=True)
        elif kind == "set":
            found[key] = db.smembers(key)
        elif kind == "string":
            found[key] = db.get(key)
    for name in ("server", "evicted", "before", "claims"):
        found["aidb:checkpoint"].pop(name, None)
    for key in found.keys() & {"aidb:stats:version:1", "aidb:stats:version:2"}:
        found[key].pop("as_of_offset", None)
    return found


def differs(db, right: dict) -> dict:
    """The keys that are not as they should be: what they hold, and what they should."""
    found = dump(db)
    keys = found.keys() | right.keys()
    return {key: (found.get(key), right.get(key)) for key in keys if found.get(key) != right.get(key)}


def becomes(db, right: dict, after: str) -> None:
    try:
        until(lambda: differs(db, right) == {}, after)
    except AssertionError:
        raise AssertionError(f"after {after}: {differs(db, right)}") from None


def rebuild(server: Server) -> None:
    assert httpx.post(f"{server.url}/v1/projections/redis/rebuild").status_code == 202


def fill(server: Server, count=1500) -> None:
    post(server, *STORY, *(prediction(at, confidence=0.5) for at in range(count)))
    post(server, *({"type": "MetricLogged", "run": "r1", "name": "acc", "value": at, "step": at} for at in range(300)))
    caught_up(server)


def spoil(db) -> None:
    """What somebody else did to it: wrong values, and keys that nothing points to any more."""
    db.hset("aidb:model:1", "framework", "Wrong")
    db.hset("aidb:model:99", "model", "ghost")
    db.zadd("aidb:idx:models", {"99": 99})
    db.zremrangebyrank("aidb:metric:1:acc:_", 0, 50)
    db.set("aidb:prediction:gone", "of another type")


class Proxy:
    """Passes what goes to a server on, and breaks the connection behind the command that is told."""

    def __init__(self, port: int):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.seen: list[bytes] = []
        self.cut_at: int | None = None
        self.at_cut = lambda: None
        self.cuts = 0
        self.watching = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for way in ((client, server, True), (server, client, False)):
                threading.Thread(target=self.pass_on, args=way, daemon=True).start()

    def pass_on(self, source: socket.socket, to: socket.socket, commands: bool) -> None:
        rest = b""
        try:
            while data := source.recv(1 << 16):
                if not (commands and self.watching):
                    to.sendall(data)
                    continue
                rest += data
                while (end := command_end(rest)) is not None:
                    one, rest = rest[:end], rest[end:]
                    self.seen.append(one.split(b"\r\n")[2])
                    to.sendall(one)
                    if len(self.seen) == self.cut_at:
                        self.at_cut()
                        self.cuts += 1
                        return
        except OSError:
            pass
        finally:
            # Both directions: the other thread ends with it.
            for end in (source, to):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()

    def close(self) -> None:
        self.listener.close()


def filled_through_a_proxy(store, settings, tmp_path):  # noqa: F811
    """A proxy, a server that has filled the store through it, a client of the store, and what is there."""
    proxy = Proxy(store.port)
    settings(redis__ttl__predictions="forever", redis__url=f"redis://127.0.0.1:{proxy.port}", redis__streams="")
    server = Server(tmp_path / "data").start()
    fill(server, 200)
    db = store.client()
    return proxy, server, db, dump(db)


def command_end(data: bytes) -> int | None:
    """Where the first command ends; none if it is not all there."""
    head = data.find(b"\r\n")
    if head < 0:
        return None
    at = head + 2
    for _ in range(int(data[1:head])):
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        at = line + 2 + int(data[at + 1 : line]) + 2
    return at if at <= len(data) else None


def test_nobody_misses_anything_while_it_is_built_again(store, settings, tmp_path):  # noqa: F811
    settings(redis__ttl__predictions="forever", read_from="redis")
    server = Server(tmp_path / "data").start()
    fill(server, 5000)
    db = store.client()
    db.xgroup_create("aidb:stream:events", "readers", id="0")
    right, feed = dump(db), db.xrange("aidb:stream:events")
    spoil(db)
    stop, looks, wrong = threading.Event(), [0, 0], []

    def read_keys():
        own = store.client()
        while not stop.is_set():
            model = own.hgetall("aidb:model:1")
            newest = own.zrevrange("aidb:idx:predictions:2", 0, 9)
            found = [own.hgetall("aidb:prediction:" + member[21:]) for member in newest]
            if model.get("framework") not in ("PyTorch", "Wrong") or model.get("model") != "resnet50":
                wrong.append(model)
            if len(found) != 10 or any(one.get("confidence") != "0.5" for one in found):
                wrong.append(found)
            looks[0] += 1

    def ask():
        while not stop.is_set():
            page = server.json("/v1/models/m/versions/v/predictions?limit=1000")["items"]
            if [one["prediction_id"] for one in page] != [f"p-{at}" for at in range(4999, 3999, -1)]:
                wrong.append(page)
            looks[1] += 1

    readers = [threading.Thread(target=read_keys), threading.Thread(target=ask)]
    for reader in readers:
        reader.start()
    for _ in range(3):
        rebuild(server)
        caught_up(server)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == [] and min(looks) > 3
    assert dump(db) == right
    assert db.xrange("aidb:stream:events") == feed
    assert [group["name"] for group in db.xinfo_groups("aidb:stream:events")] == ["readers"]
    assert "in place" in server.said()
    assert server.stop() == 0


def test_a_rebuild_that_is_broken_off_anywhere_goes_on(store, settings, tmp_path):  # noqa: F811
    proxy, server, db, right = filled_through_a_proxy(store, settings, tmp_path)
    proxy.watching = True
    spoil(db)
    rebuild(server)
    caught_up(server)
    seen = list(proxy.seen)
    assert all(name in seen for name in STEPS), sorted(set(seen))
    # Behind each first and last command of a kind, and behind some others.
    points = {len(seen) * part // 12 for part in range(1, 12)}
    for name in STEPS:
        points |= {seen.index(name) + 1, len(seen) - seen[::-1].index(name)}
    for number, point in enumerate(sorted(points)):
        spoil(db)
        proxy.seen, proxy.cut_at, cuts = [], point, proxy.cuts
        rebuild(server)
        until(lambda: proxy.cuts > cuts, f"the connection breaks behind {point}")
        # Whoever looks now finds every key, old or new.
        assert db.hget("aidb:model:1", "model") == "resnet50", point
        assert db.exists(*(f"aidb:prediction:p-{at}" for at in range(200))) == 200, point
        if number % 2:
            server.kill()
            server = Server(tmp_path / "data").start()
        becomes(db, right, f"a break behind {point} of {len(seen)}")
        caught_up(server)
    assert server.stop() == 0
    proxy.close()


def test_a_rebuild_begins_again_on_a_server_that_has_not_heard_of_it(store, settings, tmp_path):  # noqa: F811
    """It dies in the middle, and comes back with what it had saved before."""
    proxy, server, db, right = filled_through_a_proxy(store, settings, tmp_path)
    spoil(db)
    db.save()
    proxy.watching, proxy.at_cut = True, store.kill
    for point in (60, 600):
        proxy.seen, proxy.cut_at, cuts = [], point, proxy.cuts
        rebuild(server)
        until(lambda: proxy.cuts > cuts, f"the server dies behind {point}")
        store.start()
        becomes(db, right, f"the end of the server behind {point}")
        caught_up(server)
        spoil(db)
        db.save()
    assert server.stop() == 0
    proxy.close()


def test_where_there_is_no_room_for_two_the_old_one_goes_first(store, settings, tmp_path):  # noqa: F811
    settings(redis__ttl__predictions="forever", redis__streams="", read_from="redis")
    server = Server(tmp_path / "data").start()
    fill(server, 5000)
    db = store.client()
    right = dump(db)
    spoil(db)
    db.config_set("maxmemory", db.info("memory")["used_memory"] + 1_000_000)
    rebuild(server)
    until(lambda: "no memory to build the store again" in server.said(), "it says so")
    # SQL answers until it is filled again.
    assert len(server.json("/v1/models/m/versions/v/predictions?limit=5000")["items"]) == 5000
    caught_up(server)
    assert dump(db) == right
    # One that is full is emptied as well, and waits for room.
    db.config_set("maxmemory", 1)
    rebuild(server)
    until(lambda: status(server)["state"] == "retrying", "it waits")
    db.config_set("maxmemory", 0)
    caught_up(server)
    assert dump(db) == right
    assert server.stop() == 0


def test_a_rebuild_without_a_server_of_ours(store, settings, tmp_path):  # noqa: F811
    settings(redis__ttl__predictions="forever")
    server = Server(tmp_path / "data").start()
    fill(server)
    assert server.stop() == 0
    db = store.client()
    right = dump(db)
    spoil(db)
    command = [binary(), "rebuild", "redis", "--data", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "redis is rebuilt" in done.stderr, done.stderr
    assert dump(db) == right
    assert not any(key.startswith("aidb:rebuild") for key in right)
