"""HTTP over bare sockets, many at a time in one thread: what a polite library does not do."""

import asyncio
import json
import re
import resource
import socket

PATIENCE = 120


def allow_descriptors(count: int) -> None:
    """Raises the limit of open files for this process and those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard in (resource.RLIM_INFINITY,) or hard >= count, f"`ulimit -Hn` is {hard}, {count} are needed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def anonymous_mib(pid: int) -> float:
    """What a process has in memory and in no file."""
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"RssAnon:\s+(\d+) kB", status.read())[1]) / 1024


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, url: str, receive_bytes: int | None = None) -> "Peer":
        """Connects; with a limit to what the kernel takes for us while we do not read."""
        host, port = url.removeprefix("http://").split(":")
        own = socket.socket()
        if receive_bytes is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        own.setblocking(False)
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(own, (host, int(port))), PATIENCE)
        return cls(*await asyncio.open_connection(sock=own))

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def get(self, path: str) -> None:
        self.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

    def post(self, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        self.send(head_of_post(len(body), content_type, **headers), body)

    def stop_reading(self) -> None:
        """What comes stays in the kernel until it is full there."""
        self.writer.transport.pause_reading()

    async def head(self) -> str:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        return head.decode()

    async def answer(self) -> tuple[int, dict]:
        """An answer of known length: its status and its JSON."""
        head = await self.head()
        length = int(re.search(r"(?m)^content-length: (\d+)\r$", head)[1])
        body = await asyncio.wait_for(self.reader.readexactly(length), PATIENCE)
        return int(head.split()[1]), json.loads(body)

    async def chunks(self) -> bytes:
        """The chunked body after a head, all of it; an error if the connection breaks off before its end."""
        body = bytearray()
        while True:
            size = int(await asyncio.wait_for(self.reader.readline(), PATIENCE), 16)
            body += (await asyncio.wait_for(self.reader.readexactly(size + 2), PATIENCE))[:-2]
            if size == 0:
                return bytes(body)

    async def rest(self) -> bytes:
        """Whatever still comes until the connection ends, one way or another."""
        taken = b""
        try:
            while more := await asyncio.wait_for(self.reader.read(1 << 16), PATIENCE):
                taken += more
        except ConnectionError:
            pass
        return taken

    def close(self) -> None:
        self.writer.transport.abort()


def head_of_post(length: int, content_type: str = "application/json", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\n"
        f"content-length: {length}\r\n{lines}\r\n"
    ).encode()
