"""No connection and no burst holds the loop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Start
from tests.support.net import free_port
from tests.support.process import Process
from tests.support.raw import BINARY, TEXT, Raw, frame, upgrade

pytestmark = pytest.mark.alone

ROUNDS = 50


@pytest.fixture(scope="module")
def echo(shared_program: Start) -> Process:
    port = free_port()
    return shared_program(f"examples/echo.py --port {port}", admin=False, port=port)


@contextlib.contextmanager
def meanwhile(*work: Callable[[], object]) -> Iterator[None]:
    """Do things again and again in threads of their own, until the block is done."""
    done = threading.Event()

    def repeat(one: Callable[[], object]) -> None:
        with contextlib.suppress(OSError, EOFError):
            while not done.is_set():
                one()

    threads = [threading.Thread(target=repeat, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def longest_round(raw: Raw) -> float:
    """The longest time that an echo took."""
    longest = 0.0
    for number in range(ROUNDS):
        started = time.monotonic()
        raw.send_frame(TEXT, str(number))
        assert raw.message() == str(number)
        longest = max(longest, time.monotonic() - started)
    return longest


FLOODS = {
    "tiny frames": frame(TEXT, b"") * 20_000,
    "large messages": frame(BINARY, bytes(8 << 20)),
    "tiny fragments": frame(TEXT, b"x", final=False)
    + frame(0, b"x", final=False) * 20_000
    + frame(0, b"x"),
    "pings": frame(9, b"are you there") * 20_000,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_others_are_served_during_a_flood(echo: Process, flood: str) -> None:
    data = FLOODS[flood]
    with echo.connect() as loud, echo.connect() as quiet:
        loud.open()
        quiet.open()

        def read() -> None:
            if not loud.sock.recv(1 << 20):
                raise EOFError

        with meanwhile(lambda: loud.send(data), read):
            assert longest_round(quiet) < 1
            loud.half_close()


def test_others_are_served_during_a_storm_of_attempts(echo: Process) -> None:
    def attempt() -> None:
        with echo.connect() as raw:
            raw.send(upgrade())
            raw.reset()

    with echo.connect() as quiet:
        quiet.open()
        with meanwhile(attempt, attempt):
            assert longest_round(quiet) < 1
