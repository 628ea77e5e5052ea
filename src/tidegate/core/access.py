"""What a client may do: which rooms it may join and write to, and whether it may write to users.

The rule of a room says who may; where it lets anyone, what clients without a token may do is said
by the section `anonymous`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tidegate.core.admission.attempt import Claims, Step
from tidegate.core.messaging.rules import DEFAULT, matches

if TYPE_CHECKING:
    from tidegate.core.messaging.rules import Rules
    from tidegate.core.settings import Settings
    from tidegate.core.settings.rooms import RoomRule

__all__ = ["Access"]


class Access:
    """Says what a client may do, by its user (None for an anonymous one) and its claims.

    Args:
        settings: has what anonymous clients may do.
        rules: the rules of the rooms, as they are in force.
    """

    __slots__ = ("_anonymous", "_direct", "_rules")

    def __init__(self, settings: Settings, rules: Rules) -> None:
        self._rules = rules
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Take over the settings of `anonymous`. Clients stay in the rooms they have joined."""
        anonymous = settings.anonymous
        self._anonymous = {
            "join": _Names(anonymous.join),
            "publish": _Names(anonymous.publish),
        }
        self._direct = anonymous.direct

    def may_join(self, room: str, user: str | None, claims: Claims | None) -> bool:
        """Whether a client may join a room."""
        if self._rules.some:
            who = self._rules.for_user(room, user).join
            if who != "anyone":
                return _allows(who, room, user, claims)
        return user is not None or room in self._anonymous["join"]

    def may_publish(self, room: str, user: str | None, claims: Claims | None) -> bool:
        """Whether a client, a member, may write to a room. HOT."""
        if self._rules.some:
            who = self._rules.for_user(room, user).publish
            if who != "anyone":
                return _allows(who, room, user, claims)
        return user is not None or room in self._anonymous["publish"]

    def may_send(self, user: str | None) -> bool:
        """Whether a client of this user may write to users. HOT."""
        return user is not None or self._direct

    def explain(self, room: str, user: str | None, claims: Claims | None) -> tuple[Step, ...]:
        """Return what a client may do with a room, and which rule says so.

        The steps are `join`, `publish`, `presence` and `history`. What a room shows and keeps is
        the same for all its members.
        """
        rule = self._rules.for_user(room, user)
        shown = self._rules.of(room)
        size = shown.history_size
        off = shown.presence == "off"
        kept = f"{size} messages for {shown.history_ttl:g} s" if size else "no messages"
        return (
            self._step("join", rule, rule.join, self.may_join(room, user, claims), user),
            self._step("publish", rule, rule.publish, self.may_publish(room, user, claims), user),
            Step(
                "presence",
                not off,
                f"{_named(shown, 'presence', shown.presence)}: members are "
                f"{'not ' if off else ''}told who is there",
                {"pattern": _pattern(shown)},
            ),
            Step(
                "history",
                size > 0,
                f"{_named(shown, 'history_size', str(size))}: the room keeps {kept}",
                {"pattern": _pattern(shown)},
            ),
        )

    def _step(self, name: str, rule: RoomRule, who: str, passed: bool, user: str | None) -> Step:
        detail = f"{_named(rule, name, who)}: "
        if who == "anyone" and user is None:
            detail += f"anonymous.{name} {'names' if passed else 'does not name'} the room"
        else:
            detail += {
                "anyone": "all clients with a token may",
                "users": "all clients with a token may" if passed else "the client has no token",
                "token": f"the rooms claim of the token {'names' if passed else 'does not name'} "
                "the room",
                "nobody": "only the server may",
            }[who]
        return Step(name, passed, detail, {"pattern": _pattern(rule)})


def _allows(who: str, room: str, user: str | None, claims: Claims | None) -> bool:
    if who == "users":
        return user is not None
    if who == "token" and claims is not None:
        return any(matches(pattern, room) for pattern in claims.rooms)
    return False


def _pattern(rule: RoomRule) -> str | None:
    return None if rule is DEFAULT else rule.pattern


def _named(rule: RoomRule, field: str, value: str) -> str:
    if rule is DEFAULT:
        return f"no rule matches, so {field} is {value}"
    return f"the rule {rule.pattern!r} has {field} = {value}"


class _Names:
    """Names of rooms, and beginnings of names: those that end with an asterisk."""

    __slots__ = ("_beginnings", "_names")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._names = frozenset(name for name in patterns if not name.endswith("*"))
        self._beginnings = tuple(name[:-1] for name in patterns if name.endswith("*"))

    def __contains__(self, room: str) -> bool:
        return room.startswith(self._beginnings) or room in self._names
