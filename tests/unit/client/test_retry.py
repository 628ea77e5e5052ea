"""Whether to come back after a loss, and when."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client import Backoff, Loss
from tidegate.client.retry import (
    FLOOR,
    LONGEST,
    Again,
    delay_after,
    loss_of_close,
    loss_of_refusal,
    next_after,
    seconds,
)
from tidegate.core.codes import REASONS, Close, Refusal, close_text

BACKOFF = Backoff()


@pytest.mark.parametrize(
    ("loss", "following"),
    [
        (Loss(), Again(0)),
        (Loss(error="timeout"), Again(0)),
        (Loss(1000), "stop"),
        (Loss(1001), Again(5)),
        (Loss(1002), "stop"),
        (Loss(1005), Again(0)),
        (Loss(1008), "stop"),
        (Loss(1008, retry_after=5), "stop"),
        (Loss(1009), "stop"),
        (Loss(1011), Again(5)),
        (Loss(1012, "drained", retry_after=0), Again(0, slot=True)),
        (Loss(1013), Again(5)),
        (Loss(1013, "server_limit", retry_after=60), Again(60)),
        (Loss(1013, "rate_limited", retry_after=12.3), Again(12.3, slot=True)),
        (Loss(1013, "rate_limited"), Again(5)),
        (Loss(1013, "server_limit", for_good=True), "stop"),
        (Loss(3000), Again(0)),
        (Loss(4002), Again(10)),
        (Loss(4008), Again(5)),
        (Loss(4321), Again(0)),
        (Loss(4499), Again(0)),
        (Loss(4500), "stop"),
        (Loss(4501), "token"),
        (Loss(4501, retry_after=5), "token"),
        (Loss(4503), "stop"),
        (Loss(4999), "stop"),
        (Loss(status=301), "stop"),
        (Loss(status=400), "stop"),
        (Loss(status=401), "token"),
        (Loss(status=403, error="origin", for_good=True), "stop"),
        (Loss(status=404), "stop"),
        (Loss(status=408), Again(0)),
        (Loss(status=429, retry_after=10), Again(10)),
        (Loss(status=502), Again(0)),
        (Loss(status=503, retry_after=5), Again(5)),
        (Loss(status=503, error="rate_limited", retry_after=5), Again(5, slot=True)),
    ],
    ids=str,
)
def test_next_is_what_the_table_of_codes_says(loss: Loss, following: Any) -> None:
    assert next_after(loss) == following


@pytest.mark.parametrize(
    "reason", [row for row in REASONS.values() if isinstance(row, Close | Refusal)]
)
def test_next_of_each_reason_of_ours_obeys_its_row(reason: Close | Refusal) -> None:
    following = next_after(loss_of_close(reason.code, close_text(reason, reason.retry_after)))
    if following == "token":
        assert reason.code == 4501
    elif reason.retry_after is None:
        assert following == "stop"
    else:
        assert isinstance(following, Again)
        assert following.given == reason.retry_after


@given(
    given_=st.floats(0, LONGEST),
    slot=st.booleans(),
    failures=st.integers(0, 10**6),
    random=st.floats(0, 1),
    base=st.floats(0.01, 60),
    more=st.floats(0, 600),
)
def test_delay_is_never_early_never_zero_and_bounded(
    given_: float, slot: bool, failures: int, random: float, base: float, more: float
) -> None:
    backoff = Backoff(base, base + more)
    delay = delay_after(Again(given_, slot), failures, random, backoff)
    assert delay >= given_
    assert delay > 0
    assert delay <= given_ + max(FLOOR, backoff.cap)
    if not slot:
        assert delay >= given_ + FLOOR


@given(st.integers(0, 70), st.floats(0, 1))
def test_delay_has_full_jitter_below_a_bound_that_doubles(failures: int, random: float) -> None:
    bound = min(BACKOFF.cap, BACKOFF.base * 2.0**failures)
    delay = delay_after(Again(0), failures, random, BACKOFF)
    assert delay == pytest.approx(max(FLOOR, random * bound))


@given(st.floats(1, LONGEST), st.integers(0, 20), st.floats(0, 1))
def test_own_slot_is_kept_to_exactly(given_: float, failures: int, random: float) -> None:
    assert delay_after(Again(given_, slot=True), failures, random, BACKOFF) == given_


def test_slots_of_no_length_do_not_make_a_tight_loop() -> None:
    delays = [delay_after(Again(0, slot=True), failures, 1, BACKOFF) for failures in range(7)]
    assert delays == [FLOOR, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (0, 0),
        (1.5, 1.5),
        (3601, LONGEST),
        (10**400, LONGEST),
        (float("inf"), LONGEST),
        (-1, None),
        (float("nan"), None),
        (True, None),
        ("5", None),
        (None, None),
    ],
)
def test_seconds_of_a_server_are_a_number_of_an_hour_at_most(value: object, found: Any) -> None:
    assert seconds(value) == found


@pytest.mark.parametrize(
    ("reason", "loss"),
    [
        ("", Loss(1013)),
        ("later", Loss(1013, detail="later")),
        ('{"error":"shed","retryAfter":60}', Loss(1013, "shed", retry_after=60)),
        ('{"error":"x","retryAfter":null}', Loss(1013, "x", for_good=True)),
        ('{"error":"x","detail":"y"}', Loss(1013, "x", "y")),
        ('{"error":7,"retryAfter":"soon","status":401}', Loss(1013)),
        ("null", Loss(1013, detail="null")),
        ("[" * 100_000, Loss(1013, detail="[" * 100_000)),
    ],
)
def test_close_reason_is_read_whatever_it_is(reason: str, loss: Loss) -> None:
    assert loss_of_close(1013, reason) == loss


@given(st.text(), st.integers(1000, 4999))
def test_close_reason_never_stops_the_client(reason: str, code: int) -> None:
    next_after(loss_of_close(code, reason))


@pytest.mark.parametrize(
    ("headers", "body", "loss"),
    [
        ({}, b"", Loss(status=503)),
        ({"retry-after": "7"}, b"", Loss(status=503, retry_after=7)),
        ({"retry-after": "Fri, 31 Dec 1999"}, b"", Loss(status=503)),
        (
            {"x-rejection-reason": "server_limit", "retry-after": "5"},
            json.dumps({"message": "The server is full"}).encode(),
            Loss(status=503, error="server_limit", detail="The server is full", retry_after=5),
        ),
        (
            {"x-rejection-reason": "origin"},
            b"\xff",
            Loss(status=503, error="origin", for_good=True),
        ),
    ],
)
def test_refusal_is_read(headers: dict[str, str], body: bytes, loss: Loss) -> None:
    assert loss_of_refusal(503, headers, body) == loss


@pytest.mark.parametrize(("base", "cap"), [(0, 30), (-1, 30), (2, 1), (float("nan"), 1)])
def test_backoff_that_could_be_zero_is_refused(base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="Backoff: 0 < base <= cap"):
        Backoff(base, cap)
