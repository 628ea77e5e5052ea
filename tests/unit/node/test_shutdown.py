"""How a node ends: drains and stops, in any order, and the signals that ask for them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.clients import run_guarded, until
from tidegate.core.codes import DRAINED, SHUTDOWN, Close
from tidegate.core.settings import Settings
from tidegate.core.timing.deadlines import Deadlines
from tidegate.engine.states import Admission
from tidegate.node.shutdown import Shutdown, on_signals


class Connection:
    """A connection that answers no close."""

    def __init__(self) -> None:
        self.admission = Admission.ADMITTED
        self.rooms = ()
        self.buffered = 0
        self.open = True
        self.closed = False
        self.told: list[float] = []

    def end(self, reason: Close, retry_after: float | None = None) -> None:
        self.open = False


class Engine:
    """Ends when the test lets it."""

    def __init__(self) -> None:
        self.present: list[Connection] = []
        self.stops: list[tuple[Close, float]] = []
        self.finish = 0.0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.error: Exception | None = None
        self.passes_on = False
        self.at_work = False
        self.shared = SimpleNamespace(
            fanout=SimpleNamespace(when_sent=lambda rooms, action: action()),
            closing=Deadlines(),
        )

    def connections(self) -> Iterator[Connection]:
        return (each for each in self.present if not each.closed)

    async def stop(self, reason: Close, timeout: float, finish: float = 0.0) -> None:
        self.stops.append((reason, timeout))
        self.finish = finish
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        for connection in self.present:
            connection.open, connection.closed = False, True


class World:
    """A `Shutdown` among fakes, with connections that stay until they are cut off."""

    def __init__(self, connections: int = 0, **sections: dict[str, Any]) -> None:
        self.settings = Settings.from_mapping(sections)
        self.engine = Engine()
        self.engine.present = [Connection() for _ in range(connections)]
        self.admission = SimpleNamespace(draining=False)
        self.broker_stops = 0
        self.shutdown = Shutdown(
            self.settings,
            self.engine,  # type: ignore[arg-type]
            self.admission,  # type: ignore[arg-type]
            SimpleNamespace(stop=self.stop_broker),  # type: ignore[arg-type]
            SimpleNamespace(leaving=lambda connection, delay: connection.told.append(delay)),  # type: ignore[arg-type]
            None,
            None,
            self.leave,
        )

    async def leave(self) -> None:
        assert not self.broker_stops, "the broker was stopped before it was told"

    async def stop_broker(self) -> None:
        assert self.engine.stops, "the broker was stopped before the engine"
        self.broker_stops += 1

    def ended(self, *stops: tuple[Close, float]) -> None:
        """Assert that the engine was stopped like that, and all else once after it."""
        assert self.engine.stops == list(stops)
        assert self.broker_stops == 1
        assert self.admission.draining


# Stops.


@pytest.mark.parametrize(("given", "seconds"), [(None, 10.0), (3.0, 3.0), (0.0, 0.0)])
def test_stop_ends_the_engine_and_then_the_broker(given: float | None, seconds: float) -> None:
    async def main() -> None:
        world = World()
        await world.shutdown.stop(timeout=given)
        world.ended((SHUTDOWN, seconds))
        assert world.shutdown.drain is None
        await world.shutdown.wait()

    run_guarded(main())


def test_stop_after_a_stop_returns_at_once() -> None:
    async def main() -> None:
        world = World()
        await world.shutdown.stop()
        await world.shutdown.stop(timeout=1.0)
        world.ended((SHUTDOWN, 10.0))

    run_guarded(main())


def test_stop_during_a_stop_waits_for_the_first() -> None:
    async def main() -> None:
        world = World()
        world.engine.may_end.clear()
        world.shutdown.begin_stop()
        await until(lambda: world.engine.stops)
        second = asyncio.create_task(world.shutdown.stop())
        waiting = asyncio.create_task(world.shutdown.wait())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not second.done()
        assert not waiting.done()
        world.engine.may_end.set()
        await second
        await waiting
        world.ended((SHUTDOWN, 10.0))

    run_guarded(main())


def test_stop_that_fails_lets_nobody_wait_for_ever() -> None:
    async def main() -> None:
        world = World()
        world.engine.error = RuntimeError("of the engine")
        with pytest.raises(RuntimeError, match="of the engine"):
            await world.shutdown.stop()
        await world.shutdown.stop()
        await world.shutdown.wait()

    run_guarded(main())


def test_stop_that_was_begun_and_fails_says_so_to_whoever_waits() -> None:
    async def main() -> None:
        world = World()
        world.engine.error = RuntimeError("of the engine")
        world.shutdown.begin_stop()
        with pytest.raises(RuntimeError, match="of the engine"):
            await world.shutdown.wait()

    run_guarded(main())


def test_stop_says_in_the_log_how_many_there_are(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with caplog.at_level("INFO", "tidegate"):
            await World(3).shutdown.stop()

    run_guarded(main())
    (record,) = caplog.records
    assert (record.getMessage(), record.connections) == ("stopping", 3)  # type: ignore[attr-defined]


# Drains.


def test_drain_without_connections_stops_the_engine_at_once() -> None:
    async def main() -> None:
        world = World()
        drain = world.shutdown.begin_drain()
        assert world.shutdown.drain is drain
        assert drain.window == 30.0
        assert world.admission.draining
        await world.shutdown.wait()
        assert drain.over
        world.ended((DRAINED, 0.0))
        assert world.engine.finish == 10.0  # for HTTP, server.shutdown_timeout

    run_guarded(main())


def test_drain_of_some_tells_and_closes_them_and_cuts_off_who_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        world = World(3, server={"close_timeout": 0.1})
        drain = world.shutdown.begin_drain(0)
        await world.shutdown.wait()
        assert (drain.told, drain.closed) == (3, 3)
        assert all(connection.told for connection in world.engine.present)
        world.ended((DRAINED, 0.0))

    run_guarded(main())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == "cut off at the end of the drain"
    assert record.connections == 3  # type: ignore[attr-defined]


def test_drain_during_a_drain_is_the_same_one() -> None:
    async def main() -> None:
        world = World(1, server={"close_timeout": 0.1})
        drain = world.shutdown.begin_drain(0)
        assert world.shutdown.begin_drain(1000) is drain
        await world.shutdown.wait()
        world.ended((DRAINED, 0.0))

    run_guarded(main())


def test_drain_uses_the_settings_in_force() -> None:
    async def main() -> None:
        world = World(1)
        world.shutdown.apply(
            Settings.from_mapping({"drain": {"window": 7}, "server": {"shutdown_timeout": 2}})
        )
        drain = world.shutdown.begin_drain()
        assert drain.window == 7.0
        await world.shutdown.stop()
        await world.shutdown.wait()
        world.ended((SHUTDOWN, 2.0))

    run_guarded(main())


def test_stop_during_a_drain_ends_it_at_once() -> None:
    async def main() -> None:
        world = World(5)
        drain = world.shutdown.begin_drain(1000)
        await until(lambda: drain.told)
        await world.shutdown.stop()
        assert drain.over
        await world.shutdown.wait()
        world.ended((SHUTDOWN, 10.0))
        assert drain.open == 0

    run_guarded(main())


def test_drain_after_a_stop_changes_nothing() -> None:
    async def main() -> None:
        world = World()
        await world.shutdown.stop()
        world.shutdown.begin_drain()
        await world.shutdown.wait()
        world.ended((SHUTDOWN, 10.0))

    run_guarded(main())


# What SIGTERM asks for.


@pytest.mark.parametrize(("drains", "stop"), [(True, (DRAINED, 0.0)), (False, (SHUTDOWN, 10.0))])
def test_sigterm_drains_unless_that_is_switched_off(
    drains: bool, stop: tuple[Close, float]
) -> None:
    async def main() -> None:
        world = World(drain={"on_sigterm": drains})
        world.shutdown.on_sigterm()
        assert (world.shutdown.drain is not None) is drains
        await world.shutdown.wait()
        world.ended(stop)

    run_guarded(main())


def test_sigterm_asks_for_what_the_settings_in_force_say() -> None:
    async def main() -> None:
        world = World()
        world.shutdown.apply(Settings.from_mapping({"drain": {"on_sigterm": False}}))
        world.shutdown.on_sigterm()
        assert world.shutdown.drain is None
        await world.shutdown.wait()

    run_guarded(main())


# Signals.


class Asked:
    """What `on_signals` calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_sigterm(self) -> None:
        self.calls.append("sigterm")

    def begin_stop(self) -> None:
        self.calls.append("stop")


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, action in before.items():
        signal.signal(number, action)


