"""A plain handler that holds everybody up is named in the log."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clients import Client, run_guarded, until
from tests.support.raw import CLOSE, frame
from tidegate import Connection, Request, Server
from tidegate.engine import application, intake, receiving
from tidegate.library import timing

QUICK: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 1.0},
    "pacing": {"enabled": False},
    "messages": {"per_second": 0},
    "drain": {"window": 0.0},
}
SECONDS = 0.02


@pytest.fixture(autouse=True)
def _shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert application.BLOCKED_SECONDS == 0.1
    for module in (intake, receiving, timing):
        monkeypatch.setattr(module, "BLOCKED_SECONDS", SECONDS)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    caplog.set_level(logging.WARNING, "tidegate")
    texts: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    keep = Keep()
    logging.getLogger("tidegate").addHandler(keep)
    yield texts
    logging.getLogger("tidegate").removeHandler(keep)


def block(*_: object) -> None:
    time.sleep(2 * SECONDS)


def block_first(connection: Connection, message: str | bytes) -> None:
    if message == "block":
        time.sleep(2 * SECONDS)


class Chat:
    def on_message(self, connection: Connection, message: str | bytes) -> None:
        block()


class Callable:
    def __call__(self, *_: object) -> None:
        block()


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (block, "block"),
        (Chat().on_message, "Chat.on_message"),
        (functools.partial(block, 1), "block"),
        (Callable(), "Callable"),
    ],
)
def test_a_message_handler_that_blocks_is_named(
    handler: Any, name: str, warnings: list[str]
) -> None:
    async def main() -> None:
        async with Server(QUICK, on_message=handler) as server:
            client = await Client.open(server.addresses[0][1])
            await client.say("hello")
            await until(lambda: warnings)
            client.leave()
        (text,) = warnings
        assert text.startswith(f"on_message ({__name__}.{name}) held up every connection for 0.0")
        assert text.endswith("make it async, or do the work in a thread")

    run_guarded(main())


@pytest.mark.parametrize("behind", [1, 100])
def test_one_slow_message_among_many_is_seen(behind: int, warnings: list[str]) -> None:
    """Also when it is left over for the next turn."""

    async def main() -> None:
        async with Server(QUICK, on_message=block_first) as server:
            client = await Client.open(server.addresses[0][1])
            await client.say(*["quick"] * behind, "block", "quick")
            await until(lambda: warnings)
            client.leave()
        assert "block_first" in warnings[0]

    run_guarded(main())


def test_other_plain_handlers_that_block_are_named(warnings: list[str]) -> None:
    async def main() -> None:
        for role in ("on_connect", "on_close", "on_leaving", "http"):
            warnings.clear()
            server = Server(QUICK, **{role: block})  # type: ignore[arg-type]
            async with server:
                client = await Client.open(server.addresses[0][1])
                if role == "on_close":
                    await client.send(frame(CLOSE))
                elif role == "on_leaving":
                    await server.drain()
                elif role == "http":
                    other = await Client.at(server.addresses[0][1])
                    await other.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await until(lambda: warnings)
                client.leave()
            assert warnings[0].startswith(f"{role} ({__name__}.block) held up every connection")

    run_guarded(main())


def test_a_handler_that_raises_late_is_named_too(warnings: list[str]) -> None:
    def on_connect(connection: Connection, request: Request) -> None:
        block()
        raise RuntimeError

    async def main() -> None:
        async with Server(QUICK, on_connect=on_connect) as server:
            client = await Client.open(server.addresses[0][1])
            await client.closed()
        assert "on_connect" in warnings[0]
        assert "held up" in warnings[0]

    run_guarded(main())


def test_many_that_block_fill_no_log_and_quick_ones_are_not_named(warnings: list[str]) -> None:
    async def main() -> None:
        async with Server(QUICK, on_message=block_first) as server:
            client = await Client.open(server.addresses[0][1])
            await client.say(*["quick"] * 500)
            await until(lambda: server.stats().messages.received == 500)
            before = len(warnings)
            for number in range(5):
                await client.say("block")
                await until(lambda number=number: server.stats().messages.received == 501 + number)  # type: ignore[misc]
            client.leave()
        assert before == 0
        assert len(warnings) == 1

    run_guarded(main())
