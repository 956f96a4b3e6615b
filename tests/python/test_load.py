"""Thousands of connections and hundreds of followers, some of which never read: memory stays within bounds, others are
served, and the server ends in order."""

import asyncio
import json
import random
import time

import pytest

from conftest import Server, ndjson
from raw import PATIENCE, Peer, allow_descriptors, anonymous_mib

CONNECTIONS = 4000
FOLLOWERS = 500
# What the server may have in memory at the worst moment. 4,000 connections took 112 MiB, the engine and the stores
# after a history like this one 60 to 170, the shelves of readers at most 64. Without the shelves it was 550 with small
# calls and thousands with large ones.
BOUND_MIB = 300


def prediction(id: str, size: int = 100) -> dict:
    output = random.Random(id).randbytes(size).hex()
    return {"type": "PredictionLogged", "id": id, "model": "m", "version": "v", "output": output}


async def watch(pid: int, peak: list[float]) -> None:
    while True:
        peak[0] = max(peak[0], anonymous_mib(pid))
        await asyncio.sleep(0.05)


async def answered(peer: Peer, id: str) -> None:
    peer.post(json.dumps(prediction(id)).encode())
    status, said = await peer.answer()
    assert (status, said["accepted"]) == (200, 1), said


async def others(server: Server, name: str, count: int) -> list[float]:
    """How long a client that has just come waits for its event to be durable."""
    waited = []
    for number in range(count):
        started = time.monotonic()
        peer = await Peer.connect(server.url)
        await answered(peer, f"{name}-{number}")
        waited.append(time.monotonic() - started)
        peer.close()
    return sorted(waited)


def lines_of(body: bytes) -> list[dict]:
    return [json.loads(line) for line in body.splitlines()]


def events_of(stream: bytes) -> list[dict]:
    """The data of server-sent events."""
    return [json.loads(line.removeprefix(b"data: ")) for line in stream.split(b"\n") if line.startswith(b"data: ")]


@pytest.fixture
def crowded(tmp_path, monkeypatch):
    allow_descriptors(CONNECTIONS + FOLLOWERS + 1000)
    monkeypatch.setenv("MODELOG_HTTP__CONNECTIONS", str(CONNECTIONS + FOLLOWERS + 100))
    monkeypatch.setenv("MODELOG_HTTP__DRAIN_TIME", "2s")
    # Longer than all this takes on a machine that is busy with other things.
    for patience in ("FIRST_BYTE_TIME", "HEAD_TIME", "WRITE_TIME"):
        monkeypatch.setenv(f"MODELOG_HTTP__{patience}", "10m")
    server = Server(tmp_path / "data").start()
    yield server
    if server.process.poll() is None:
        server.kill()


@pytest.mark.parametrize(
    ("calls", "events"),
    [(20, 2000), pytest.param(2, 20_000, marks=pytest.mark.full)],
    ids=["many-calls", "large-calls"],
)
def test_a_crowd_in_bounded_memory(crowded, figure, calls, events):
    server = crowded
    for call in range(calls):
        answer = server.post(ndjson(*[prediction(f"{call}-{at}") for at in range(events)]))
        assert answer.status_code == 200, answer.text
    # Nothing of it is left in memory, where all followers would share it.
    assert server.stop() == 0
    server.start()
    history = calls * events
    before = anonymous_mib(server.process.pid)
    peak = [before]

    async def crowd() -> None:
        watching = asyncio.create_task(watch(server.process.pid, peak))
        kept = [await Peer.connect(server.url) for _ in range(CONNECTIONS)]
        for number, peer in enumerate(kept):
            peer.post(json.dumps(prediction(f"kept-{number}")).encode())
        for peer in kept:
            assert (await peer.answer())[0] == 200
        connected = peak[0]

        # Server-sent events and NDJSON by turns, from everywhere in the first half of history: there is more to come than
        # the kernel keeps for sockets like theirs. Nearly all read nothing at all.
        followers = []
        for number in range(FOLLOWERS):
            peer = await Peer.connect(server.url, receive_bytes=16 << 10)
            start = history * number // FOLLOWERS // 2
            peer.get(f"/v1/{'tail' if number % 2 else 'events'}?from={start}")
            if number % 100:
                peer.stop_reading()
            followers.append((number, start, peer))
        reading = [follower for follower in followers if follower[0] % 100 == 0]

        async def read(start: int, peer: Peer) -> None:
            assert (await peer.head()).startswith("HTTP/1.1 200 ")
            offsets = [event["log_offset"] for event in lines_of(await peer.chunks())]
            assert offsets == list(range(start, start + len(offsets)))
            assert offsets[-1] >= history - 1

        waited, *_ = await asyncio.gather(
            others(server, "others", 100), *[read(start, peer) for _, start, peer in reading]
        )
        # Everyone again, with all the followers there.
        for number, peer in enumerate(kept):
            peer.post(json.dumps(prediction(f"again-{number}")).encode())
        for peer in kept:
            assert (await peer.answer())[0] == 200
        # Those that wake up have missed nothing.
        for number, start, peer in followers[1:60:2]:
            peer.writer.transport.resume_reading()
            assert (await peer.head()).startswith("HTTP/1.1 200 ")
            got = b""
            while got.count(b"\ndata: ") < 300:
                got += await asyncio.wait_for(peer.reader.read(1 << 16), PATIENCE)
        watching.cancel()
        figure(
            f"{CONNECTIONS} connections, {FOLLOWERS} followers, a history of {calls} x {events}: anonymous memory "
            f"{before:.0f} MiB before, {connected:.0f} connected, {peak[0]:.0f} at most (bound {BOUND_MIB}); "
            f"others waited {waited[50] * 1000:.0f} ms p50, {waited[-1] * 1000:.0f} ms at most"
        )
        assert peak[0] < BOUND_MIB
        started = time.monotonic()
        assert await asyncio.to_thread(server.stop) == 0
        assert "closed in order" in server.said()
        figure(f"  and ended in {time.monotonic() - started:.1f} s")
        for peer in [*kept, *[peer for _, _, peer in followers]]:
            peer.close()

    asyncio.run(crowd())
    server.start()
    events_there = server.json("/v1/stats", params={"at_least": 0})["events"]
    assert events_there == history + 2 * CONNECTIONS + 100
    assert server.stop() == 0
