from __future__ import annotations

from tidegate.core.settings import Settings
from tidegate.sim.scale import scaled

SETTINGS = Settings.from_mapping(
    {
        "limits": {"connections": 10_000, "per_ip": 100},
        "pacing": {"rate": 2000, "burst": 1000},
        "waiting_room": {"enabled": True, "size": 500},
        "breaker": {"rejections": 1000, "probes": 20},
        "tiers": {"gold": {"connections": 5000, "reserved": 0.25}, "other": {}},
    }
)


def test_scaled_counts_and_rates_are_divided() -> None:
    found = scaled(SETTINGS, 10)
    assert found.limits.connections == 1000
    assert found.pacing.rate == 200
    assert found.pacing.burst == 100
    assert found.waiting_room.size == 50
    assert found.breaker.rejections == 100
    assert found.server.backlog == round(SETTINGS.server.backlog / 10)
    assert found.tiers["gold"].connections == 500
    assert found.tiers["other"].connections is None


def test_scaled_shares_and_times_stay() -> None:
    found = scaled(SETTINGS, 10)
    assert found.tiers["gold"].reserved == 0.25
    assert found.shedding == SETTINGS.shedding
    assert found.drain == SETTINGS.drain


def test_scaled_nothing_becomes_none_but_none() -> None:
    found = scaled(SETTINGS, 100_000)
    assert found.pacing.burst == found.breaker.probes == found.waiting_room.size == 1
    none = Settings.from_mapping({"limits": {"per_ip": 0, "connections": 0}})
    assert scaled(none, 10).limits.per_ip == scaled(none, 10).limits.connections == 0


def test_scaled_the_limit_is_never_passed() -> None:
    limits = Settings.from_mapping({"limits": {"connections": 1999}})
    assert scaled(limits, 10).limits.connections * 10 <= 1999


def test_scaled_one_is_the_same() -> None:
    assert scaled(SETTINGS, 1) is SETTINGS
