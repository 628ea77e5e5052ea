"""The claims of a token about rooms and presence: `rooms`, `join`, `info`, `operator`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tidegate.core.admission.attempt import Claims
from tidegate.errors import UsageError
from tidegate.wire.messages import MAX_ROOM, is_name

__all__ = ["MAX_INFO", "MAX_JOIN", "MAX_PATTERNS", "claims", "claims_of", "wrong_room_claim"]

MAX_PATTERNS: Final = 100
"""The most patterns of the claim `rooms`."""
MAX_JOIN: Final = 100
"""The most rooms of the claim `join`."""
MAX_INFO: Final = 1024
"""The longest claim `info`, in bytes of JSON."""


def claims(
    *,
    rooms: Sequence[str] = (),
    join: Sequence[str] = (),
    info: Mapping[str, Any] | None = None,
    operator: bool = False,
) -> Claims:
    """Make the claims of an `Identity`: what a token would say about rooms and presence.

    Args:
        rooms: names and patterns of rooms that the client may join where their rule asks the token.
        join: rooms that the server joins it to.
        info: what other members see of it; at most 1 KiB of JSON.
        operator: whether it may send to everybody.

    Raises:
        UsageError: a value is wrong, or too long.
    """
    said = {
        "rooms": rooms if isinstance(rooms, str) else list(rooms),
        "join": join if isinstance(join, str) else list(join),
        "info": None if info is None else dict(info),
        "operator": operator,
    }
    wrong = wrong_room_claim(said)
    if wrong is not None:
        raise UsageError(wrong)
    return claims_of(said) or Claims()


def claims_of(claims: Mapping[str, Any]) -> Claims | None:
    """Return what the claims of a token say, None where it has none of these.

    They are those that `wrong_room_claim` finds nothing wrong with.
    """
    rooms, join = claims.get("rooms"), claims.get("join")
    info, operator = claims.get("info"), claims.get("operator")
    if not (rooms or join or info or operator):
        return None
    return Claims(
        rooms=tuple(rooms or ()),
        join=tuple(dict.fromkeys(join or ())),
        info=_encoded(info) if info else None,
        operator=bool(operator),
    )


def wrong_room_claim(claims: Mapping[str, Any]) -> str | None:
    """Return what is wrong with these claims, or None. A claim that is null counts as left out."""
    for name, most in (("rooms", MAX_PATTERNS), ("join", MAX_JOIN)):
        listed = claims.get(name)
        if listed is None:
            continue
        if not isinstance(listed, list) or len(listed) > most:
            return f"{name} must be a list of at most {most} rooms"
        if not all(isinstance(room, str) and is_name(room, MAX_ROOM) for room in listed):
            return f"{name} must hold texts of 1 to {MAX_ROOM} characters, none of control"
    info = claims.get("info")
    if info is not None:
        encoded = _encoded(info) if isinstance(info, dict) else None
        if encoded is None or len(encoded) > MAX_INFO:
            return f"info must be an object of at most {MAX_INFO} bytes of JSON"
    if not isinstance(claims.get("operator"), bool | None):
        return "operator must be true or false"
    return None


def _encoded(info: dict[str, Any]) -> bytes | None:
    try:
        return msgspec.json.encode(info)
    except (UnicodeEncodeError, RecursionError, OverflowError):
        return None  # half a surrogate pair, or nested too deeply
