"""Deltas in the format of Fossil, by themselves and beside its JavaScript library."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.wire.deltas import DeltaError, apply, create

PART = st.sampled_from([b"a", b"ab" * 9, b"0123456789abcdef", b'{"x":1,"y":22}', b"\x00\xff" * 20])
BYTES = st.lists(PART | st.binary(max_size=40), max_size=12).map(b"".join)
CHARACTERS = st.sampled_from(["a", "é", "€", "\U0001f44b", "äöü" * 12, "the same words again, "])
TEXT = st.lists(CHARACTERS, max_size=30).map("".join)

STATE = {"players": [{"id": n, "x": 17 * n, "name": f"pläyer {n}"} for n in range(40)]}
OLD = json.dumps(STATE, ensure_ascii=False).encode()


@given(BYTES, BYTES)
@example(b"", b"")
@example(b"x" * 100, b"")
@example(b"x" * 100, b"x" * 100)
@example(b"ab" * 100, b"ab" * 99)
def test_apply_of_any_delta_makes_the_new_version(old: bytes, new: bytes) -> None:
    assert apply(old, create(old, new)) == new


@given(TEXT, TEXT)
@example("é" * 40, "è" * 40)  # they share their first byte
@example("x" * 40 + "é", "x" * 40 + "è")
@example("é" + "x" * 40, "ĩ" + "x" * 40)  # and these the last one
def test_create_of_text_cuts_no_character(old: str, new: str) -> None:
    delta = create(old.encode(), new.encode(), text=True)
    assert delta.decode().encode() == delta
    assert apply(old.encode(), delta).decode() == new


@given(BYTES, BYTES, BYTES)
def test_apply_to_another_version_fails_or_makes_the_same(
    old: bytes, new: bytes, other: bytes
) -> None:
    try:
        assert apply(other, create(old, new)) == new
    except DeltaError:
        assert other != old


@given(st.binary(max_size=60) | st.lists(st.sampled_from(b"019az\n@,:;\xff")).map(bytes))
def test_apply_of_anything_at_all_raises_nothing_else(delta: bytes) -> None:
    with suppress(DeltaError):
        assert isinstance(apply(b"some old version", delta), bytes)


@pytest.mark.parametrize(
    ("delta", "why"),
    [
        (b"", "begins with a number"),
        (b"\n", "begins with a number"),
        (b"3", "a size and a line feed"),
        (b"3\n", "begins with a number"),
        (b"3\n3?abc", "@, : or ;"),
        (b"3\n3@0;", "a comma"),
        (b"3\n3@9,0;", "another version"),  # beyond the end
        (b"3\n4:abcd0;", "another version"),  # more than its size
        (b"4\n3:abc0;", "another version"),  # less
        (b"3\n3:abc0;", "another version"),  # the checksum
        (b"0\n0;x", "another version"),
        (b"9999999\n", "a size and a line feed"),
    ],
)
def test_apply_of_a_malformed_delta_says_why(delta: bytes, why: str) -> None:
    with pytest.raises(DeltaError, match=why):
        apply(b"old", delta)


def test_create_after_a_small_change_is_small() -> None:
    new = OLD.replace(b'"x": 170,', b'"x": 171,')
    assert len(create(OLD, new, text=True)) < 30


def test_create_finds_what_has_moved_and_what_is_repeated() -> None:
    middle = len(OLD) // 2
    assert len(create(OLD, OLD[middle:] + OLD[:middle])) < 40
    state = {"players": [{**player, "x": 3} for player in STATE["players"]]}
    new = json.dumps(state, ensure_ascii=False).encode()
    assert len(create(OLD, new, text=True)) < len(new) * 0.6


def test_create_of_what_has_nothing_in_common_is_a_little_larger_than_that() -> None:
    new = bytes(range(256)) * 4
    assert len(create(b"", new)) <= len(new) + 16
    assert len(create(bytes(2000), new)) <= len(new) + 16


@pytest.mark.alone
def test_create_takes_bounded_time() -> None:
    one = b"".join(b"%d," % n for n in range(9000))
    other = b"".join(b"%x-" % n for n in range(9000))
    began = time.perf_counter()
    create(one[:32_768], other[:32_768])
    assert time.perf_counter() - began < 0.5  # it takes 2 ms on an idle machine


def test_deltas_are_those_of_the_javascript_library(node: Callable[..., str]) -> None:
    pairs = [
        ("", "a"),
        ("", "grüß dich \U0001f44b"),
        ("x" * 40 + "é", "x" * 40 + "è"),
        (OLD.decode(), OLD.decode().replace("pläyer 7", "plåyer seven")),
        (OLD.decode(), OLD.decode()[::-1]),
        (OLD.decode(), OLD.decode()[400:] + OLD.decode()[:300]),
    ]
    given = [
        {"old": old, "new": new, "delta": create(old.encode(), new.encode(), text=True).decode()}
        for old, new in pairs
    ]
    answers = json.loads(node("deltas.mjs", json.dumps(given)))
    assert [answer["made"] for answer in answers] == [new for _, new in pairs]
    for (old, new), answer in zip(pairs, answers, strict=True):
        assert apply(old.encode(), bytes.fromhex(answer["theirs"])).decode() == new
