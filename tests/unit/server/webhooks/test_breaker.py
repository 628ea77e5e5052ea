"""The breaker of webhooks, on a virtual clock."""

from __future__ import annotations

from tidegate.server.webhooks.breaker import FAILURES, OPEN_SECONDS, Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for number in range(FAILURES):
        assert breaker.allows(now)
        assert breaker.failed(now) is (number == FAILURES - 1)
    return breaker


def test_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            assert not breaker.failed(0.0)
        assert not breaker.succeeded()
        assert breaker.allows(0.0)


def test_breaker_that_is_open_lets_one_probe_through() -> None:
    breaker = opened()
    assert not breaker.allows(OPEN_SECONDS - 0.1)
    assert breaker.allows(OPEN_SECONDS)
    assert not breaker.allows(OPEN_SECONDS)


def test_probe_decides() -> None:
    breaker = opened()
    assert breaker.allows(OPEN_SECONDS)
    assert not breaker.failed(OPEN_SECONDS)  # it was given up before
    assert not breaker.allows(OPEN_SECONDS + 1)
    assert breaker.allows(2 * OPEN_SECONDS)
    assert breaker.succeeded()
    assert breaker.allows(2 * OPEN_SECONDS)


def test_probe_that_is_never_answered_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.allows(OPEN_SECONDS)
    assert breaker.allows(2 * OPEN_SECONDS)
