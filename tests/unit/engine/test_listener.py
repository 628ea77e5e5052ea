"""Attempts that do not become connections: they get their answer, and take nothing with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from live import Client, Live, run, until
from tests.support.raw import upgrade

from tidegate.engine import lingering, listener
from tidegate.engine.listener import listening_socket
from tidegate.errors import ConfigError

REFUSED = {"limits": {"connections": 0}}


async def refused(client: Client, status: int) -> None:
    """Read a refusal up to the end of the stream, which comes at once and without a reset."""
    assert await client.status() == status
    assert (await client.end()).startswith(b"{")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (upgrade(), 503),
        (upgrade(path="/other"), 404),
        (upgrade(replace={"Sec-WebSocket-Version": "12"}), 426),
        (b"GET / HTTP/1.0\r\n\r\n", 505),
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000, 431),
    ],
)
@pytest.mark.parametrize("first", [0, 2])
def test_a_refusal_arrives(request_: bytes, status: int, first: int) -> None:
    """In one piece or in two, and whatever the peer sends behind it."""

    async def main() -> None:
        async with Live(REFUSED) as live:
            client = await live.client()
            if first:
                await client.send(request_[:first])
                await until(lambda: live.server.engine.openings or live.server.stats.bytes_sent)
            await client.send(request_[first:] + bytes(100_000))
            await refused(client, status)
            assert live.recorder.opened == []
            assert live.server.tracker.peak == 0
            assert sum(live.server.stats.rejected.values()) == 1

    run(main())


@pytest.mark.parametrize("how", ["leave", "reset", "half_close"])
def test_a_peer_that_leaves_before_its_request_is_whole(how: str) -> None:
    async def main() -> None:
        async with Live() as live:
            client = await live.client()
            await client.send(b"GET /ws ")
            await until(lambda: live.server.engine.openings)
            getattr(client, how)()
            await until(lambda: not live.server.engine.openings)

    run(main())


def test_an_error_of_the_door_is_answered_and_harms_nobody() -> None:
    async def main() -> None:
        async with Live() as live:

            def fail(*_: object) -> bytes:
                raise RuntimeError("secret")

            gate = live.server.engine.door
            decide, gate.decide = gate.decide, fail  # type: ignore[method-assign]
            client = await live.client()
            await client.send(upgrade())
            await refused(client, 500)
            gate.decide = decide  # type: ignore[method-assign]
            await live.open()

    run(main())


def test_an_error_in_opening_a_connection_gives_its_lease_back() -> None:
    async def main() -> None:
        async with Live() as live:

            def fail(*_: object) -> None:
                raise RuntimeError

            errors: list[object] = []
            engine = live.server.engine
            handler = engine.loop.get_exception_handler()
            engine.loop.set_exception_handler(lambda _, context: errors.append(context))
            register, engine.poller.register = engine.poller.register, fail  # type: ignore[method-assign]
            client = await live.client()
            await client.send(upgrade())
            await until(lambda: live.recorder.opened)
            assert await live.ended(live.recorder.opened[0]) == (1006, "")
            assert live.server.tracker.open == 0
            assert len(errors) == 1
            engine.loop.set_exception_handler(handler)
            engine.poller.register = register  # type: ignore[method-assign]
            await live.open()

    run(main())


# Pace.


def test_while_nobody_is_to_be_accepted_clients_wait_in_the_kernel() -> None:
    async def main() -> None:
        async with Live() as live:
            asked: list[float] = []

            def wait_for_accept(now: float) -> float:
                asked.append(now)
                return 0.02 if len(asked) < 3 else 0.0

            gate = live.server.engine.door
            gate.wait_for_accept = wait_for_accept  # type: ignore[method-assign]
            client = await live.client()
            await client.send(upgrade())
            assert await client.status() == 101
            assert len(asked) >= 3
            # Each look came after the pause that the one before had asked for.
            assert asked[2] - asked[0] >= 0.035
            assert live.server.tracker.open == 1

    run(main())


# Steps.


def in_steps(live: Live, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have a listener make one step in each turn, and note which those are."""
    steps: list[str] = []
    monkeypatch.setattr(listener, "_ACCEPT_SECONDS", (0.0, 0.0))
    door = live.server.engine.listeners[0]

    def noted(name: str, do: Callable[..., None]) -> Callable[..., None]:
        def step(*args: object) -> None:
            steps.append(name)
            do(*args)

        return step

    for name in ("_accepted", "answer", "_open"):
        monkeypatch.setattr(door, name, noted(name, getattr(door, name)))
    return steps


def test_others_are_served_between_the_steps_of_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Live() as live:
            steps = in_steps(live, monkeypatch)
            poller = live.server.engine.poller
            serve = poller._serve

            def noted(until: float) -> bool:
                steps.append("others")
                return serve(until)

            monkeypatch.setattr(poller, "_serve", noted)
            client = await live.client()
            await client.send(upgrade())
            assert await client.status() == 101
            first = steps.index("_accepted")
            assert steps[first : first + 5] == ["_accepted", "others", "answer", "others", "_open"]

    run(main())


@pytest.mark.parametrize(("settings", "status"), [({}, 101), (REFUSED, 503)])
def test_an_attempt_between_two_steps_is_answered_when_the_listener_closes(
    settings: dict[str, dict[str, Any]], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with Live(settings) as live:
            steps = in_steps(live, monkeypatch)
            client = await live.client()
            await client.send(upgrade())
            engine = live.server.engine
            turn = engine.poller._let_in

            def close_then() -> None:
                turn()
                engine.stop_listening()

            monkeypatch.setattr(engine.poller, "_let_in", close_then)
            assert await client.status() == status
            assert steps[:2] == ["_accepted", "answer"]

    run(main())


# Sockets that linger.


def test_lingering_ends_with_the_peer_or_in_time() -> None:
    async def main() -> None:
        async with Live(REFUSED) as live:
            lingerers = live.server.engine.lingerers
            first, second = await live.client(), await live.client()
            for client in (first, second):
                await client.send(upgrade())
                await refused(client, 503)
            assert len(lingerers) == 2
            first.leave()
            await until(lambda: len(lingerers) == 1)
            lingerers.sweep(float("inf"))
            assert len(lingerers) == 0
            await second.send(b"x")
            with pytest.raises(BrokenPipeError):
                await second.send(b"x")

    run(main())


def test_only_so_many_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "_MOST", 3)

    async def main() -> None:
        async with Live(REFUSED) as live:
            for _ in range(10):
                client = await live.client()
                await client.send(upgrade())
                await refused(client, 503)
                assert len(live.server.engine.lingerers) <= 3

    run(main())


# Addresses.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_listening(host: str) -> None:
    with listening_socket(host, 0, 10) as sock:
        assert sock.getsockname()[1] > 0
        assert sock.getblocking() is False


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_cannot_be_used(host: str) -> None:
    with pytest.raises(ConfigError, match=host):
        listening_socket(host, 0, 10)


def test_a_port_that_is_taken() -> None:
    with listening_socket("127.0.0.1", 0, 10) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}: "):
            listening_socket("127.0.0.1", port, 10)
