"""The server of the scenarios: it plays what the JSON files say, right or wrong, over raw sockets.

Usage: python server.py    prints its port, and serves until its standard input ends

- `ws://127.0.0.1:PORT/SCENARIO/RUN` plays the server's part of SCENARIO.json. RUN is any name, so
  that a scenario can be played several times.
- `GET /SCENARIO/RUN/arrived/N` answers when the N-th connection has come.
- `GET /SCENARIO/RUN/report` says, once all is played, what went wrong: `{"problems": []}`.

README.md describes the files. Only the standard library is used, and msgspec where a client speaks
MessagePack.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Run", "ScenarioError", "main", "matches"]

FOLDER = Path(__file__).parent
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PATIENCE = 20.0
"""Seconds to wait for anything that the client should do; enough for a busy machine."""
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class ScenarioError(Exception):
    """The client did something else than the scenario says."""


class EndedError(Exception):
    """The client has ended the connection; with the code of its close frame, if there was one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"the client ended the connection ({code})")
        self.code = code


def matches(pattern: Any, value: Any) -> bool:
    """Whether the value has all that the pattern has; keys that only the value has do not count."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            key in value and matches(each, value[key]) for key, each in pattern.items()
        )
    if isinstance(pattern, list):
        return (
            isinstance(value, list)
            and len(pattern) == len(value)
            and all(map(matches, pattern, value))
        )
    return type(pattern) is type(value) and bool(pattern == value)


class Connection:
    """One connection of a client, and the steps that can be played on it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> None:
        """Not accepted yet: the request was read, and nothing was answered."""
        self._reader = reader
        self._writer = writer
        self._query = query
        self._key = headers.get("sec-websocket-key", "")
        offered = headers.get("sec-websocket-protocol", "")
        self._offered = [name.strip() for name in offered.split(",") if name.strip()]
        self._codec = self._offered[0] if self._offered else ""
        self._accepted = False
        self._id: Any = None

    async def play(self, steps: Sequence[Mapping[str, Any]]) -> None:
        """Play all steps; then wait until the client ends the connection."""
        plays: dict[str, Callable[[Any, Mapping[str, Any]], Coroutine[Any, Any, None]]] = {
            "offered": self._check_offered,
            "query": self._check_query,
            "refuse": self._refuse,
            "accept": self._accept,
            "send": self._send,
            "answer": self._answer,
            "text": self._text,
            "textOf": self._text_of,
            "binary": self._binary,
            "bytes": self._bytes,
            "expect": self._expect,
            "expectClose": self._expect_close,
            "close": self._close,
            "drop": self._drop,
            "stall": self._stall,
        }
        for step in steps:
            (name,) = plays.keys() & step.keys()
            try:
                async with asyncio.timeout(PATIENCE):
                    await plays[name](step[name], step)
            except TimeoutError:
                raise ScenarioError(
                    f"{json.dumps(step)}: nothing came in {PATIENCE} seconds"
                ) from None
            except EndedError as ended:
                raise ScenarioError(f"{json.dumps(step)}: {ended}") from None
        if not self._writer.is_closing():
            async with asyncio.timeout(PATIENCE):
                await self._stall(True, {})

    async def _check_offered(self, offered: list[str], _: Mapping[str, Any]) -> None:
        found = ["codec", *self._offered[1:]]
        if found != offered:
            raise ScenarioError(f"offered {found}, not {offered}")

    async def _check_query(self, query: dict[str, str], _: Mapping[str, Any]) -> None:
        if self._query != query:
            raise ScenarioError(f"the query has {self._query}, not {query}")

    async def _refuse(self, status: int, step: Mapping[str, Any]) -> None:
        body = json.dumps(step.get("body", {})).encode()
        headers = {
            "Content-Length": str(len(body)),
            "Connection": "close",
            **step.get("headers", {}),
        }
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await self._write(head.encode() + b"\r\n" + body)
        self._writer.close()

    async def _accept(self, protocol: Any, _: Mapping[str, Any]) -> None:
        accept = base64.b64encode(
            hashlib.sha1((self._key + GUID).encode(), usedforsecurity=False).digest()
        ).decode()
        chosen = self._codec if protocol is True else protocol
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {chosen}\r\n\r\n"
        await self._write(head.encode())
        self._accepted = True

    async def _send(self, message: Any, _: Mapping[str, Any]) -> None:
        if self._codec.endswith("msgpack"):
            import msgspec

            await self._frame(BINARY, msgspec.msgpack.encode(message))
        else:
            await self._frame(TEXT, json.dumps(message).encode())

    async def _answer(self, message: Any, step: Mapping[str, Any]) -> None:
        await self._send({**message, "id": self._id}, step)

    async def _text(self, text: str, _: Mapping[str, Any]) -> None:
        await self._frame(TEXT, text.encode())

    async def _text_of(self, size: int, _: Mapping[str, Any]) -> None:
        await self._frame(TEXT, b'"' + b"x" * (size - 2) + b'"')

    async def _binary(self, octets: str, _: Mapping[str, Any]) -> None:
        await self._frame(BINARY, bytes.fromhex(octets))

    async def _bytes(self, octets: str, _: Mapping[str, Any]) -> None:
        await self._write(bytes.fromhex(octets))

    async def _expect(self, pattern: Any, _: Mapping[str, Any]) -> None:
        message = await self._message()
        if not matches(pattern, message):
            raise ScenarioError(f"got {json.dumps(message)}, not {json.dumps(pattern)}")
        self._id = message.get("id")

    async def _expect_close(self, code: int, _: Mapping[str, Any]) -> None:
        try:
            message = await self._message()
        except EndedError as ended:
            if ended.code != code:
                raise ScenarioError(f"closed with {ended.code}, not {code}") from None
            self._writer.close()
        else:
            raise ScenarioError(f"got {json.dumps(message)}, not a close frame")

    async def _close(self, code: int, step: Mapping[str, Any]) -> None:
        reason = step.get("reason", "")
        text = reason if isinstance(reason, str) else json.dumps(reason)
        await self._frame(CLOSE, struct.pack("!H", code) + text.encode())
        await self._stall(True, {})

    async def _drop(self, how: str, _: Mapping[str, Any]) -> None:
        if how == "reset":
            self._writer.transport.abort()
        self._writer.close()

    async def _stall(self, _: Any, __: Mapping[str, Any]) -> None:
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass
        self._writer.close()

    async def _write(self, octets: bytes) -> None:
        try:
            self._writer.write(octets)
            await self._writer.drain()
        except ConnectionError:
            raise EndedError(None) from None

    async def _frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
        await self._write(head + payload)

    async def _message(self) -> Any:
        """The next message of the client; pings are answered on the way."""
        try:
            while True:
                opcode, payload = await self._read_frame()
                if opcode == PING:
                    await self._frame(PONG, payload)
                elif opcode == CLOSE:
                    raise EndedError(int.from_bytes(payload[:2], "big") if payload else 1005)
                elif opcode == TEXT:
                    return json.loads(payload)
                elif opcode == BINARY:
                    import msgspec

                    return msgspec.msgpack.decode(payload)
        except (ConnectionError, asyncio.IncompleteReadError):
            raise EndedError(None) from None

    async def _read_frame(self) -> tuple[int, bytes]:
        """A frame of the client. It is never in fragments: messages of scenarios are short."""
        first, second = await self._reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
        mask = await self._reader.readexactly(4)
        payload = await self._reader.readexactly(size)
        return first & 0xF, bytes(octet ^ mask[i % 4] for i, octet in enumerate(payload))


