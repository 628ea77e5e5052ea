"""What clients without a token may do."""

from __future__ import annotations

import pytest

from tidegate.core.messaging.permissions import Permissions
from tidegate.core.settings import Settings
from tidegate.core.settings.fields import SettingError


def permissions(**anonymous: object) -> Permissions:
    return Permissions(Settings.from_mapping({"anonymous": anonymous}))


def test_by_default_rooms_are_open_and_users_are_not() -> None:
    allows = permissions()
    assert allows.may_join(None, "lobby")
    assert allows.may_publish(None, "lobby")
    assert not allows.may_send(None)


@pytest.mark.parametrize(
    ("patterns", "room", "allowed"),
    [
        (["*"], "any", True),
        ([], "any", False),
        (["lobby"], "lobby", True),
        (["lobby"], "lobby2", False),
        (["lobby"], "Lobby", False),
        (["news.*"], "news.", True),
        (["news.*"], "news.sport", True),
        (["news.*"], "news", False),
        (["news.*"], "old.news.sport", False),
        (["lobby", "a*", "b*"], "b", True),
        (["lobby", "a*", "b*"], "lobby", True),
        (["lobby", "a*", "b*"], "c", False),
    ],
)
def test_names_and_their_beginnings_allow_rooms(
    patterns: list[str], room: str, allowed: bool
) -> None:
    assert permissions(join=patterns).may_join(None, room) is allowed
    assert permissions(publish=patterns).may_publish(None, room) is allowed
    assert permissions(join=patterns).may_publish(None, room)
    assert permissions(publish=patterns).may_join(None, room)


def test_users_may_do_everything() -> None:
    allows = permissions(join=[], publish=[], direct=False)
    assert allows.may_join("ann", "lobby")
    assert allows.may_publish("ann", "lobby")
    assert allows.may_send("ann")


def test_settings_change_what_is_allowed() -> None:
    allows = permissions()
    changed = {"anonymous": {"join": ["a"], "publish": ["b"], "direct": True}}
    allows.apply(Settings.from_mapping(changed))
    assert [allows.may_join(None, room) for room in "ab"] == [True, False]
    assert [allows.may_publish(None, room) for room in "ab"] == [False, True]
    assert allows.may_send(None)


@pytest.mark.parametrize("wrong", ["", "a*b", "**", "*.news", "a\nb", "x" * 129, "x" * 128 + "*"])
def test_a_pattern_that_would_never_match_is_refused(wrong: str) -> None:
    with pytest.raises(SettingError, match=r"anonymous.join.*must be.*the name of a room"):
        permissions(join=[wrong])
