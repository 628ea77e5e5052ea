"""Messages come back unchanged, whatever their size and however they are cut."""

from __future__ import annotations

import asyncio
import os

import pytest
import websockets
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support import aio
from tests.support.net import free_port
from tests.support.process import Process
from tests.support.raw import BINARY, CONT, PING, PONG, TEXT, frame

SIZES = [0, 1, 125, 126, 127, 4096, 65535, 65536, 1 << 20]


@pytest.fixture(scope="module")
def echo(shared_program: Start) -> Process:
    port = free_port()
    return shared_program(f"examples/echo.py --port {port}", admin=False, port=port)


@pytest.mark.parametrize("size", SIZES)
def test_text_and_binary(echo: Process, size: int) -> None:
    with connect(echo.url, proxy=None, max_size=None, compression=None) as client:
        for message in ("é" * (size // 2) + "x" * (size % 2), os.urandom(size)):
            client.send(message)
            assert client.recv(10) == message


def test_16_mib_both_ways(echo: Process) -> None:
    async def run() -> None:
        async with websockets.connect(
            echo.url, proxy=None, max_size=None, compression=None
        ) as client:
            for message in (os.urandom(16 << 20), "ü" * (8 << 20)):
                await client.send(message)
                assert await asyncio.wait_for(client.recv(), 30) == message

    aio.run(run())


def test_fragments(echo: Process) -> None:
    with connect(echo.url, proxy=None, compression=None) as client:
        client.send(iter(["fir", "", "st ", "ärger"]))
        assert client.recv(20) == "first ärger"
        client.send(iter([b"\x00", b"\xff" * 70_000, b""]))
        assert client.recv(20) == b"\x00" + b"\xff" * 70_000


def test_a_character_cut_by_fragments_and_reads(echo: Process) -> None:
    snowman = "☃".encode()
    data = frame(TEXT, snowman[:1], final=False) + frame(CONT, snowman[1:])
    with echo.connect() as raw:
        raw.open()
        for byte in data:
            raw.send(bytes([byte]))
        assert raw.message() == "☃"


def test_control_frames_between_fragments(echo: Process) -> None:
    with echo.connect() as raw:
        raw.open()
        raw.send_frame(TEXT, "a", final=False)
        raw.send_frame(PING, b"now")
        got = raw.frame()
        assert (got.opcode, got.payload) == (PONG, b"now")
        raw.send_frame(PONG, b"unasked")
        raw.send_frame(CONT, "b")
        assert raw.message() == "ab"


def test_many_frames_in_one_read(echo: Process) -> None:
    count = 5000
    frames = b"".join(
        frame(BINARY if number % 2 else TEXT, str(number).encode()) for number in range(count)
    )
    with echo.connect() as raw:
        raw.open()
        raw.send(frames)
        for number in range(count):
            expected = str(number)
            assert raw.message() == (expected.encode() if number % 2 else expected)


def test_many_clients_at_once(echo: Process) -> None:
    async def client(name: int) -> None:
        async with websockets.connect(echo.url, proxy=None, compression=None) as connection:
            for number in range(10):
                await connection.send(f"{name}-{number}")
            for number in range(10):
                assert await connection.recv() == f"{name}-{number}"

    async def run() -> None:
        await asyncio.wait_for(asyncio.gather(*map(client, range(200))), 30)

    aio.run(run())
