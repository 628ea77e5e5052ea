"""A connection whose messages take their time goes behind the others."""

from __future__ import annotations

import pytest

from tests.unit.engine.live import Live, masked, run
from tidegate.engine import later, receiving
from tidegate.engine.connection import Connection


def test_each_is_served_for_a_moment_and_then_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiving, "SERVED_SECONDS", 0.0)  # one message at a time

    async def main() -> None:
        async with Live() as live:
            (first, one), (second, _) = await live.open(), await live.open()
            order: list[int] = []

            def note(connection: Connection) -> None:
                order.append(connection.number)
                if len(order) == 20:
                    connection.send("done")

            live.recorder.doing["x"] = note
            for client in (first, second):
                data = masked("x") * 10
                assert client.sock.send(data) == len(data)
            done = first if one.number == 2 else second
            await done.frame()
            assert sorted(order) == [1] * 10 + [2] * 10
            # Not all of one before the other.
            assert order != sorted(order)
            assert order != sorted(order, reverse=True)

    run(main())


def test_a_large_message_is_handled_behind_small_ones_of_others() -> None:
    async def main() -> None:
        async with Live({"messages": {"per_second": 0, "max_size": 1 << 20}}) as live:
            (first, _), (second, _) = await live.open(), await live.open()
            order: list[str] = []
            large = "y" * 70_000
            live.recorder.doing["x"] = lambda connection: order.append("small")

            def note(connection: Connection) -> None:
                order.append("large")
                connection.send("done")

            live.recorder.doing[large] = note
            data = masked(large)
            assert first.sock.send(data) == len(data)
            assert second.sock.send(masked("x")) == len(masked("x"))
            await first.frame()
            assert order == ["small", "large"]

    run(main())


def test_each_of_many_is_spread_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(later, "monotonic", lambda: next(clock))  # each look takes a second

    async def main() -> None:
        async with Live() as live:
            shared = live.node.engine.shared
            done: list[int] = []
            live.node.engine.each(iter(range(5)), done.append)  # type: ignore[arg-type]
            assert done == [0], "the rest comes behind the others"
            while shared.later.step():
                pass
            assert done == [0, 1, 2, 3, 4]

    run(main())
