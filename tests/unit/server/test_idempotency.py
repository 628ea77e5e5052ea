"""Requests that come again."""

from __future__ import annotations

import pytest

from tidegate.server.idempotency import Answers, Conflict


def test_a_request_that_comes_again_gets_its_first_answer_for_five_minutes() -> None:
    answers = Answers()
    assert answers.find("k", b"a", 0.0) is None
    answers.keep("k", b"a", 200, b"first", 0.0)
    assert answers.find("k", b"a", 299.9) == (200, b"first")
    assert answers.find("k", b"a", 300.0) is None


def test_a_key_that_was_used_for_another_request_is_a_conflict() -> None:
    answers = Answers()
    answers.keep("k", b"a", 200, b"first", 0.0)
    with pytest.raises(Conflict):
        answers.find("k", b"b", 1.0)


def test_what_is_kept_is_bounded_in_number_and_bytes() -> None:
    answers = Answers()
    for number in range(12_000):
        answers.keep(str(number), b"a", 200, b"", 0.0)
    assert answers.find("1999", b"a", 1.0) is None
    assert answers.find("2000", b"a", 1.0) is not None
    for number in range(20):
        answers.keep(f"big{number}", b"a", 200, b"x" * (1 << 20), 0.0)
    assert answers.find("big3", b"a", 1.0) is None
    assert answers.find("big4", b"a", 1.0) is not None
