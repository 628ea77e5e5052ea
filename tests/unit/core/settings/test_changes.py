"""Settings that change while the server runs."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.core.settings import SettingError, Settings
from tidegate.core.settings.changes import differences, merged, only

Changes = dict[str, dict[str, Any]]

BASE = Settings.from_mapping(
    {
        "limits": {"per_ip": 7},
        "auth": {"secret": "s" * 32},
        "tiers": {"paid": {"per_user": 20, "reserved": 0.5}},
    }
)


def test_merged_changes_what_is_named_and_keeps_the_rest() -> None:
    settings = merged(BASE, {"limits": {"per_user": 3}, "tiers": {"paid": {"per_user": 2}}})
    assert (settings.limits.per_ip, settings.limits.per_user) == (7, 3)
    assert (settings.tiers["paid"].per_user, settings.tiers["paid"].reserved) == (2, 0.5)
    assert settings.auth == BASE.auth
    assert BASE.limits.per_user == 10


def test_merged_with_nothing_is_the_same() -> None:
    assert merged(BASE, {}) == BASE


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"limits": {"per_ipp": 1}}, "limits.per_ip"),
        ({"limit": {"per_ip": 1}}, "limits"),
        ({"limits": {"per_ip": -1}}, "limits.per_ip = -1"),
        ({"limits": {"per_ip": "many"}}, "limits.per_ip"),
        ({"limits": 5}, "limits"),
        ({"tiers": {"paid": {"reserved": 2}}}, "tiers.paid.reserved"),
        ({"tiers": {"paid": {"reserve": 0.1}}}, "tiers.paid.reserved"),
        ({"tiers": {"paid": 3}}, "tiers.paid"),
        ({"tiers": {"other": {"reserved": 0.6}}}, "tiers"),
        ({"shedding": {"warning": 0.9}}, "shedding.critical"),
    ],
)
def test_merged_refuses_what_is_wrong(changes: Changes, named: str) -> None:
    with pytest.raises(SettingError, match=named):
        merged(BASE, changes)


@pytest.mark.parametrize(
    ("changes", "live", "restart"),
    [
        ({}, [], []),
        ({"limits": {"per_ip": 7}}, [], []),
        ({"limits": {"per_ip": 8}}, ["limits.per_ip"], []),
        ({"server": {"port": 9}}, [], ["server.port"]),
        (
            {"server": {"port": 9, "close_timeout": 1.0}, "pacing": {"rate": 3}},
            ["server.close_timeout", "pacing.rate"],
            ["server.port"],
        ),
        ({"tiers": {"paid": {"per_user": 1}}}, ["tiers.paid.per_user"], []),
        ({"tiers": {"free": {"per_user": 1}}}, [], ["tiers.free"]),
        ({"limits": {"dry_run": ["all"]}}, [], ["limits.dry_run"]),
        ({"auth": {"secret": "t" * 32}}, [], ["auth.secret"]),
    ],
)
def test_differences_say_which_may_change(
    changes: Changes, live: list[str], restart: list[str]
) -> None:
    assert differences(BASE, merged(BASE, changes)) == (live, restart)


def test_only_keeps_what_is_named() -> None:
    changes: Changes = {
        "limits": {"per_ip": 1, "per_user": 2},
        "server": {"port": 3},
        "tiers": {"paid": {"per_user": 4, "reserved": 0.1}, "free": {"per_user": 5}},
    }
    assert only(changes, ["limits.per_ip", "tiers.paid.reserved"]) == {
        "limits": {"per_ip": 1},
        "tiers": {"paid": {"reserved": 0.1}},
    }
    assert only(changes, []) == {}


def test_what_decides_at_the_start_cannot_change() -> None:
    live = {known.name for known in Settings.fields() if known.live}
    assert {"limits.per_ip", "heartbeat.interval", "shedding.cpu", "tiers.*.reserved"} <= live
    assert live.isdisjoint(
        {"server.port", "tls.key", "auth.secret", "pacing.enabled", "limits.dry_run"}
    )
