"""Clients that dawdle, talk ahead, hang up, or take nothing: they get their due, and others notice nothing."""

import asyncio
import json
import random
import stat

import pytest

from conftest import Server, binary, caught_up, ndjson
from raw import PATIENCE, Peer, allow_descriptors, anonymous_mib, head_of_post


def prediction(id: str, size: int = 100) -> dict:
    output = random.Random(id).randbytes(size).hex()
    return {"type": "PredictionLogged", "id": id, "model": "m", "version": "v", "output": output}


def body(id: str) -> bytes:
    return json.dumps(prediction(id)).encode()


async def taken(peer: Peer, id: str) -> None:
    peer.post(body(id))
    status, said = await peer.answer()
    assert (status, said["accepted"]) == (200, 1), said


def in_order(server: Server) -> None:
    assert server.stop() == 0
    assert "closed in order" in server.said() and "panicked" not in server.said()


def test_a_request_is_answered_though_its_client_sends_no_more(server):
    async def run() -> None:
        for number in range(50):
            peer = await Peer.connect(server.url)
            peer.post(body(f"half-{number}"))
            peer.writer.write_eof()
            status, said = await peer.answer()
            assert (status, said["accepted"]) == (200, 1)
            assert await peer.rest() == b"", "and then it is closed"
        # A tail goes on.
        follower = await Peer.connect(server.url)
        follower.get("/v1/tail?from=0")
        follower.writer.write_eof()
        assert (await follower.head()).startswith("HTTP/1.1 200 ")
        got = b""
        while got.count(b"\ndata: ") < 50:
            got += await asyncio.wait_for(follower.reader.read(1 << 16), PATIENCE)
        follower.close()
        # Half a request is none.
        half = await Peer.connect(server.url)
        half.send(head_of_post(1000), body("never"))
        half.writer.write_eof()
        assert b" 200 " not in await half.rest()

    asyncio.run(run())
    assert server.json("/v1/stats", params={"at_least": 0})["events"] == 50


def test_heads_that_trickle_keep_nobody_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELOG_HTTP__HEAD_TIME", "1s")
    monkeypatch.setenv("MODELOG_HTTP__FIRST_BYTE_TIME", "1s")
    monkeypatch.setenv("MODELOG_HTTP__CONNECTIONS", "200")
    server = Server(tmp_path / "data").start()

    async def trickle(peer: Peer) -> None:
        """A head without end, a byte at a time."""
        try:
            for byte in b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 100_000:
                peer.send(bytes([byte]))
                await peer.writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            return
        raise AssertionError("it was let go on")

    async def run() -> None:
        loris = [await Peer.connect(server.url) for _ in range(400)]
        trickling = [asyncio.create_task(trickle(peer)) for peer in loris]
        # They hold every connection there may be; each is cut off, and whoever waits gets its turn.
        for number in range(5):
            peer = await Peer.connect(server.url)
            await taken(peer, f"patient-{number}")
            peer.close()
        await asyncio.wait_for(asyncio.gather(*trickling), PATIENCE)

    asyncio.run(run())
    in_order(server)


def test_requests_sent_ahead_without_reading_answers(server, figure):
    for call in range(20):
        assert server.post(ndjson(*[prediction(f"{call}-{at}") for at in range(1000)])).status_code == 200
    before = anonymous_mib(server.process.pid)

    async def run() -> None:
        ahead = [await Peer.connect(server.url) for _ in range(20)]
        for peer in ahead:
            peer.stop_reading()
            for _ in range(20):
                peer.send(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1000)
        # Meanwhile others are served.
        for number in range(50):
            peer = await Peer.connect(server.url)
            await taken(peer, f"other-{number}")
            peer.close()
        grown = anonymous_mib(server.process.pid) - before
        figure(f"20 clients with 20,000 requests ahead and no answer read: {grown:.0f} MiB more (bound 150)")
        assert grown < 150
        # Answers come in order, whole.
        first = ahead[0]
        first.writer.transport.resume_reading()
        for _ in range(3):
            assert (await first.head()).startswith("HTTP/1.1 200 ")
            events = (await first.chunks()).splitlines()
            assert [json.loads(event)["log_offset"] for event in events[:20_000]] == list(range(20_000))
        for peer in ahead:
            peer.close()

    asyncio.run(run())