@pytest.mark.parametrize(("number", "call"), [(signal.SIGTERM, "sigterm"), (signal.SIGINT, "stop")])
def test_signal_is_acted_on_once_and_the_next_one_is_the_systems(
    number: signal.Signals, call: str
) -> None:
    async def main() -> None:
        asked = Asked()
        with on_signals(asked):  # type: ignore[arg-type]
            os.kill(os.getpid(), number)
            await until(lambda: asked.calls)
            assert asked.calls == [call]
            # A process that is stuck can still be ended, with either of them.
            for each in (signal.SIGTERM, signal.SIGINT):
                assert signal.getsignal(each) is signal.SIG_DFL

    run_guarded(main())


def test_signals_are_left_alone_afterwards() -> None:
    async def main() -> None:
        asked = Asked()
        with on_signals(asked):  # type: ignore[arg-type]
            pass
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            assert not loop.remove_signal_handler(number)
        assert asked.calls == []

    run_guarded(main())


def test_signals_that_have_a_handler_keep_it() -> None:
    seen: list[int] = []

    async def main() -> None:
        with on_signals(Asked(), lambda: None):  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGUSR1)
            await until(lambda: seen)
            assert signal.getsignal(signal.SIGUSR2) is not signal.SIG_DFL

    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        run_guarded(main())
    finally:
        signal.signal(signal.SIGUSR1, before)
