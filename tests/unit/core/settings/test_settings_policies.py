from __future__ import annotations

from typing import Any

import pytest

from tidegate.core.settings import POLICIES, Settings
from tidegate.errors import ConfigError


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            {"shedding": {"warning": 0.9}},
            "shedding.critical = 0.85: must be above shedding.warning",
        ),
        (
            {"shedding": {"critical": 0.7}},
            "shedding.critical = 0.7: must be above shedding.warning",
        ),
        (
            {"shedding": {"emergency": 0.85}},
            "shedding.emergency = 0.85: must be above shedding.critical",
        ),
        (
            {"shedding": {"hysteresis": 0.2, "warning": 0.2}},
            "shedding.hysteresis = 0.2: must be below shedding.warning",
        ),
        (
            {"shedding": {"cpu": [0.8]}},
            "shedding.cpu = [0.8]: must be empty, or a list of 2, each a number from 0 to 64",
        ),
        (
            {"shedding": {"memory": [0.5, 0.5]}},
            "shedding.memory = [0.5, 0.5]: must have the lower value first",
        ),
        (
            {"shedding": {"buffered": [1, 2.5]}},
            "shedding.buffered = [1, 2.5]: must be empty, or a list of 2, "
            "each a whole number from 0 to 1,099,511,627,776 bytes, or a size such as "
            '"64KB" or "1MiB"',
        ),
        (
            {"zones": {"broadcast": [True, False]}},
            "zones.broadcast = [true, false]: must be empty, or a list of 3, each true or false",
        ),
        (
            {"zones": {"ping_interval": [30, 60, 120, 240]}},
            "zones.ping_interval = [30, 60, 120, 240]: must be empty, or a list of 3, "
            "each a number from 0.1 to 86,400 seconds, or a time such as "
            '"500ms", "30s", "5m" or "1h"',
        ),
        (
            {"outbox": {"policy": "drop"}},
            'outbox.policy = "drop": must be one of "disconnect", "drop_oldest", "drop_newest"',
        ),
        (
            {"waiting_room": {"secret": "short"}},
            "waiting_room.secret: must be at least 32 printable ASCII characters without spaces",
        ),
        (
            {"limits": {"dry_run": ["per_room"]}},
            'limits.dry_run = ["per_room"]: must be a list, each one of "breaker", "pacing", '
            '"shedding", "connections", "per_ip", "per_user", "tiers", "messages", "all"',
        ),
    ],
)
def test_errors_name_the_setting_its_value_and_what_is_allowed(data: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_mapping(data)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "data",
    [
        {"shedding": {"warning": 0.2, "critical": 0.5, "emergency": 1, "hysteresis": 0}},
        {"shedding": {"cpu": [], "buffered": [0, 1], "loop_lag": [0, 60]}},
        {"zones": {"broadcast": [], "max_message_size": [3, 2, 1]}},
        {"limits": {"dry_run": ["all", "pacing"]}},
        {"messages": {"per_second": 0, "joins_per_second": 0.5, "bytes_per_second": 0}},
        {"waiting_room": {"secret": "s" * 32}},
        {"drain": {"window": 0}},
    ],
)
def test_what_is_allowed(data: Any) -> None:
    made = Settings.from_mapping(data)
    for section, values in data.items():
        for key, value in values.items():
            expected = tuple(value) if isinstance(value, list) else value
            assert getattr(getattr(made, section), key) == expected


def test_what_is_on_by_default() -> None:
    made = Settings()
    assert (made.pacing.enabled, made.pacing.rate, made.pacing.burst) == (True, 2000.0, 1000)
    assert made.drain.on_sigterm
    messages = made.messages
    assert (messages.per_second, messages.burst) == (100.0, 200)
    assert (messages.joins_per_second, messages.control_per_second) == (20.0, 20.0)
    assert messages.bytes_per_second == 0
    assert not any(policy.enabled for policy in (made.waiting_room, made.shedding, made.breaker))


@pytest.mark.parametrize(
    ("dry_run", "dry"),
    [((), ()), (("pacing", "per_ip"), ("pacing", "per_ip")), (("all",), POLICIES)],
)
def test_dry_run(dry_run: tuple[str, ...], dry: tuple[str, ...]) -> None:
    limits = Settings.from_mapping({"limits": {"dry_run": dry_run}}).limits
    assert {policy for policy in POLICIES if limits.is_dry(policy)} == set(dry)


@pytest.mark.parametrize(("max_size", "burst", "at_once"), [(1000, 2000, 2000), (3000, 2000, 3000)])
def test_one_message_of_the_largest_size_may_always_come(
    max_size: int, burst: int, at_once: int
) -> None:
    messages = {"max_size": max_size, "bytes_burst": burst}
    assert Settings.from_mapping({"messages": messages}).messages.bytes_at_once == at_once


def test_a_signal_without_a_range_is_left_out() -> None:
    assert list(Settings().shedding.ranges()) == [
        "connections",
        "loop_lag",
        "cpu",
        "memory",
        "descriptors",
        "buffered",
    ]
    made = Settings.from_mapping({"shedding": {"cpu": [], "memory": []}})
    assert list(made.shedding.ranges()) == ["connections", "loop_lag", "descriptors", "buffered"]
