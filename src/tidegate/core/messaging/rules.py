"""Which rule a room has: the first whose pattern its name matches, in the order of the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from tidegate.core.settings.rooms import RoomRule

__all__ = ["DEFAULT", "Rules", "matches"]

DEFAULT: Final = RoomRule()
"""The rule of a room that no pattern matches."""

_USER: Final = "{user}"
_ANY: Final = object()  # any user
_KNOWN: Final = 10_000  # rooms whose rule is remembered; their names come from peers


class Rules:
    """The rules of rooms, in force as the settings have them."""

    __slots__ = ("_found", "_found_for", "_patterns", "_personal", "history_size", "some")

    def __init__(self, rules: Iterable[RoomRule] = ()) -> None:
        self.apply(rules)

    def apply(self, rules: Iterable[RoomRule]) -> None:
        """Take over other rules, for what is asked from now on."""
        self._patterns = tuple((rule.pattern, rule) for rule in rules)
        self.some = bool(self._patterns)
        """Whether there is any rule. HOT: without one, nothing else needs to be asked."""
        self.history_size = max((rule.history_size for _, rule in self._patterns), default=0)
        """The most messages that a room keeps."""
        self._personal = any(_USER in pattern for pattern, _ in self._patterns)
        # A new dict for other rules: a thread that is looking one up keeps it in the old one.
        self._found: dict[str, RoomRule] = {}
        self._found_for: dict[tuple[str, str | None], RoomRule] = {}

    def of(self, room: str) -> RoomRule:
        """Return the rule for what a room keeps and shows: `{user}` stands for any user. HOT."""
        known = self._found
        found = known.get(room)
        if found is None:
            if len(known) >= _KNOWN:
                known.clear()
            found = known[room] = self._first(room, _ANY)
        return found

    def for_user(self, room: str, user: str | None) -> RoomRule:
        """Return the rule for what a user may do; an anonymous one is no `{user}`. HOT."""
        if not self._personal:
            return self.of(room)
        known = self._found_for
        key = (room, user)
        found = known.get(key)
        if found is None:
            if len(known) >= _KNOWN:
                known.clear()
            found = known[key] = self._first(room, user)
        return found

    def _first(self, room: str, user: object) -> RoomRule:
        for pattern, rule in self._patterns:
            parts = _parts(pattern, user)
            if parts is not None and _match(parts, room):
                return rule
        return DEFAULT


def matches(pattern: str, room: str) -> bool:
    """Whether a room's name matches a pattern, in which `*` stands for any characters."""
    return _match(pattern.split("*"), room)


def _parts(pattern: str, user: object) -> list[str] | None:
    """What a name must have around the asterisks of a pattern; None when no name will do."""
    if _USER not in pattern:
        return pattern.split("*")
    if isinstance(user, str):  # whose own asterisks are no pattern
        return [part.replace(_USER, user) for part in pattern.split("*")]
    return pattern.replace(_USER, "*").split("*") if user is _ANY else None


def _match(parts: Sequence[str], name: str) -> bool:
    first, *rest = parts
    if not rest:
        return name == first
    if not name.startswith(first):
        return False
    *middle, last = rest
    start = len(first)
    for part in middle:
        found = name.find(part, start)
        if found < 0:
            return False
        start = found + len(part)
    return len(name) - start >= len(last) and name.endswith(last)