class Run:
    """A scenario that is being played: which connection is next, and what went wrong."""

    def __init__(self, scenario: Mapping[str, Any]) -> None:
        """Nothing is played yet."""
        self._scripts: list[Sequence[Mapping[str, Any]]] = []
        for script in scenario["server"]:
            if isinstance(script, list):
                self._scripts.append(script)
            else:
                self._scripts += [script["steps"]] * script["times"]
        self._begun = 0
        self._done = 0
        self._changed = asyncio.Event()
        self.problems: list[str] = []

    async def play(self, connection: Connection) -> None:
        """Play the next part with this connection."""
        number = self._begun
        self._begun += 1
        self._changed.set()
        try:
            if number >= len(self._scripts):
                raise ScenarioError("the scenario has no more connections")
            await connection.play(self._scripts[number])
        except ScenarioError as failure:
            self.problems.append(f"connection {number + 1}: {failure}")
        except TimeoutError:
            self.problems.append(f"connection {number + 1}: the client did not end it")
        finally:
            self._done += 1
            self._changed.set()

    async def report(self) -> dict[str, Any]:
        """What went wrong, when all connections are over."""
        try:
            await self._until(
                lambda: bool(self.problems) or self._done >= max(self._begun, len(self._scripts))
            )
        except TimeoutError:
            self.problems.append(f"{self._done} of {len(self._scripts)} connections came and ended")
        return {"problems": self.problems}

    async def arrived(self, number: int) -> dict[str, Any]:
        """Wait until so many connections have come."""
        await self._until(lambda: self._begun >= number)
        return {}

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


class Server:
    """All runs of all scenarios."""

    def __init__(self) -> None:
        """No run yet."""
        self._runs: dict[str, Run] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a request, and play or report."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            target = urlsplit(head.split(" ")[1])
            lines = (line.partition(":") for line in head.split("\r\n")[1:])
            headers = {name.strip().lower(): value.strip() for name, _, value in lines}
            scenario, run, *rest = target.path.strip("/").split("/")
            key = f"{scenario}/{run}"
            if key not in self._runs:
                path = FOLDER / f"{Path(scenario).name}.json"
                self._runs[key] = Run(json.loads(path.read_text(encoding="utf-8")))
            if rest:
                if rest[0] == "report":
                    answer = await self._runs.pop(key).report()
                else:
                    answer = await self._runs[key].arrived(int(rest[1]))
                body = json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ")
                writer.write(f"{len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
            else:
                query = dict(parse_qsl(target.query))
                await self._runs[key].play(Connection(reader, writer, query, headers))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client has left while it was answered.
        finally:
            writer.close()


async def main() -> None:
    """Serve until standard input ends."""
    server = await asyncio.start_server(Server().serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
