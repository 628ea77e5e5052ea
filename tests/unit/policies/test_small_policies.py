"""Pacer, breaker, rates, rooms and registry on their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.aio import run
from tests.unit.policies.clock import Clock
from tidegate.errors import ConfigError
from tidegate.policies import (
    CircuitBreaker,
    ConnectionRegistry,
    Pacer,
    RateLimiter,
    Refused,
    Rooms,
)


def test_pacer_gives_each_that_is_too_early_a_slot_of_its_own() -> None:
    clock = Clock()
    pacer = Pacer(10, 1, clock=clock)
    pacer.admit("first")
    delays = []
    for number in range(20):
        with pytest.raises(Refused, match="rate_limited") as refused:
            pacer.admit(number)
        delays.append(refused.value.retry_after)
    assert all(delay is not None and delay >= 1 for delay in delays)
    clock.now += 2.0
    pacer.admit(19)
    assert (pacer.stats().admitted, pacer.stats().refused) == (2, 20)
    with pytest.raises(ConfigError, match=r"pacing\.rate = 0"):
        pacer.set_rate(0, 1)


def test_breaker_opens_refuses_and_closes_again() -> None:
    clock = Clock()
    breaker = CircuitBreaker(rejections=3, window=10, open_for=5, probes=2, clock=clock)
    for _ in range(3):
        breaker.check()
        breaker.rejected()
    with pytest.raises(Refused, match="breaker") as refused:
        breaker.check()
    assert refused.value.retry_after == 5
    assert breaker.stats().state == "open"
    clock.now += 5
    assert breaker.state == "half_open"
    for _ in range(2):
        breaker.check()
        breaker.admitted()
    assert breaker.stats() == type(breaker.stats())("closed", None)


def test_rates_allow_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    rates = RateLimiter(10, 5, clock=clock)
    assert [rates.take("a") for _ in range(5)] == [0.0] * 5
    assert rates.take("a") == pytest.approx(0.1)
    assert rates.take("b") == 0.0
    clock.now += 0.1
    assert rates.take("a") == 0.0
    assert rates.take("a") > 0


def test_rates_remember_only_keys_that_were_used_lately() -> None:
    clock = Clock()
    rates = RateLimiter(10, 5, max_keys=100, clock=clock)
    for number in range(1000):
        rates.take(number)
    assert len(rates) <= 100
    clock.now += 60
    for _ in range(100):
        rates.take("one")
    assert len(rates) == 1
    rates.forget("one")
    assert len(rates) == 0


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 2)), max_size=60))
def test_rates_never_allow_more_than_the_rate_and_a_burst(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    rates = RateLimiter(4, 3, clock=clock)
    taken: dict[int, list[float]] = {}
    for wait, key in steps:
        clock.now += wait
        if not rates.take(key):
            taken.setdefault(key, []).append(clock.now)
    for times in taken.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= 4 * (times[last] - times[first]) + 3 + 1e-6


@pytest.mark.parametrize(("rate", "burst", "name"), [(0, 1, "per_second"), (1, 0.5, "burst")])
def test_rates_out_of_range_name_themselves(rate: float, burst: float, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        RateLimiter(rate, burst)


def test_rates_wait_until_it_is_allowed() -> None:
    async def main() -> None:
        rates = RateLimiter(1000, 1)
        for _ in range(5):
            await rates.wait()

    run(main())


def test_rooms_hold_their_limits_and_forget_what_is_empty() -> None:
    rooms: Rooms[str] = Rooms(per_room=2, rooms_per_connection=1)
    rooms.join("ann", "lobby")
    rooms.join("ann", "lobby")
    rooms.join("bob", "lobby")
    with pytest.raises(Refused, match="room_limit") as full:
        rooms.join("cid", "lobby")
    assert full.value.status is None
    with pytest.raises(Refused, match="too_many_rooms"):
        rooms.join("ann", "other")
    assert (rooms.members("lobby"), rooms.of("ann"), rooms.of("cid")) == (
        ["ann", "bob"],
        ("lobby",),
        (),
    )
    assert rooms.leave("ann", "lobby")
    assert not rooms.leave("ann", "lobby")
    assert rooms.leave_all("bob") == ("lobby",)
    assert (len(rooms), rooms.count("lobby"), rooms.leave_all("bob")) == (0, 0, ())
    with pytest.raises(ConfigError, match="per_room = -1"):
        Rooms(per_room=-1)


def test_registry_knows_the_devices_of_a_user() -> None:
    registry: ConnectionRegistry[str] = ConnectionRegistry()
    with registry.entered("phone", "ann"):
        registry.add("laptop", "ann")
        registry.add("anonymous")
        assert registry.of_user("ann") == ["phone", "laptop"]
        registry.add("laptop", "bob")
        assert (registry.user("laptop"), registry.users()) == ("bob", ["ann", "bob"])
        assert registry.is_connected("ann")
    assert not registry.is_connected("ann")
    assert registry.of_user("ann") == []
    assert list(registry) == ["anonymous", "laptop"]
    assert not registry.remove("phone")
    assert registry.remove("laptop")
    assert registry.user("laptop") is None


def test_registry_spreads_what_is_still_here() -> None:
    async def main() -> list[int]:
        registry: ConnectionRegistry[int] = ConnectionRegistry()
        for number in range(5):
            registry.add(number)
        seen = []
        async for connection in registry.spread(0.05):
            seen.append(connection)
            registry.remove(connection + 1)
        return seen

    assert run(main()) == [0, 2, 4]
