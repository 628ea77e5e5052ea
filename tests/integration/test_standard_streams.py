"""Standard input, output and error that are closed, or on a full disk, stop nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import chain, combinations
from pathlib import Path

import pytest
import websockets

from tests.conftest import Start
from tests.support import aio
from tests.support.net import free_port
from tests.support.process import Process
from tests.support.raw import PING, PONG

COMMAND = Path(sys.executable).with_name("tidegate")

CLOSINGS = list(chain.from_iterable(combinations((0, 1, 2), count) for count in (1, 2, 3)))
FULL = [(1,), (2,), (1, 2)]


def close(numbers: tuple[int, ...]) -> None:
    for number in numbers:
        os.close(number)


def fill(numbers: tuple[int, ...]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    for number in numbers:
        os.dup2(full, number)
    os.close(full)


PREPARATIONS = [partial(close, numbers) for numbers in CLOSINGS]
PREPARATIONS += [partial(fill, numbers) for numbers in FULL]


def name(prepare: partial[None]) -> str:
    return f"{prepare.func.__name__}-{''.join(map(str, prepare.args[0]))}"


async def drains(server: Process) -> None:
    """A client is served until SIGTERM, and then told when to come back."""
    async with websockets.connect(server.url, proxy=None) as client:
        await (await client.ping())
        server.signal(signal.SIGTERM)
        await asyncio.wait_for(client.wait_closed(), 10)
        assert client.close_code == 1012


@pytest.mark.parametrize("prepare", PREPARATIONS, ids=name)
def test_serve_without_streams_serves_and_ends_with_0_after_a_drain(
    serve: Start, prepare: partial[None]
) -> None:
    server = serve({"drain": {"window": 0}}, prepare=prepare)
    aio.run(drains(server))
    assert server.process.wait(10) == 0
    if name(prepare) in ("close-0", "close-1", "close-01", "fill-1"):
        assert "stopped" in server.log


def test_serve_as_a_module_without_streams_ends_with_0_after_a_drain(program: Start) -> None:
    close_all = partial(close, (0, 1, 2))
    server = program("-m tidegate serve", {"drain": {"window": 0}}, prepare=close_all)
    aio.run(drains(server))
    assert server.process.wait(10) == 0


@pytest.mark.parametrize("numbers", CLOSINGS)
def test_a_program_of_the_library_without_streams_serves_and_ends_with_0(
    program: Start, numbers: tuple[int, ...]
) -> None:
    port = free_port()
    server = program(
        f"examples/echo.py --port {port}", port=port, admin=False, prepare=partial(close, numbers)
    )
    with server.connect() as client:
        client.open()
        client.send_frame(PING)
        assert client.frame().opcode == PONG
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("config", "default"), 0),
        (("token", "check"), 1),
        (("serve", "--set", "limits.per_ip=-1"), 2),
        (("serv",), 2),
        (("--help",), 0),
    ],
)
def test_a_command_without_streams_ends_with_its_own_code(
    arguments: tuple[str, ...], code: int
) -> None:
    secret = {"TIDEGATE_AUTH_SECRET": "s" * 32}
    result = subprocess.run(
        [COMMAND, *arguments],
        preexec_fn=partial(close, (0, 1, 2)),
        env={**os.environ, **secret},
        timeout=20,
    )
    assert result.returncode == code


def test_an_error_is_told_although_standard_output_is_closed() -> None:
    result = subprocess.run(
        [COMMAND, "serve", "--set", "limits.per_ip=-1"],
        preexec_fn=partial(close, (0, 1)),
        stderr=subprocess.PIPE,
        text=True,
        timeout=20,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("tidegate: limits.per_ip = -1")
