from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.admission.tickets import NONCE_BYTES, Spent, Ticket, check, issue
from tidegate.errors import UsageError

SECRET = b"s" * 32
NONCE = bytes(range(NONCE_BYTES))
NOW = 1_760_000_000.0
TICKET = Ticket(priority=50, arrived=NOW - 12.345678, expires=NOW + 30.25, nonce=NONCE)


def text_of(ticket: Ticket = TICKET, bound: str = "user:ann", secret: bytes = SECRET) -> str:
    return issue(secret, bound=bound, **ticket._asdict())


@pytest.mark.parametrize(
    "ticket",
    [
        TICKET,
        Ticket(0, 0.0, 9e9, b"\0" * NONCE_BYTES),
        Ticket(-1, NOW, NOW + 0.001, b"\xff" * NONCE_BYTES),
        Ticket(2**31 - 1, NOW, NOW + 60, NONCE),
        Ticket(-(2**31), NOW, NOW + 60, NONCE),
    ],
)
@pytest.mark.parametrize("bound", ["user:ann", "ip:2001:db8::1", "", "user:Ö" * 99, "user:\ud800"])
def test_a_ticket_says_on_return_what_it_said_when_issued(ticket: Ticket, bound: str) -> None:
    assert check(SECRET, text_of(ticket, bound), bound, NOW) == ticket


def test_the_text_is_short_and_needs_no_quoting() -> None:
    text = text_of(bound="user:" + "n" * 256)
    assert re.fullmatch(r"[A-Za-z0-9._-]{66}", text)


def test_the_text_does_not_name_whom_it_is_for() -> None:
    assert b"ann" not in base64.urlsafe_b64decode(text_of()[2:])


def test_the_form_is_fixed() -> None:
    """Nodes of different versions share tickets: a new form needs a new version."""
    assert text_of() == "1.AAAAMkHaOd386eBpQdo53geQAAAAAQIDBAUGBwgJCgufAXg8RZkwQK6ul85mOfii"


@pytest.mark.parametrize(
    ("after", "valid"), [(-1.0, True), (-0.001, True), (0.0, False), (0.001, False), (1e6, False)]
)
def test_expiry(after: float, valid: bool) -> None:
    assert (check(SECRET, text_of(), "user:ann", TICKET.expires + after) is not None) is valid


@pytest.mark.parametrize("bound", ["user:bob", "user:an", "user:ann ", "user:Ann", "ip:ann", ""])
def test_somebody_elses_ticket(bound: str) -> None:
    assert check(SECRET, text_of(), bound, NOW) is None


def test_names_that_are_no_text_are_told_apart() -> None:
    text = text_of(bound="user:\ud800")
    for bound in ("user:?", "user:", "user:\ud801", "user:\ufffd"):
        assert check(SECRET, text, bound, NOW) is None


@pytest.mark.parametrize("secret", [b"t" * 32, b"s" * 31, b""])
def test_another_secret(secret: bytes) -> None:
    assert check(secret, text_of(), "user:ann", NOW) is None


GOOD = text_of()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.",
        "1",
        GOOD[:-1],
        GOOD + "A",
        GOOD + "\n",
        " " + GOOD,
        GOOD[2:],
        "2." + GOOD[2:],
        "1:" + GOOD[2:],
        "1." + "A" * 64,
        "1." + "é" * 64,
        "1." + "=" * 64,
        "1.." + GOOD[3:],
        GOOD[:-4] + "====",
        GOOD[:30] + "\0" + GOOD[31:],
        GOOD[:30] + "\ud800" + GOOD[31:],
        GOOD * 1000,
    ],
)
def test_what_is_no_ticket(text: str) -> None:
    assert check(SECRET, text, "user:ann", NOW) is None


def test_every_bit_counts() -> None:
    packed = base64.urlsafe_b64decode(GOOD[2:])
    for bit in range(8 * len(packed)):
        forged = bytearray(packed)
        forged[bit // 8] ^= 1 << bit % 8
        text = "1." + base64.urlsafe_b64encode(forged).decode()
        assert check(SECRET, text, "user:ann", NOW) is None


@settings(max_examples=60)
@given(st.text(max_size=80) | st.from_regex(r"1\.[A-Za-z0-9_-]{64}", fullmatch=True))
def test_any_text_is_only_ever_no_ticket(text: str) -> None:
    assert check(SECRET, text, "user:ann", NOW) is None


@pytest.mark.parametrize("length", [0, NONCE_BYTES - 1, NONCE_BYTES + 1])
def test_a_nonce_of_another_length(length: int) -> None:
    with pytest.raises(UsageError, match=f"{NONCE_BYTES} bytes, not {length}"):
        text_of(TICKET._replace(nonce=b"n" * length))


def test_a_ticket_is_spent_once() -> None:
    spent = Spent(most=10)
    assert NONCE not in spent
    assert spent.spend(NONCE)
    assert NONCE in spent
    assert not spent.spend(NONCE)


def test_only_so_many_spent_tickets_are_remembered() -> None:
    spent = Spent(most=3)
    nonces = [bytes([n]) * NONCE_BYTES for n in range(5)]
    for nonce in nonces:
        assert spent.spend(nonce)
        # To show it again does not make it younger.
        assert not spent.spend(nonce)
    assert [nonce in spent for nonce in nonces] == [False, False, True, True, True]
