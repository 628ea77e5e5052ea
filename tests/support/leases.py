"""What counts over nodes, in memory: its commands are done when a test says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tidegate.backplane.base import Taken

__all__ = ["Between", "Counts"]


class Between:
    """What is between the nodes: their counts, and the commands that are on their way."""

    def __init__(self) -> None:
        self.counts: dict[Counts, Counter[str]] = {}

    def sum(self, name: str) -> int:
        return sum(counts[name] for counts in self.counts.values())


class Counts:
    """The leases of one node (`backplane.base.Leases`); `work` does what is on its way."""

    def __init__(self, between: Between) -> None:
        self.between = between
        self.up = True
        self.total = 0
        self.commands: list[Callable[[bool], None]] = []
        between.counts[self] = Counter()

    async def start(self, held: Mapping[str, int], lost: Callable[[], None], /) -> None:
        self.held, self.lost = held, lost

    async def begin(self, held: Mapping[str, int], lost: Callable[[], None], /) -> None:
        await self.start(held, lost)

    async def stop(self) -> None:
        self.between.counts[self].clear()

    def take(self, names: Sequence[str], limits: Sequence[int | None], taken: Taken, /) -> None:
        if not self.up:
            taken(None)
            return

        def work(arrives: bool) -> None:
            if not arrives:
                taken(None)
                return
            for number, (name, limit) in enumerate(zip(names, limits, strict=True), 1):
                if limit is not None and self.between.sum(name) >= limit:
                    taken(number)
                    return
            self.between.counts[self].update(names)
            taken(0)

        self.commands.append(work)

    def change(self, out: Sequence[str], into: Sequence[str], /) -> None:
        def work(arrives: bool) -> None:
            if arrives:
                counts = self.between.counts[self]
                counts.subtract(out)
                counts.update(into)

        if self.up:
            self.commands.append(work)

    def sums(self, names: Sequence[str], done: Callable[[list[int] | None], None], /) -> None:
        done([self.between.sum(name) for name in names] if self.up else None)

    def work(self) -> None:
        while self.commands:
            self.commands.pop(0)(True)

    def cut(self) -> None:
        self.up = False
        while self.commands:
            self.commands.pop(0)(False)

    def restore(self) -> None:
        self.up = True
        self.between.counts[self] = Counter(self.held)
