"""What keys do: sort, filter, choose a connection, and close it after a question."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tidegate.errors import UsageError
from tidegate.top.sample import Row

__all__ = ["SORTS", "Kick", "Session", "parse_filter"]

SORTS: Final = ("buffered", "idle", "age", "user", "address")
"""The fields by which connections are sorted, in the order in which `s` goes through them."""

_QUERY_KEYS: Final = ("user", "ip", "room")
_ENTER: Final = ("\r", "\n")
_ESCAPE: Final = "escape"
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Kick:
    """Connections to close, as `/disconnect` selects them."""

    selector: dict[str, str]
    text: str
    """What they are, for people."""


def parse_filter(text: str) -> tuple[dict[str, str], str]:
    """Split a filter into what the server looks for and a text that rows must have.

    `user=ann`, `ip=10.0.0.0/8` and `room=lobby` are for the server; other words are the text.

    Raises:
        UsageError: the server cannot look for that.
    """
    query: dict[str, str] = {}
    words = []
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals:
            words.append(word)
        elif key in _QUERY_KEYS and value:
            query[key] = value
        else:
            raise UsageError(f"{word}: a filter is a text, user=NAME, ip=ADDRESS or room=NAME")
    return query, " ".join(words)


@dataclass(slots=True)
class Session:
    """The state of a view. `key` is told each key; what it returns is to be done."""

    sort: str = SORTS[0]
    filter: str = ""
    selected: int = 0
    """The row that is chosen, from 0."""
    typing: str | None = None
    """The filter that is being typed."""
    question: tuple[Kick, ...] = ()
    """The kicks to choose from, while it is asked."""
    message: str = ""
    """What came of the last thing that was done."""
    ended: bool = False
    rows: list[Row] = field(default_factory=list)
    """The rows that are shown."""

    @property
    def query(self) -> dict[str, str]:
        """What the server is asked for."""
        return parse_filter(self.filter)[0]

    def show(self, rows: list[Row]) -> None:
        """Take the rows of a sample: those that the filter leaves, with the choice kept on one."""
        chosen = self.rows[self.selected].id if self.selected < len(self.rows) else None
        text = parse_filter(self.filter)[1].lower()
        self.rows = [row for row in rows if text in _searched(row)]
        found = [number for number, row in enumerate(self.rows) if row.id == chosen]
        self.selected = found[0] if found else min(self.selected, max(0, len(self.rows) - 1))

    def key(self, key: str) -> Kick | None:
        """Take a key: a character, or up, down, escape, backspace."""
        if self.question:
            return self._answer(key)
        self.message = ""
        if self.typing is not None:
            self._type(key)
        elif key in ("q", "Q"):
            self.ended = True
        elif key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        elif key == "/":
            self.typing = self.filter
        elif key == _ESCAPE:
            self.filter = ""
        elif key in ("down", "j"):
            self.selected = min(self.selected + 1, max(0, len(self.rows) - 1))
        elif key in ("up", "k"):
            self.selected = max(0, self.selected - 1)
        elif key == "x" and self.selected < len(self.rows):
            self._ask(self.rows[self.selected])
        return None

    def _type(self, key: str) -> None:
        typed = self.typing or ""
        if key in _ENTER:
            try:
                parse_filter(typed)
            except UsageError as error:
                self.message = str(error)
                return
            self.filter, self.typing = typed.strip(), None
        elif key == _ESCAPE:
            self.typing = None
        elif key == "backspace":
            self.typing = typed[:-1]
        elif len(key) == 1 and key.isprintable() and len(typed) < _LONGEST:
            self.typing = typed + key

    def _ask(self, row: Row) -> None:
        """Ask which to close: `c`, `u` and `a` are the connection, its user and its address."""
        kicks = [Kick({"id": row.id}, f"c: connection {row.id}")]
        if row.user is not None:
            kicks.append(Kick({"user": row.user}, f"u: all of user {row.user}"))
        kicks.append(Kick({"ip": row.address}, f"a: all of {row.address}"))
        self.question = tuple(kicks)

    def _answer(self, key: str) -> Kick | None:
        asked, self.question = self.question, ()
        chosen = next((kick for kick in asked if kick.text.startswith(f"{key}:")), None)
        self.message = "" if chosen else "nothing was closed"
        return chosen


def _searched(row: Row) -> str:
    return " ".join((row.id, row.user or "", row.address, *row.rooms)).lower()
