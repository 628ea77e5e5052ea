"""The herd, from Python: one method for each command of herd.c."""

from __future__ import annotations

from collections.abc import Sequence

from bench.load import Answer, Generator

__all__ = ["Herd"]


class Herd(Generator):
    """Clients that come to `ports`, each to one of them, and come back when they were told to."""

    def __init__(self, *ports: int) -> None:
        super().__init__("herd", *ports)
        self._groups = 0

    def __enter__(self) -> Herd:
        return self

    def group(
        self,
        n: int,
        path: str,
        *,
        heads: Sequence[str] = (),
        tokens: str | None = None,
        first: str | None = None,
        answers: int = 0,
        rate: float | None = None,
        stay: float | None = None,
        again: bool = False,
        text: str | None = None,
        every: float | None = None,
        silent: bool = False,
    ) -> int:
        """Make a group of clients, whose time to come begins now; returns its number."""
        self._ask(
            "group",
            30,
            heads,
            n=n,
            path=path,
            tokens=tokens,
            first=first,
            answers=answers,
            rate=rate,
            stay=stay,
            again=int(again),
            text=text,
            every=every,
            silent=int(silent),
        )
        self._groups += 1
        return self._groups - 1

    def cut(self, group: int) -> None:
        """Reset all of a group; they come back at once."""
        self._ask("cut", 10, group=group)

    def end(self, group: int) -> None:
        """Reset all of a group; nobody of it comes again."""
        self._ask("end", 10, group=group)

    def run(self, seconds: float, *, until_settled: int | None = None) -> Answer:
        """Run for so long, or until a group is settled; returns what was seen meanwhile."""
        return self._ask("run", seconds, group=until_settled)
