"""How the real program ends: what is under way is answered, what was acknowledged is kept."""

import asyncio
import json
import random
import signal
import time

import pytest

from conftest import PATIENCE, Server
from producers import Ledger, Posting, producers
from raw import Peer, head_of_post
from test_kill import check_at_rest, keys_from


def prediction(key: str) -> bytes:
    event = {"type": "PredictionLogged", "prediction_id": key, "model": "m", "version": "v", "output": 1}
    return json.dumps(event).encode()


async def begun(server: Server, body: bytes) -> Peer:
    """A request whose head the server has, and the first half of its body."""
    peer = await Peer.connect(server.url)
    peer.send(head_of_post(len(body), expect="100-continue"))
    assert "100 Continue" in await peer.head()
    peer.send(body[: len(body) // 2])
    return peer


def recovered_in_order(server: Server) -> None:
    """A log that was closed in order has nothing to recover: nothing is cut, no history begins."""
    assert list((server.data / "log").glob("quarantine/*")) == []


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_under_way_be_answered(tmp_path, seed, figure, sign):
    server = Server(tmp_path / "data").start()
    ledger = Ledger()
    work = producers(ledger, random.Random(seed))

    async def run() -> None:
        bodies = [prediction(f"begun-{number}") for number in range(20)]
        ledger.submitted.update(f"begun-{number}" for number in range(20))
        peers = [await begun(server, body) for body in bodies]
        idle = await Peer.connect(server.url)
        silent = await Peer.connect(server.url)
        idle.get("/healthz")
        assert (await idle.answer())[0] == 200
        follower = await Peer.connect(server.url)
        follower.get("/v1/tail?from=0")
        assert (await follower.head()).startswith("HTTP/1.1 200 ")
        stream = asyncio.create_task(follower.chunks())
        with Posting(server, work, pause=0.02):
            while len(ledger.acknowledged) < 200:
                assert ledger.refused == []
                await asyncio.sleep(0.01)
            server.process.send_signal(sign)
            # No longer kept, and nobody new is let in.
            assert await idle.rest() == await silent.rest() == b""
            with pytest.raises(OSError):
                await Peer.connect(server.url)
            assert server.process.poll() is None, "it waits for what is under way"
            for number, (peer, body) in enumerate(zip(peers, bodies)):
                peer.send(body[len(body) // 2 :])
                status, said = await peer.answer()
                assert (status, said["accepted"]) == (200, 1)
                ledger.acknowledged[f"begun-{number}"] = said["first_offset"]
        assert await asyncio.to_thread(server.process.wait, PATIENCE) == 0
        # The stream has an end, and is what the log has from its beginning.
        lines = [line for line in (await stream).split(b"\n") if line.startswith(b"data: ")]
        offsets = [json.loads(line[6:])["log_offset"] for line in lines]
        assert offsets == list(range(len(offsets)))
        for peer in [*peers, idle, silent, follower]:
            peer.close()

    asyncio.run(run())
    said = server.said()
    assert "finishing what is under way" in said and "closed in order" in said, said
    recovered_in_order(server)
    server.start()
    ledger.check(keys_from(server, 0))
    for producer in work:
        producer.finish(server)
    logged = keys_from(server, 0)
    ledger.check(logged)
    assert server.stop() == 0
    check_at_rest(server, logged)
    figure(f"{sign.name} among {len(ledger.acknowledged)} events: 20 requests under way answered, all kept")


def test_what_takes_too_long_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELOG_HTTP__DRAIN_TIME", "1s")
    server = Server(tmp_path / "data").start()

    async def run() -> None:
        body = prediction("late")
        late = await begun(server, body)
        done = await begun(server, prediction("done"))
        server.process.send_signal(signal.SIGTERM)
        done.send(prediction("done")[len(prediction("done")) // 2 :])
        assert (await done.answer())[0] == 200
        assert await asyncio.to_thread(server.process.wait, PATIENCE) == 0
        assert await late.rest() == b"", "it is told nothing, and may ask again"
        late.close()
        done.close()

    asyncio.run(run())
    assert "are cut off" in server.said()
    server.start()
    assert keys_from(server, 0) == ["done"]
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(signal.SIGTERM, signal.SIGTERM, 143), (signal.SIGTERM, signal.SIGINT, 130), (signal.SIGINT, signal.SIGTERM, 143)],
)
def test_a_second_signal_ends_it_at_once(tmp_path, monkeypatch, seed, first, second, code):
    monkeypatch.setenv("MODELOG_HTTP__DRAIN_TIME", "10m")
    server = Server(tmp_path / "data").start()
    ledger = Ledger()
    work = producers(ledger, random.Random(seed))

    async def run() -> None:
        late = await begun(server, prediction("late"))
        ledger.submitted.add("late")
        with Posting(server, work, pause=0.02):
            while len(ledger.acknowledged) < 200:
                assert ledger.refused == []
                await asyncio.sleep(0.01)
            server.process.send_signal(first)
            deadline = time.monotonic() + PATIENCE
            while "finishing what is under way" not in server.said():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            assert server.process.poll() is None
            server.process.send_signal(second)
            assert await asyncio.to_thread(server.process.wait, PATIENCE) == code
        await late.rest()
        late.close()

    asyncio.run(run())
    assert "closed in order" not in server.said()
    server.start()
    for producer in work:
        producer.finish(server)
    logged = keys_from(server, 0)
    ledger.check(logged)
    assert server.stop() == 0
    check_at_rest(server, logged)
