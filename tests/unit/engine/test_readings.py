"""What the engine says of itself, for the signals of pressure."""

from __future__ import annotations

from tests.unit.engine.live import Live, run, until


def test_bytes_in_outboxes() -> None:
    async def main() -> None:
        async with Live() as live:
            assert live.node.engine.buffered == 0
            _, one = await live.open(slow=True)
            _, other = await live.open(slow=True)
            await live.open()
            for connection, size in ((one, 300_000), (other, 200_000)):
                connection.send(bytes(size))
            assert one.buffered > 100_000
            assert live.node.engine.buffered == one.buffered + other.buffered
            one.abort()
            await until(lambda: one.closed)
            assert live.node.engine.buffered == other.buffered > 0

    run(main())


def test_the_worst_lag_since_the_last_look() -> None:
    async def main() -> None:
        async with Live() as live:
            engine = live.node.engine
            # As if the timer had been due then, by its own account.
            for late in (0.2, 0.5, 0.1):
                assert engine._timer is not None
                engine._timer.cancel()
                engine._next_tick -= 0.1 + late
                engine._tick()
            lag = engine.take_lag()
            assert 0.4 < lag < 0.7
            assert engine.take_lag() == 0.0

    run(main())
