"""Attempts that do not become connections: they get their answer, and take nothing with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import pytest

from tests.support.raw import upgrade
from tests.unit.engine.live import Client, Live, masked, run, until
from tidegate.engine import listener

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
        (b"GET / HTTP/2.0\r\n\r\n", 505),
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
                await until(
                    lambda: live.node.engine.shared.openings or live.node.stats.outgoing.bytes
                )
            await client.send(request_[first:] + bytes(100_000))
            await refused(client, status)
            assert live.recorder.connections == []
            assert live.node.tracker.peak == 0
            assert sum(live.node.stats.rejected.values()) == 1

    run(main())


@pytest.mark.parametrize("how", ["leave", "reset", "half_close"])
def test_a_peer_that_leaves_before_its_request_is_whole(how: str) -> None:
    async def main() -> None:
        async with Live() as live:
            client = await live.client()
            await client.send(b"GET /ws ")
            await until(lambda: live.node.engine.shared.openings)
            getattr(client, how)()
            await until(lambda: not live.node.engine.shared.openings)

    run(main())


def test_an_error_of_the_door_is_answered_and_harms_nobody() -> None:
    async def main() -> None:
        async with Live() as live:

            def fail(*_: object) -> bytes:
                raise RuntimeError("secret")

            gate = live.node.engine.shared.door
            decide, gate.decide = gate.decide, fail  # type: ignore[method-assign]
            client = await live.client()
            await client.send(upgrade())
            await refused(client, 500)
            gate.decide = decide  # type: ignore[method-assign]
            await live.open()

    run(main())


def test_an_error_in_opening_a_connection_gives_its_lease_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with Live() as live:

            def fail(*_: object) -> None:
                raise RuntimeError

            errors: list[object] = []
            engine = live.node.engine.shared
            handler = engine.loop.get_exception_handler()
            engine.loop.set_exception_handler(lambda _, context: errors.append(context))
            register = engine.poller.register
            monkeypatch.setattr(engine.poller, "register", fail)
            client = await live.client()
            await client.send(upgrade())
            await until(lambda: live.recorder.connections)
            assert await live.ended(live.recorder.connections[0]) == (1006, "")
            assert live.node.tracker.open == 0
            assert len(errors) == 1
            engine.loop.set_exception_handler(handler)
            monkeypatch.setattr(engine.poller, "register", register)
            await live.open()

    run(main())


# Phases.


def noted(live: Live, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The phases that attempts go through from now on, one entry for each attempt in each."""
    steps: list[str] = []
    door = live.node.engine.listeners[0]

    def note(name: str, do: Callable[..., None]) -> Callable[..., None]:
        def step(*args: object) -> None:
            steps.append(name)
            do(*args)

        return step

    for name in ("_read", "_decide", "refuse", "_open"):
        monkeypatch.setattr(door, name, note(name, getattr(door, name)))
    return steps


async def ask(live: Live, count: int) -> list[Client]:
    """Have so many clients send their request before the server can do anything."""
    clients = [await live.client() for _ in range(count)]
    for client in clients:
        client.sock.send(upgrade())
    return clients


def one_step_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_ACCEPT_SECONDS", (0.0, 0.0))


def test_a_batch_goes_through_each_phase_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_BATCH", 3)
    monkeypatch.setattr(listener, "_ACCEPT_SECONDS", (1.0, 1.0))

    async def main() -> None:
        async with Live() as live:
            steps = noted(live, monkeypatch)
            for client in await ask(live, 5):
                assert await client.status() == 101
            phases = ["_read", "_decide", "_open"]
            assert steps == [name for n in (3, 2) for name in phases for _ in range(n)]

    run(main())


def test_others_are_served_between_the_steps_of_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    one_step_a_turn(monkeypatch)

    async def main() -> None:
        async with Live() as live:
            steps = noted(live, monkeypatch)
            poller = live.node.engine.shared.poller
            serve = poller._serve

            def others(until: float) -> bool:
                steps.append("others")
                return serve(until)

            monkeypatch.setattr(poller, "_serve", others)
            client = await live.client()
            await client.send(upgrade())
            assert await client.status() == 101
            first = steps.index("_read")
            assert steps[first : first + 5] == ["_read", "others", "_decide", "others", "_open"]

    run(main())


def test_a_late_request_that_comes_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    one_step_a_turn(monkeypatch)

    async def main() -> None:
        async with Live() as live:
            late = await live.client()
            await late.send(upgrade()[:20])
            await until(lambda: live.node.engine.shared.openings)
            door = live.node.engine.listeners[0]
            open_ = door._open

            def then(*args: Any) -> None:
                open_(*args)
                monkeypatch.setattr(door, "_open", open_)
                late.sock.send(upgrade()[20:])

            monkeypatch.setattr(door, "_open", then)
            client = await live.client()
            await client.shake_hands()
            assert await late.status() == 101

    run(main())


