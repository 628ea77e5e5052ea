"""What rooms allow and keep, and how long a client may be away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting

__all__ = ["RoomRule", "RoomsSettings", "SessionsSettings"]

_WHO: Final = ("anyone", "users", "token", "nobody")
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_DAY: Final = 86_400.0
_MOST: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class RoomRule(Section):
    """What the rooms of one pattern allow and keep."""

    section: ClassVar[str] = "rooms.rules"
    pattern: str = setting(
        "*",
        "Which rooms: * stands for any characters, {user} for the user of the client that asks.",
        pattern=r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}",
        wording="a text of 1 to 128 characters, none of control",
        live=True,
    )
    join: str = setting(
        "anyone",
        "Who may join: token means that the rooms claim of the token names the room.",
        choices=_WHO,
        live=True,
    )
    publish: str = setting("anyone", "Which members may publish.", choices=_WHO, live=True)
    members: int | None = setting(
        None, "Most members, in place of limits.per_room.", low=0, high=_MOST, live=True
    )
    members_per_user: int | None = setting(
        None,
        "Most members that are connections of one user; no limit when left out.",
        low=0,
        high=_MOST,
        live=True,
    )
    publish_per_second: float = setting(
        0.0,
        "Messages a second that clients, all together, may publish in a room; 0 for no limit.",
        low=0,
        high=1_000_000,
        live=True,
    )
    publish_burst: int = setting(
        20, "Messages of them that may come at once.", low=1, high=1_000_000, live=True
    )
    history_size: int = setting(
        0, "Messages that are kept; 0 for none.", low=0, high=100_000, live=True
    )
    history_ttl: float = setting(
        300.0, "Time for which a message is kept.", unit="s", low=1, high=30 * _DAY, live=True
    )
    presence: str = setting(
        "off", "Whether members see who is in the room.", choices=("off", "members"), live=True
    )
    presence_users: int = setting(
        100,
        "Users above which members are told only how many there are.",
        low=0,
        high=10_000,
        live=True,
    )
    presence_grace: float = setting(
        5.0,
        "Time after which a user without a connection has left; a reconnect within it is no leave.",
        unit="s",
        low=0,
        high=3600,
        live=True,
    )
    timestamp: bool = setting(
        False, "Whether messages carry the time at which they were published.", live=True
    )
    delta: bool = setting(
        False, "Whether clients may ask for the difference to the message before.", live=True
    )


@dataclass(frozen=True, slots=True)
class RoomsSettings(Section):
    """What rooms allow and keep: the first rule whose pattern a room's name matches is its rule."""

    section: ClassVar[str] = "rooms"
    rules: tuple[RoomRule, ...] = setting(
        (),
        "A section for each pattern; a room that matches none keeps nothing and is open.",
        wording="a section with pattern and what such rooms allow",
        live=True,
    )
    history_bytes: int = setting(
        64 * _MIB,
        "Bytes of history over all rooms; beyond it, the rooms used longest ago lose theirs.",
        unit="bytes",
        low=_MIB,
        high=1024 * _GIB,
        live=True,
    )
    history_rooms: int = setting(10_000, "Rooms that have a history.", low=1, high=_MOST, live=True)


@dataclass(frozen=True, slots=True)
class SessionsSettings(Section):
    """How clients that drop off come back as if they had not."""

    section: ClassVar[str] = "sessions"
    enabled: bool = setting(
        False, "Whether a client may resume; a session that waits for it holds its lease."
    )
    ttl: float = setting(
        120.0,
        "Time for which a session waits for its client.",
        unit="s",
        low=1,
        high=3600,
        live=True,
    )
    max_bytes: int = setting(
        262_144,
        "Bytes of messages that are kept for one session.",
        unit="bytes",
        low=1024,
        high=_GIB,
        live=True,
    )
    all_bytes: int = setting(
        64 * _MIB,
        "Bytes of messages that are kept for all sessions together.",
        unit="bytes",
        low=1024,
        high=1024 * _GIB,
        live=True,
    )
    most: int = setting(
        10_000, "Sessions that wait at a time; the oldest end first.", low=1, high=_MOST, live=True
    )
