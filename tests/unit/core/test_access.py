"""What clients may do: by the rules of rooms, by their token, and without one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.access import Access
from tidegate.core.admission.attempt import Claims
from tidegate.core.messaging.rules import Rules
from tidegate.core.settings import Settings
from tidegate.core.settings.fields import SettingError


def access(*rules: dict[str, object], **anonymous: object) -> Access:
    settings = Settings.from_mapping({"anonymous": anonymous, "rooms": {"rules": list(rules)}})
    return Access(settings, Rules(settings.rooms.rules))


def test_by_default_rooms_are_open_and_users_are_not() -> None:
    allows = access()
    assert allows.may_join("lobby", None, None)
    assert allows.may_publish("lobby", None, None)
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
    assert access(join=patterns).may_join(room, None, None) is allowed
    assert access(publish=patterns).may_publish(room, None, None) is allowed
    assert access(join=patterns).may_publish(room, None, None)
    assert access(publish=patterns).may_join(room, None, None)


def test_users_may_do_everything() -> None:
    allows = access(join=[], publish=[], direct=False)
    assert allows.may_join("lobby", "ann", None)
    assert allows.may_publish("lobby", "ann", None)
    assert allows.may_send("ann")


def test_settings_change_what_is_allowed() -> None:
    allows = access()
    changed = {"anonymous": {"join": ["a"], "publish": ["b"], "direct": True}}
    allows.apply(Settings.from_mapping(changed))
    assert [allows.may_join(room, None, None) for room in "ab"] == [True, False]
    assert [allows.may_publish(room, None, None) for room in "ab"] == [False, True]
    assert allows.may_send(None)


@pytest.mark.parametrize("wrong", ["", "a*b", "**", "*.news", "a\nb", "x" * 129, "x" * 128 + "*"])
def test_a_pattern_that_would_never_match_is_refused(wrong: str) -> None:
    with pytest.raises(SettingError, match=r"anonymous.join.*must be.*the name of a room"):
        access(join=[wrong])


# Rules.

CHATS = Claims(rooms=("chat:*", "news"))


@pytest.mark.parametrize("field", ["join", "publish"])
@pytest.mark.parametrize(
    ("who", "user", "claims", "allowed"),
    [
        ("anyone", None, None, True),
        ("anyone", "ann", None, True),
        ("users", None, None, False),
        ("users", "ann", None, True),
        ("token", None, None, False),
        ("token", "ann", None, False),
        ("token", "ann", Claims(), False),
        ("token", "ann", Claims(rooms=("chat:2",)), False),
        ("token", "ann", CHATS, True),
        ("nobody", "ann", CHATS, False),
        ("nobody", None, None, False),
    ],
)
def test_a_rule_says_who_may(
    field: str, who: str, user: str | None, claims: Claims | None, allowed: bool
) -> None:
    allows = access({"pattern": "chat:*", field: who})
    other = "publish" if field == "join" else "join"
    assert getattr(allows, f"may_{field}")("chat:1", user, claims) is allowed
    assert getattr(allows, f"may_{other}")("chat:1", user, claims)
    assert getattr(allows, f"may_{field}")("lobby", user, claims)
    steps = {step.name: step for step in allows.explain("chat:1", user, claims)}
    assert steps[field].passed is allowed
    assert steps[field].numbers == {"pattern": "chat:*"}
    assert f"{field} = {who}" in steps[field].detail


def test_a_rule_for_anyone_leaves_anonymous_clients_to_their_section() -> None:
    allows = access({"pattern": "*", "join": "anyone"}, join=["news"], publish=[])
    assert [allows.may_join(room, None, None) for room in ("news", "chat")] == [True, False]
    assert not allows.may_publish("news", None, None)
    assert allows.may_publish("news", "ann", None)


def test_a_room_of_a_user_is_open_to_that_user_alone() -> None:
    allows = access(
        {"pattern": "inbox:{user}", "publish": "nobody"},
        {"pattern": "inbox:*", "join": "nobody", "publish": "nobody"},
    )
    assert allows.may_join("inbox:ann", "ann", None)
    for user in ("bob", "*", None):
        assert not allows.may_join("inbox:ann", user, None)
    assert not allows.may_publish("inbox:ann", "ann", None)
    join = allows.explain("inbox:ann", "bob", None)[0]
    assert join.detail == "the rule 'inbox:*' has join = nobody: only the server may"


def test_explain_says_what_a_room_keeps_and_shows() -> None:
    allows = access({"pattern": "a", "history_size": 5, "presence": "members"})
    kept = [(step.name, step.passed) for step in allows.explain("a", "ann", None)]
    assert kept == [("join", True), ("publish", True), ("presence", True), ("history", True)]
    default = allows.explain("b", None, None)
    assert [step.passed for step in default] == [True, True, False, False]
    assert default[0].detail == (
        "no rule matches, so join is anyone: anonymous.join names the room"
    )
    assert all(step.numbers == {"pattern": None} for step in default)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "a*", "*b", "{user}", "{user}*", "*"]),
            st.sampled_from(["anyone", "users", "token", "nobody"]),
        ),
        max_size=5,
    ),
    st.sampled_from(["a", "b", "ab", "ba"]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from(["a*", "b", "*"]),
)
def test_the_first_rule_decides_however_often_it_is_asked(
    rules: list[tuple[str, str]], room: str, user: str | None, claim: str
) -> None:
    def naive(pattern: str) -> bool:
        if "{user}" in pattern:
            if user is None:
                return False
            pattern = pattern.replace("{user}", user)
        if pattern.startswith("*"):
            return room.endswith(pattern[1:])
        return room.startswith(pattern[:-1]) if pattern.endswith("*") else room == pattern

    who = next((who for pattern, who in rules if naive(pattern)), "anyone")
    claims = None if user is None else Claims(rooms=(claim,))
    expected = {
        "anyone": True,
        "users": user is not None,
        "token": user is not None and naive(claim),
        "nobody": False,
    }[who]
    sections: list[dict[str, object]] = [
        {"pattern": name, "join": allowed} for name, allowed in rules
    ]
    allows = access(*sections)
    for _ in range(2):
        allows.may_join(room, "other", None)  # what is remembered is of one user
        assert allows.may_join(room, user, claims) is expected