def test_an_attempt_that_fails_does_not_keep_the_others_of_its_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with Live() as live:
            errors: list[object] = []
            engine = live.node.engine.shared
            handler = engine.loop.get_exception_handler()
            engine.loop.set_exception_handler(lambda _, context: errors.append(context))
            door = live.node.engine.listeners[0]
            decide, asked = door._decide, iter(range(5))

            def fail(*args: Any) -> None:
                if next(asked) % 2:
                    args[0].close()
                    raise RuntimeError
                decide(*args)

            monkeypatch.setattr(door, "_decide", fail)
            clients = await ask(live, 5)
            for client in clients[::2]:
                assert await client.status() == 101
            for client in clients[1::2]:
                assert await client.end() == b""
            assert len(errors) == 2
            engine.loop.set_exception_handler(handler)

    run(main())


@pytest.mark.parametrize(("settings", "status"), [({}, 101), (REFUSED, 503)])
def test_attempts_between_two_phases_are_answered_when_the_listener_closes(
    settings: dict[str, dict[str, Any]], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_step_a_turn(monkeypatch)

    async def main() -> None:
        async with Live(settings) as live:
            steps = noted(live, monkeypatch)
            clients = await ask(live, 3)
            engine = live.node.engine
            let_in = engine.shared.poller._let_in

            def close_then() -> None:
                let_in()
                if "_read" in steps:
                    engine.stop_listening()

            monkeypatch.setattr(engine.shared.poller, "_let_in", close_then)
            for client in clients:
                assert await client.status() == status
            assert steps[:6] == ["_read"] * 3 + ["_decide"] * 3

    run(main())


# Pace.


def paced(live: Live, waits: Iterator[float]) -> list[float]:
    """Have the gate say how long to wait, and note when it was asked."""
    asked: list[float] = []

    def wait_to_decide(now: float) -> float:
        asked.append(now)
        return next(waits, 0.0)

    gate = live.node.engine.shared.door
    gate.wait_to_decide = wait_to_decide  # type: ignore[method-assign]
    return asked


def test_while_nobody_is_to_be_decided_about_clients_wait() -> None:
    async def main() -> None:
        async with Live() as live:
            asked = paced(live, iter((0.02, 0.02)))
            client = await live.client()
            await client.send(upgrade())
            assert await client.status() == 101
            # Each look came after the pause that the one before had asked for.
            assert len(asked) == 3
            assert asked[2] - asked[0] >= 0.035
            assert live.node.tracker.open == 1

    run(main())


def test_who_was_let_in_does_not_wait_for_those_who_may_not_come_in_yet() -> None:
    async def main() -> None:
        async with Live() as live:
            paced(live, chain((0.0, 0.0), repeat(0.01)))
            clients = await ask(live, 3)
            for client in clients[:2]:
                assert await client.status() == 101
            assert live.node.tracker.open == 2

    run(main())


def test_only_a_batch_is_accepted_while_nobody_is_to_be_decided_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "_BATCH", 3)

    async def main() -> None:
        async with Live() as live:
            steps = noted(live, monkeypatch)
            asked = paced(live, iter([0.005] * 5))
            clients = await ask(live, 8)
            await until(lambda: len(asked) >= 4)
            assert steps == ["_read"] * 3
            for client in clients:
                assert await client.status() == 101

    run(main())


def test_an_attempt_whose_request_came_in_parts_heeds_the_pace_too() -> None:
    async def main() -> None:
        async with Live() as live:
            asked = paced(live, iter((0.01,)))
            client = await live.client()
            await client.send(upgrade()[:20])
            await until(lambda: live.node.engine.shared.openings)
            await client.send(upgrade()[20:] + masked("early"))
            await until(lambda: asked)
            assert len(live.node.engine.shared.openings) == 0
            assert live.node.tracker.open == 0
            # What it sends meanwhile is read when it is in.
            await client.send(masked("later"))
            assert await client.status() == 101
            await until(lambda: live.recorder.texts() == ["early", "later"])

    run(main())


@pytest.mark.parametrize("how", ["leave", "reset"])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_peer_that_leaves_while_it_waits_to_be_decided_about(how: str, parts: int) -> None:
    async def main() -> None:
        async with Live() as live:
            asked = paced(live, iter((0.01,)))
            client = await live.client()
            if parts == 2:
                await client.send(upgrade()[:20])
                await until(lambda: live.node.engine.shared.openings)
            await client.send(upgrade()[20 if parts == 2 else 0 :])
            await until(lambda: asked)
            getattr(client, how)()
            await until(lambda: live.recorder.ends)
            assert live.node.tracker.open == 0

    run(main())


# Sockets that linger.


def test_lingering_ends_with_the_peer_or_in_time() -> None:
    async def main() -> None:
        async with Live(REFUSED) as live:
            lingerers = live.node.engine.shared.lingerers
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


def test_only_so_many_linger() -> None:
    async def main() -> None:
        async with Live({"limits": {"connections": 0, "per_ip": 5}}) as live:
            shared = live.node.engine.shared
            for _ in range(10):
                client = await live.client()
                await client.send(upgrade())
                await refused(client, 503)
                assert len(shared.lingerers) == len(shared.lingerers.unfinished) <= 5
            assert len(shared.lingerers) == 5

    run(main())
