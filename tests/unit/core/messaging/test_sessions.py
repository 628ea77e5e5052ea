"""Secrets of sessions, and the direct messages that are kept for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.messaging.sessions import OVERHEAD, DirectLog, read_session, session_secret

KEY = b"k" * 32
SECRET = session_secret(KEY, "ab-1f", 2)


def test_a_secret_is_read_with_the_number_of_the_last_message() -> None:
    shown = read_session(KEY, f"{SECRET}.17")
    assert shown is not None
    assert (shown.id, shown.generation, shown.seq) == ("ab-1f", 2, 17)


def test_a_secret_may_stand_in_a_list_of_subprotocols() -> None:
    assert all(char.isalnum() or char in "-_." for char in SECRET)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "....",
        SECRET,
        f"{SECRET}.",
        f"{SECRET}.-1",
        f"{SECRET}.x",
        f"{SECRET}.²",
        f"{SECRET}.1.2",
        f"{SECRET}." + "9" * 5000,
        f"{session_secret(b'other', 'ab-1f', 2)}.0",
        SECRET.replace("ab-1f", "ab-2f") + ".0",
        SECRET.replace(".2.", ".3.") + ".0",
        SECRET.replace(".2.", ".\u0662.") + ".0",
    ],
)
def test_what_was_not_given_out_is_nothing(text: str) -> None:
    assert read_session(KEY, text) is None


@given(st.text())
def test_no_text_is_too_odd_to_be_refused(text: str) -> None:
    assert read_session(KEY, text) is None


def log(count: int, *, max_bytes: int = 1 << 20, ttl: float = 10.0) -> DirectLog[int]:
    kept: DirectLog[int] = DirectLog()
    for number in range(1, count + 1):
        assert kept.add(number, 100, max_bytes, float(number), ttl) == number
    return kept


@pytest.mark.parametrize(
    ("since", "expected"),
    [(0, [1, 2, 3]), (2, [3]), (3, []), (4, None)],
)
def test_since_gives_the_messages_after_a_number(since: int, expected: list[int] | None) -> None:
    found = log(3).since(since)
    assert (None if found is None else [seq for seq, _ in found]) == expected


def test_messages_are_kept_within_bytes_and_for_a_time() -> None:
    kept = log(5, max_bytes=3 * (OVERHEAD + 100))
    assert kept.since(1) is None
    assert [seq for seq, _ in kept.since(2) or ()] == [3, 4, 5]
    kept.expire(14.0)
    assert kept.since(3) is None
    assert [seq for seq, _ in kept.since(4) or ()] == [5]
    assert kept.size == OVERHEAD + 100


def test_clear_drops_messages_and_the_numbers_go_on() -> None:
    kept = log(3)
    assert kept.clear() == 3 * (OVERHEAD + 100)
    assert (kept.since(2), kept.since(3)) == (None, [])
    assert kept.add(4, 0, 1000, 0.0, 1.0) == 4


def test_log_that_has_lost_a_message_skips_its_number() -> None:
    log: DirectLog[str] = DirectLog()
    log.add("a", 1, 1000, 0.0, 10.0)
    assert log.skip() == OVERHEAD + 1
    assert log.size == 0
    assert log.add("c", 1, 1000, 0.0, 10.0) == 3
    assert log.since(1) is None
    assert log.since(2) == [(3, "c")]


def test_secret_of_a_fleet_names_the_node_that_has_the_session() -> None:
    secret = session_secret(KEY, "ab-1f", 2, "n1")
    shown = read_session(KEY, f"{secret}.17")
    assert shown is not None
    assert (shown.id, shown.generation, shown.seq, shown.node) == ("ab-1f", 2, 17, "n1")
    assert read_session(KEY, f"{secret.replace('n1', 'n2')}.17") is None
