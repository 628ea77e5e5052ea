"""The opening handshake over real sockets."""

from __future__ import annotations

import asyncio

import pytest
import websockets
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support import aio
from tests.support.net import free_port
from tests.support.process import Process
from tests.support.raw import TEXT, Raw, frame, upgrade

REQUEST = upgrade(path="/anywhere?at=all")


@pytest.fixture(scope="module")
def echo(shared_program: Start) -> Process:
    port = free_port()
    return shared_program(f"examples/echo.py --port {port}", admin=False, port=port)


def test_byte_by_byte_with_a_frame_behind_it(echo: Process) -> None:
    with echo.connect() as raw:
        for byte in REQUEST + frame(TEXT, b"in small pieces"):
            raw.send(bytes([byte]))
        assert raw.response().status == 101
        assert raw.message() == "in small pieces"


@pytest.mark.parametrize("before_end", range(6))
def test_split_around_the_end_of_the_head(echo: Process, before_end: int) -> None:
    data = REQUEST + frame(TEXT, b"x")
    at = len(REQUEST) - before_end
    with echo.connect() as raw:
        raw.send(data[:at])
        echo.settle()
        raw.send(data[at:])
        assert raw.response().status == 101
        assert raw.message() == "x"


def test_frames_in_the_same_write_as_the_head(echo: Process) -> None:
    frames = [frame(TEXT, str(number).encode()) for number in range(100)]
    with echo.connect() as raw:
        raw.send(REQUEST + b"".join(frames))
        assert raw.response().status == 101
        assert [raw.message() for _ in range(100)] == [str(number) for number in range(100)]


@pytest.mark.parametrize("cut", [1, 3, 7, 20])
def test_part_of_a_frame_in_the_same_write_as_the_head(echo: Process, cut: int) -> None:
    data = frame(TEXT, b"the rest comes later")
    with echo.connect() as raw:
        raw.send(REQUEST + data[:cut])
        assert raw.response().status == 101
        raw.send(data[cut:])
        assert raw.message() == "the rest comes later"


@pytest.mark.parametrize(
    "changed",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "UPGRADE"},
        {"Connection": "close , upGrade"},
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Host": "[::1]:8000"},
    ],
    ids=lambda changed: next(iter(changed.values())),
)
def test_what_clients_write_in_other_ways(echo: Process, changed: dict[str, str | None]) -> None:
    with echo.connect() as raw:
        raw.open(replace=changed)
        raw.send_frame(TEXT, "fine")
        assert raw.message() == "fine"


def test_the_answer_names_no_subprotocol_or_extension_that_is_not_spoken(echo: Process) -> None:
    headers = [
        ("Sec-WebSocket-Protocol", "chat, superchat"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ]
    with echo.connect() as raw:
        response = raw.ask(headers=headers)
    assert response.status == 101
    assert response.headers["upgrade"].lower() == "websocket"
    assert response.headers["connection"].lower() == "upgrade"
    assert "sec-websocket-protocol" not in response.headers
    assert "sec-websocket-extensions" not in response.headers


def test_leaving_in_the_middle_of_the_head_is_nothing_special(echo: Process) -> None:
    for end in (Raw.close, Raw.reset, Raw.half_close):
        raw = echo.connect()
        raw.send(REQUEST[:40])
        echo.settle()
        end(raw)
        raw.close()
    with echo.connect() as raw:
        raw.open()
        raw.send_frame(TEXT, "still there")
        assert raw.message() == "still there"


def test_websockets_sync(echo: Process) -> None:
    with connect(f"ws://127.0.0.1:{echo.port}/any/path?query", proxy=None) as client:
        client.send("text")
        assert client.recv(20) == "text"


def test_websockets_asyncio(echo: Process) -> None:
    async def run() -> str | bytes:
        async with websockets.connect(echo.url, proxy=None) as client:
            await client.send(b"binary")
            return await asyncio.wait_for(client.recv(), 20)

    assert aio.run(run()) == b"binary"
