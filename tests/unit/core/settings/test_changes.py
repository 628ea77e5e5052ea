"""Settings that change while the server runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from tidegate.core.settings import (
    AuthIssuer,
    AuthKey,
    IngestSource,
    RoomRule,
    Setting,
    SettingError,
    Settings,
    Tier,
)
from tidegate.core.settings.changes import differences, merged, only

Changes = dict[str, dict[str, Any]]

BASE = Settings.from_mapping(
    {
        "limits": {"per_ip": 7},
        "auth": {"secret": "s" * 32},
        "tiers": {"paid": {"per_user": 20, "reserved": 0.5}},
    }
)

NEW_KEY = {"kid": "new", "algorithm": "HS256", "secret": "n" * 32}


def test_merged_replaces_a_list_of_sections_as_a_whole() -> None:
    two = merged(BASE, {"auth": {"keys": [NEW_KEY, {**NEW_KEY, "kid": "old"}]}})
    one = merged(two, {"auth": {"keys": [NEW_KEY]}})
    assert one.auth.keys == two.auth.keys[:1]
    assert merged(one, {"auth": {"leeway": 1}}).auth.keys == one.auth.keys


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
    ("present", "changes"),
    [
        # Each of the changes is fine only together with what is there already.
        ({"auth": {"secret": "s" * 32}}, {"auth": {"anonymous": False}}),
        ({"shedding": {"critical": 0.92}}, {"shedding": {"warning": 0.9}}),
        ({"proxies": {"trusted": ["10.0.0.0/8"]}}, {"proxies": {"protocol": True}}),
        ({"server": {"port": 9000}}, {"admin": {"port": 8000}}),
        ({"tiers": {"a": {"reserved": 1.0}}}, {"tiers": {"a": {"reserved": 0.5}, "b": {}}}),
    ],
)
def test_merged_checks_the_changes_with_the_rest(
    present: dict[str, Any], changes: dict[str, Any]
) -> None:
    settings = merged(Settings.from_mapping(present), changes)
    for section, values in changes.items():
        for key, value in values.items():
            if section != "tiers":
                assert getattr(getattr(settings, section), key) == value


def test_merged_keeps_the_tiers_that_are_not_named() -> None:
    settings = merged(BASE, {"tiers": {"free": {"per_user": 1}}})
    assert list(settings.tiers) == ["paid", "free"]
    assert settings.tiers["paid"] == BASE.tiers["paid"]
    assert merged(BASE, {"tiers": {"paid": {"per_user": None}}}).tiers["paid"].per_user is None


def test_merged_does_not_show_a_secret() -> None:
    with pytest.raises(SettingError) as caught:
        merged(BASE, {"auth": {"secret": "hush"}})
    assert "hush" not in str(caught.value)


PLAIN = st.none() | st.booleans() | st.integers(-5, 20_000) | st.floats() | st.text(max_size=5)
NAMES = [(known.section, known.key) for known in Settings.fields()] + [("limits", "per_ipp")]


@given(st.sampled_from(NAMES), PLAIN | st.lists(PLAIN, max_size=3))
@profile(max_examples=300)
def test_merged_with_the_defaults_is_as_from_a_file(name: tuple[str, str], value: object) -> None:
    section, _, tier = name[0].partition(".")
    values: dict[str, Any] = {name[1]: value}
    data = {section: {"x": values} if tier else values}
    try:
        expected: object = Settings.from_mapping(data)
    except SettingError as error:
        expected = (error.key, error.problem, error.value)
    try:
        found: object = merged(Settings(), data)
    except SettingError as error:
        found = (error.key, error.problem, error.value)
    assert found == expected


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
        ({"auth": {"secret": "t" * 32}}, ["auth.secret"], []),
        ({"auth": {"keys": [NEW_KEY]}}, ["auth.keys"], []),
        (
            {"tiers": {"free": {"per_user": 1}, "paid": {"per_user": 2, "connections": 3}}},
            ["tiers.paid.per_user", "tiers.paid.connections"],
            ["tiers.free"],
        ),
    ],
)
def test_differences_say_which_may_change(
    changes: Changes, live: list[str], restart: list[str]
) -> None:
    assert differences(BASE, merged(BASE, changes)) == (live, restart)


def test_a_tier_that_is_removed_needs_a_restart() -> None:
    without = dataclasses.replace(BASE, tiers={})
    assert differences(BASE, without) == ([], ["tiers.paid"])
    assert differences(without, BASE) == ([], ["tiers.paid"])


@pytest.mark.parametrize("known", list(Settings.fields()), ids=lambda known: known.name)
def test_a_difference_is_found_of_every_setting(known: Setting) -> None:
    other: Any = {
        bool: not known.default,
        int: known.high,
        float: known.low if known.default == known.high else known.high,
        str: "x",
        AuthKey: AuthKey(algorithm="HS256", secret="k" * 32),
        AuthIssuer: AuthIssuer("me", None, ("HS256",), None, "k" * 32),
        IngestSource: IngestSource(url="nats://h", topics=("news",)),
        RoomRule: RoomRule(pattern="news"),
    }[known.kind]
    if known.many:
        other = () if known.default else (other,) * max(1, known.length)
    if known.section == Tier.section:
        new = dataclasses.replace(BASE, tiers={"paid": _with(BASE.tiers["paid"], known.key, other)})
    else:
        section = _with(getattr(BASE, known.section), known.key, other)
        new = dataclasses.replace(BASE, admin=BASE.admin)
        object.__setattr__(new, known.section, section)
    name = known.name.replace("*", "paid")
    assert differences(BASE, new) == (([name], []) if known.live else ([], [name]))


def _with(section: Any, key: str, value: object) -> Any:
    """A section with another value, which does not have to go with its others."""
    other = dataclasses.replace(section)
    object.__setattr__(other, key, value)
    return other


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


LIVE = {
    "fleet": "connections when_down when_lost",
    "limits": (
        "connections per_ip http_per_ip per_user per_room rooms_per_connection rooms_per_user"
    ),
    "tiers.*": "per_user connections reserved",
    "pacing": "rate burst",
    "waiting_room": "size max_wait",
    "breaker": "rejections window open_for probes",
    "shedding": (
        "enabled warning critical emergency hysteresis hold smoothing critical_acceptance "
        "min_priority connections loop_lag cpu memory descriptors buffered idle_after shed_every "
        "shed_share"
    ),
    "zones": "broadcast max_message_size messages_per_second ping_interval",
    "messages": (
        "per_second burst bytes_per_second bytes_burst joins_per_second control_per_second "
        "abuse_after"
    ),
    "rooms": "rules history_bytes history_rooms",
    "sessions": "ttl max_bytes all_bytes most",
    "heartbeat": "interval timeout idle_timeout",
    "outbox": "max_bytes max_age kernel_bytes policy",
    "buffers": "max_bytes",
    "drain": "on_sigterm window",
    "rebalance": "rate",
    "server": "origins handshake_timeout close_timeout shutdown_timeout",
    "auth": (
        "algorithms secret public_key keys issuers issuer audience timeout leeway revocation_ttl"
    ),
    "anonymous": "join publish direct",
}


def test_these_settings_can_change_and_no_others() -> None:
    live = {known.name for known in Settings.fields() if known.live}
    assert live == {f"{section}.{key}" for section, keys in LIVE.items() for key in keys.split()}
