"""Which rule a room has."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.messaging.rules import DEFAULT, Rules, matches
from tidegate.core.settings import RoomRule


@pytest.mark.parametrize(
    ("pattern", "room", "expected"),
    [
        ("news", "news", True),
        ("news", "news:1", False),
        ("*", "", True),
        ("chat:*", "chat:", True),
        ("chat:*", "chat:1:2", True),
        ("chat:*", "chats", False),
        ("*:end", "a:end:end", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),  # the ends do not share a letter
        ("a.c", "abc", False),  # a dot is a dot
    ],
)
def test_matches_by_asterisks_alone(pattern: str, room: str, expected: bool) -> None:
    assert matches(pattern, room) is expected


@given(st.text("ab*", max_size=6), st.text("ab", max_size=10))
def test_matches_as_a_regular_expression_would(pattern: str, room: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), room) is not None
    assert matches(pattern, room) is expected


def rules(*patterns: str) -> Rules:
    return Rules(RoomRule(pattern=pattern) for pattern in patterns)


@pytest.mark.parametrize(
    ("room", "user", "expected"),
    [
        ("chat:ann:1", "ann", "chat:{user}:*"),
        ("chat:ann:1", "bob", "chat:*"),
        ("chat:ann:1", None, "chat:*"),
        ("chat:*:1", "*", "chat:{user}:*"),
        ("chat:ann:1", "*", "chat:*"),
        ("news", "ann", "*"),
    ],
)
def test_for_user_the_first_pattern_that_matches_is_the_rule(
    room: str, user: str | None, expected: str
) -> None:
    assert rules("chat:{user}:*", "chat:*", "*").for_user(room, user).pattern == expected


def test_of_takes_any_user_for_user() -> None:
    assert rules("chat:{user}:*", "chat:*").of("chat:ann:1").pattern == "chat:{user}:*"


def test_a_room_that_no_pattern_matches_has_the_default() -> None:
    assert rules("chat:*").of("news") is DEFAULT
    assert not rules().some


def test_apply_forgets_what_was_found() -> None:
    known = rules("chat:*")
    assert known.of("chat:1").pattern == "chat:*"
    known.apply([RoomRule(pattern="*", history_size=3)])
    assert known.of("chat:1").history_size == 3


def test_of_remembers_a_bounded_number_of_rooms() -> None:
    known = rules("chat:*")
    for number in range(30_000):
        known.of(f"chat:{number}")
    assert len(known._found) <= 10_000