def test_large_answers_that_nobody_takes(server, figure):
    """A page of 1,000 predictions of 50 KB each, asked for by many who do not read it."""
    for call in range(20):
        answer = server.post(ndjson(*[prediction(f"{call}-{at}", 25_000) for at in range(50)]))
        assert answer.status_code == 200, answer.text
    caught_up(server)
    page = "/v1/models/m/versions/v/predictions?limit=1000"

    async def run() -> None:
        peers = [await Peer.connect(server.url) for _ in range(60)]
        for peer in peers:
            peer.get(page)
        statuses = [int((await peer.head()).split()[1]) for peer in peers]
        # Some; others find no room for the answer, or no reader of the tables in time.
        assert 200 in statuses and 429 in statuses and set(statuses) <= {200, 429, 503}, statuses
        for peer in peers:
            peer.stop_reading()
        grown = anonymous_mib(server.process.pid)
        figure(f"60 clients asked for 52 MB each: {statuses.count(200)} answered, {grown:.0f} MiB (bound 1000)")
        assert grown < 1000
        refused = server.get(page)
        assert (refused.status_code, refused.json()["code"]) == (429, "backlog")
        assert refused.headers["retry-after"] == "1"
        # Small answers are given all the same.
        assert server.json("/v1/models")["items"][0]["model"] == "m"
        assert server.json("/v1/models/m/versions/v/predictions", params={"limit": 1})["items"]
        for peer in peers:
            peer.close()
        for _ in range(PATIENCE * 10):
            answer = await asyncio.to_thread(server.get, page)
            if answer.status_code == 200:
                break
            await asyncio.sleep(0.1)
        assert len(answer.json()["items"]) == 1000, "who hangs up makes room"

    asyncio.run(run())


@pytest.mark.parametrize("limits", ["ulimit -n 512", "ulimit -Sn 128"])
def test_connections_leave_files_for_the_log(tmp_path, monkeypatch, limits):
    """As many connections as come, on a machine that allows few open files: the log still begins new ones."""
    allow_descriptors(2000)
    script = tmp_path / "limited"
    script.write_text(f'#!/bin/sh\n{limits}\nexec {binary()} "$@"\n')
    script.chmod(stat.S_IRWXU)
    monkeypatch.setenv("MODELOG_BIN", str(script))
    monkeypatch.setenv("MODELOG_LOG__SEGMENT_BYTES", "64KiB")
    monkeypatch.setenv("MODELOG_PARQUET__MAX_DELAY", "1s")
    monkeypatch.setenv("MODELOG_HTTP__HEAD_TIME", "10m")
    server = Server(tmp_path / "data").start()

    async def run() -> None:
        working = await Peer.connect(server.url)
        await taken(working, "first")
        crowd = [await Peer.connect(server.url) for _ in range(350)]
        for peer in crowd:
            peer.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")
        await asyncio.sleep(0.5)
        for call in range(60):
            working.post(ndjson(*[prediction(f"{call}-{at}") for at in range(20)]).encode(), "application/x-ndjson")
            status, said = await working.answer()
            assert status == 200, said
        working.get("/readyz")
        status, said = await working.answer()
        assert status == 200 and not said.get("degraded"), said
        working.get("/v1/models?at_least=1201")
        assert (await working.answer())[0] == 200, "tables were filled meanwhile"
        for peer in crowd:
            peer.close()

    asyncio.run(run())
    assert "Too many open files" not in server.said(), server.said()
    assert ("does not allow" in server.said()) == ("-Sn" not in limits)
    in_order(server)
