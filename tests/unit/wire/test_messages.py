"""The rules that single messages keep, whatever the codec."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.wire import messages
from tidegate.wire.messages import (
    MAX_ROOM,
    ClientMessage,
    Join,
    Leave,
    SendToRoom,
    SendToUser,
    ServerMessage,
    is_name,
)

RAW = msgspec.Raw(b"1")


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [
        ("", 8, False),
        ("a", 1, True),
        ("ab", 1, False),
        (" ", 8, True),
        ("chat/général 東京", 32, True),
        ("\U0001f469\u200d\U0001f680", 8, True),  # two emoji and the joiner between them
        ("a\u00a0b", 8, True),
        ("a\u2028b", 8, True),
        ("a\x00b", 8, False),
        ("a\x1f", 8, False),
        ("a\n", 8, False),
        ("a\x7f", 8, False),
        ("a\x80", 8, False),
        ("\x9f", 8, False),
        ("a\udfff", 8, False),
    ],
)
def test_is_name(text: str, longest: int, expected: bool) -> None:
    assert is_name(text, longest) is expected


@given(st.text(st.characters(), max_size=6))
@settings(max_examples=200)
def test_a_name_has_no_control_characters_and_can_be_encoded(text: str) -> None:
    control = any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text)
    assert is_name(text, 6) is (bool(text) and not control)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda name: Join(name), "room"),
        (lambda name: Leave(name), "room"),
        (lambda name: SendToRoom(name, RAW), "room"),
        (lambda name: SendToUser(name, RAW), "user"),
    ],
)
def test_every_name_in_a_message_is_checked(make, key: str) -> None:  # type: ignore[no-untyped-def]
    assert getattr(make("x" * MAX_ROOM), key) == "x" * MAX_ROOM
    with pytest.raises(ValueError, match=rf"Control characters are not allowed - at `\$\.{key}`"):
        make("a\x00")


@pytest.mark.parametrize("union", [ClientMessage, ServerMessage])
def test_types_are_snake_case_and_keys_are_camel_case(union) -> None:  # type: ignore[no-untyped-def]
    for member in union.__args__:
        info = msgspec.inspect.type_info(member)
        assert isinstance(info, msgspec.inspect.StructType)
        assert info.tag_field == "type"
        assert isinstance(info.tag, str)
        assert info.tag == info.tag.lower()
        for field in info.fields:
            assert "_" not in field.encode_name
            assert field.encode_name[0].islower()


def test_a_client_may_number_every_message() -> None:
    for member in ClientMessage.__args__:
        assert "id" in member.__struct_fields__


def test_messages_are_immutable() -> None:
    join = Join("lobby")
    with pytest.raises(AttributeError):
        join.room = "other"  # type: ignore[misc]


def test_everything_public_is_listed() -> None:
    structs = {
        name
        for name, value in vars(messages).items()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == messages.__name__
        and not name.startswith("_")
    }
    assert structs <= set(messages.__all__)
