from __future__ import annotations

import pytest

from tests.unit.top.samples import row
from tidegate.errors import UsageError
from tidegate.top.session import SORTS, Kick, Session, parse_filter


def pressed(session: Session, *keys: str) -> list[Kick]:
    return [kick for kick in map(session.key, keys) if kick is not None]


@pytest.fixture
def session() -> Session:
    session = Session()
    session.show([row(1), row(2, user=None, address="10.0.0.1"), row(3, user="bob")])
    return session


def test_s_goes_through_all_sorts_and_begins_again() -> None:
    session = Session()
    seen = [session.sort]
    for _ in SORTS:
        pressed(session, "s")
        seen.append(session.sort)
    assert seen == [*SORTS, SORTS[0]]


@pytest.mark.parametrize("key", ["q", "Q"])
def test_q_ends_it(key: str) -> None:
    session = Session()
    pressed(session, key)
    assert session.ended


def test_the_choice_stays_within_the_rows(session: Session) -> None:
    pressed(session, "up")
    assert session.selected == 0
    pressed(session, "down", "j", "down", "down")
    assert session.selected == 2
    pressed(session, "k")
    assert session.selected == 1


def test_the_choice_follows_its_connection(session: Session) -> None:
    pressed(session, "down")
    session.show([row(9), row(1), row(2)])
    assert session.rows[session.selected].id == "ceabda6b-2"
    session.show([row(9)])
    assert session.selected == 0


@pytest.mark.parametrize(
    ("key", "selector"),
    [
        ("c", {"id": "ceabda6b-1"}),
        ("u", {"user": "ann"}),
        ("a", {"ip": "203.0.113.7"}),
    ],
)
def test_a_connection_is_closed_after_a_question_only(
    session: Session, key: str, selector: dict[str, str]
) -> None:
    assert pressed(session, "x") == []
    assert session.question
    (kick,) = pressed(session, key)
    assert kick.selector == selector
    assert session.question == ()


@pytest.mark.parametrize("key", ["n", "escape", "x", "q", "\r", ""])
def test_any_other_key_closes_nothing(session: Session, key: str) -> None:
    assert pressed(session, "x", key) == []
    assert (session.question, session.message) == ((), "nothing was closed")
    assert not session.ended


def test_a_connection_without_a_user_is_no_user_to_close(session: Session) -> None:
    pressed(session, "down", "x")
    assert [kick.text[0] for kick in session.question] == ["c", "a"]
    assert pressed(session, "u") == []


def test_without_rows_there_is_nothing_to_close() -> None:
    session = Session()
    pressed(session, "x")
    assert session.question == ()


def test_a_filter_is_typed_and_taken_with_enter(session: Session) -> None:
    pressed(session, "/", *"bobx", "backspace")
    assert session.filter == ""
    pressed(session, "\r")
    assert (session.filter, session.typing) == ("bob", None)
    session.show([row(1), row(3, user="Bob")])
    assert [each.user for each in session.rows] == ["Bob"]
    pressed(session, "escape")
    assert session.filter == ""


def test_a_filter_is_left_with_escape(session: Session) -> None:
    pressed(session, "/", "q", "escape")
    assert (session.filter, session.typing, session.ended) == ("", None, False)


def test_a_filter_that_is_wrong_stays_to_be_corrected(session: Session) -> None:
    pressed(session, "/", *"age=3", "\r")
    assert session.typing == "age=3"
    assert "user=NAME" in session.message


@pytest.mark.parametrize(
    ("text", "query", "words"),
    [
        ("", {}, ""),
        ("user=ann", {"user": "ann"}, ""),
        ("ip=10.0.0.0/8 room=lobby mobile", {"ip": "10.0.0.0/8", "room": "lobby"}, "mobile"),
        ("ann bob", {}, "ann bob"),
    ],
)
def test_a_filter_has_a_part_for_the_server(text: str, query: dict[str, str], words: str) -> None:
    assert parse_filter(text) == (query, words)


@pytest.mark.parametrize("text", ["age=3", "user=", "=ann"])
def test_what_the_server_cannot_look_for_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a filter is a text"):
        parse_filter(text)
