"""What must hold, as ratios within a round, and their median over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["BUDGETS", "ROWS", "STALLS", "Budget", "Results", "Row", "rounds_of"]

Results = Mapping[str, Sequence[Mapping[str, float]]]
"""By server: the figures of each round."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    title: str
    unit: str
    only: str
    """The name under which `--only` asks for it."""


ROWS = (
    Row("memory", "memory per idle connection", "B", "memory"),
    Row("accepts", "accepts by a fresh process", "/s", "accepts"),
    Row("accepts_warm", "accepts by a warm process", "/s", "accepts"),
    Row("visits", "accepts that end at once", "/s", "accepts"),
    Row("refusals", "refusals when full, HTTP", "/s", "refusals"),
    Row("refusals_inband", "refusals when full, in-band", "/s", "refusals"),
    Row("fanout", "one frame to all members, deliveries", "/s", "fanout"),
    Row("joined", "20 frames at once to all members, deliveries", "/s", "joined"),
    Row("echo_64", "echo of 64 B, 200 connections", "/s", "echo"),
    Row("echo_1k", "echo of 1 KB, 200 connections", "/s", "echo"),
    Row("stall_open", "longest stall while connections open", "ms", "stall"),
    Row("stall_fan", "longest stall during fan-outs", "ms", "stall"),
    Row("stall_ping", "longest stall while all are pinged", "ms", "stall"),
    Row("stall_leave", "longest stall when all leave at once", "ms", "stall"),
)
STALLS = tuple(row.name for row in ROWS if row.only == "stall")


def rounds_of(results: Results, server: str, row: str) -> list[float | None]:
    """Return the figures of `row` by round, None where there is none."""
    return [figures.get(row) for figures in results.get(server, [])]


@dataclass(frozen=True, slots=True)
class Budget:
    """A figure of Tidegate, perhaps over one of another server, and its bound."""

    title: str
    of: tuple[str, str]
    limit: float
    over: tuple[str, str] | None = None
    at_least: bool = True
    unit: str = "x"

    def values(self, results: Results) -> list[float]:
        """Return the figure or ratio of every round that has it."""
        found = rounds_of(results, *self.of)
        if self.over is None:
            return [value for value in found if value is not None]
        against = rounds_of(results, *self.over)
        # Rounds are compared with themselves: a slow minute of the machine slows both.
        pairs = zip(found, against, strict=False)
        return [a / b for a, b in pairs if a is not None and b]

    def measured(self, results: Results) -> float | None:
        """Return the median over the rounds."""
        values = self.values(results)
        return statistics.median(values) if values else None

    def by_cpu(self, results: Results) -> float | None:
        """Return the same by the server's processor time, which neighbours disturb less."""
        server, row = self.of
        found = rounds_of(results, server, f"{row}.cpu")
        if self.over is None:
            values = [value for value in found if value is not None]
        else:
            server, row = self.over
            against = rounds_of(results, server, f"{row}.cpu")
            pairs = zip(found, against, strict=False)
            values = [b / a for a, b in pairs if a and b is not None]
        return statistics.median(values) if values else None

    def holds(self, value: float) -> bool:
        """Return whether `value` is within the bound."""
        return value >= self.limit if self.at_least else value <= self.limit


BUDGETS = (
    Budget(
        "memory of an authenticated connection in a room",
        ("serve", "memory"),
        1536,
        at_least=False,
        unit="B",
    ),
    Budget(
        "the same, of ws's bare connection",
        ("serve", "memory"),
        0.25,
        ("ws", "memory"),
        at_least=False,
    ),
    Budget("accepts by a fresh process, of ws", ("raw", "accepts"), 3, ("ws", "accepts")),
    # A refused attempt ends as well, so it stands beside one that is accepted and then ends.
    Budget("HTTP refusals, of accepts that end", ("raw", "refusals"), 1, ("raw", "visits")),
    Budget(
        "in-band refusals, of accepts that end",
        ("serve", "refusals_inband"),
        1,
        ("serve", "visits"),
    ),
    Budget("one frame to all, of the bare loop", ("serve", "fanout"), 0.9, ("bare", "fanout")),
    Budget(
        "20 joined, of the bare loop's single sends",
        ("serve", "joined"),
        10,
        ("bare", "fanout"),
    ),
    Budget("echo of 64 B, of ws", ("raw", "echo_64"), 1.5, ("ws", "echo_64")),
    *(
        Budget(row.title, ("serve", row.name), 20, at_least=False, unit="ms")
        for row in ROWS
        if row.only == "stall"
    ),
)
