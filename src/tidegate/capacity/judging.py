"""When a load is too much: signals and their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psutil

from tidegate.capacity.target import Figures

__all__ = ["GENERATOR", "Bounds", "Use", "judge", "use_between"]

GENERATOR: Final = "generator"
"""The signal that says that this program can do no more, and the server perhaps can."""
_BUSY: Final = 0.9  # cores: a generator that uses more is late itself


@dataclass(frozen=True, slots=True)
class Bounds:
    """What must hold while a load is good."""

    latency: float = 0.1
    """Seconds, for 99 of 100 answers."""
    lag: float = 0.25
    """Seconds that the event loop may be late, 99 of 100 times."""
    cpu: float = 0.95
    """Cores above which the processor is the cause of what is late; the server is one process."""
    memory: float = 0.9
    """Share of the machine's memory in use."""
    refused: float = 0.001
    """Share of attempts and connections that may fail."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a server used under a load; None for what cannot be seen."""

    seconds: float
    cpu: float | None
    """Cores."""
    cpu_seconds: float | None
    rss: float | None
    lag: float | None
    """Seconds, 99 of 100 times at most."""
    memory: float
    """Share of this machine's memory in use."""


def use_between(before: Figures, after: Figures) -> Use:
    """Return what was used between two looks."""
    seconds = max(1e-3, after.at - before.at)
    spent = None if None in (before.cpu, after.cpu) else (after.cpu or 0) - (before.cpu or 0)
    memory = psutil.virtual_memory()
    return Use(
        seconds,
        None if spent is None else spent / seconds,
        spent,
        after.rss,
        _slowest(before.lags, after.lags),
        1 - memory.available / memory.total,
    )


def judge(
    bounds: Bounds,
    use: Use,
    *,
    p99: float,
    failed: float,
    generator: float,
    falls_short: bool = False,
) -> str:
    """Return the signal that passed its bound, the cause before what it causes; empty for none.

    Args:
        p99: seconds in which 99 of 100 answers came.
        failed: share of attempts and connections that failed.
        generator: cores that the generator used.
        falls_short: whether less came of the load than was asked for.
    """
    late = p99 > bounds.latency or falls_short
    if use.memory > bounds.memory:
        return "memory"
    if failed > bounds.refused:
        return "refusals"
    if late and generator > _BUSY and (use.cpu is None or use.cpu < bounds.cpu):
        return GENERATOR
    # A core that is busy and answers in time is put to use; it is the cause when answers are late.
    if use.cpu is not None and use.cpu > bounds.cpu and late:
        return "cpu"
    if p99 > bounds.latency:
        return "latency"
    if use.lag is not None and use.lag > bounds.lag:
        return "loop lag"
    return "rate" if falls_short else ""


def _slowest(
    before: Mapping[float, float] | None, after: Mapping[float, float] | None
) -> float | None:
    """The bound of the range that 99 of 100 new values are in or below."""
    if not before or not after:
        return None
    new = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    most = max(new.values())
    if most <= 0:
        return None
    finite = [bound for bound, count in new.items() if count >= 0.99 * most and bound < 1e9]
    return finite[0] if finite else max(bound for bound in new if bound < 1e9)
