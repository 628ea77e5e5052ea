"""The tracker on its own."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.aio import run
from tidegate.errors import ConfigError
from tidegate.policies import ConnectionTracker, Refused, Tier


@pytest.mark.parametrize(
    ("limits", "first", "second", "reason", "status"),
    [
        ({"connections": 1}, ("192.0.2.1",), ("192.0.2.2",), "server_limit", 503),
        ({"per_ip": 1}, ("192.0.2.1",), ("::ffff:192.0.2.1",), "ip_limit", 429),
        ({"per_user": 1}, ("192.0.2.1", "ann"), ("192.0.2.2", "ann"), "user_limit", 429),
    ],
)
def test_acquire_at_a_limit_is_refused_with_its_reason(
    limits: dict[str, Any], first: Any, second: Any, reason: str, status: int
) -> None:
    tracker = ConnectionTracker(**limits)
    lease = tracker.acquire(*first)
    with pytest.raises(Refused) as refused:
        tracker.acquire(*second)
    assert (refused.value.reason, refused.value.status) == (reason, status)
    assert refused.value.close_code == 1013
    assert refused.value.limit == 1
    assert refused.value.headers["X-Rejection-Reason"] == reason
    assert int(refused.value.headers["Retry-After"]) >= 1
    lease.release()
    tracker.acquire(*second)


def test_a_tier_at_its_limit_is_refused() -> None:
    tracker = ConnectionTracker(tiers={"free": Tier(connections=1)})
    with tracker.acquire("192.0.2.1", "ann", tier="free") as lease:
        assert (lease.user, lease.tier, tracker.of_tier("free")) == ("ann", "free", 1)
        with pytest.raises(Refused, match="tier_limit"):
            tracker.acquire("192.0.2.2", "bob", tier="free")


def test_a_lease_is_released_once_however_often_and_by_whom() -> None:
    tracker = ConnectionTracker()

    async def hold() -> None:
        async with tracker.acquire("192.0.2.1") as lease:
            assert len(tracker) == 1
            lease.release()
            assert not lease.held

    with pytest.raises(RuntimeError), tracker.acquire("192.0.2.1"):
        raise RuntimeError
    run(hold())
    assert len(tracker) == 0
    assert tracker.stats().peak == 1


def test_limits_change_while_connections_are_open() -> None:
    tracker = ConnectionTracker(connections=2)
    leases = [tracker.acquire("192.0.2.1"), tracker.acquire("192.0.2.1")]
    tracker.set_limits(connections=1)
    leases[0].release()
    with pytest.raises(Refused):
        tracker.acquire("192.0.2.1")
    assert tracker.stats().utilization == 1.0
    tracker.set_limits(connections=3)
    tracker.acquire("192.0.2.1")
    with pytest.raises(ConfigError, match="per_ip"):
        tracker.set_limits(per_ip=-1)


def test_a_limit_out_of_range_names_itself() -> None:
    with pytest.raises(ConfigError, match="per_ip = -1: must be a whole number from 0"):
        ConnectionTracker(per_ip=-1)


def test_threads_never_exceed_the_limit() -> None:
    tracker = ConnectionTracker(connections=5, per_ip=1000)
    most, failures = [0], []

    def work() -> None:
        for _ in range(300):
            try:
                with tracker.acquire("192.0.2.1"):
                    most[0] = max(most[0], len(tracker))
            except Refused:
                pass
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert tracker.stats().peak <= 5
    assert len(tracker) == 0
