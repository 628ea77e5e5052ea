"""What a run comes to: the figures that people compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from tidegate.sim.node import Status
from tidegate.sim.recorder import Record
from tidegate.sim.scenario import Scenario

__all__ = ["Outcome", "Series", "outcome_of"]

N = TypeVar("N", int, float)

_WINDOW: Final = 5
_MOST_CELLS: Final = 60_000


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """The course of a run, a value for each second; for each node a row of `every`-th seconds."""

    attempts: list[int]
    admitted: list[int]
    refused: list[int]
    unanswered: list[int]
    lost: list[int]
    connected: list[int]
    waiting: list[int]
    nodes_up: list[int]
    cpu_most: list[float]
    """Of the busiest node."""
    cpu_mean: list[float]
    """Of the nodes that accept."""
    every: int
    cpu: list[list[float]]
    """A row for each node; -1 while it does not accept."""
    connections: list[list[int]]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one run; times in seconds, counts in clients."""

    name: str
    about: str
    clients: int
    nodes: int
    weight: int
    """Clients that one object stood for."""
    seed: int
    duration: float
    cascade: bool
    """Whether nodes died of the load that others left behind, or of a storm."""
    nodes_failed: int
    """How often a node died of its load."""
    first_failure: float | None
    admitted_most: int
    """In one second."""
    refused_most: int
    attempts: int
    admitted: int
    refused: int
    unanswered: int
    reasons: dict[str, int]
    """Refusals, by reason."""
    lost: int
    back: int
    """Clients that were back after they had lost their connection."""
    back_p50: float | None
    back_p99: float | None
    missing: int
    """Clients without a connection at the end."""
    gone: int
    cpu_peak: float
    """The highest share of a core that a node used over 5 s."""
    cpu_peaks: list[float]
    """The same for each node."""
    connections_most: int
    """On one node."""
    waiting_most: int
    events: list[tuple[float, str]]
    series: Series

    @property
    def recovered(self) -> bool:
        """Whether nearly all clients have a connection at the end, and no node died of load."""
        return not self.cascade and self.missing <= 0.01 * self.clients


def outcome_of(scenario: Scenario, record: Record) -> Outcome:
    """Sum up a record."""
    seconds = record.seconds
    nodes = max((len(row) for row in record.cpu), default=0)
    cpu = [_column(record.cpu, number, 0.0) for number in range(nodes)]
    peaks = [_peak(values) for values in cpu]
    back = sorted(record.back)
    events = [
        *record.events,
        *((at, f"node {number + 1} died of its load ({why})") for at, number, why in record.failed),
    ]
    total = sum(each.count for each in scenario.clients)
    return Outcome(
        name=scenario.name,
        about=scenario.about,
        clients=max(total, scenario.crowd),
        nodes=scenario.fleet.nodes,
        weight=record.weight,
        seed=scenario.run.seed,
        duration=scenario.run.duration,
        cascade=bool(record.failed),
        nodes_failed=len(record.failed),
        first_failure=record.failed[0][0] if record.failed else None,
        admitted_most=max((each.admitted for each in seconds), default=0),
        refused_most=max((each.refused for each in seconds), default=0),
        attempts=sum(each.attempted for each in seconds),
        admitted=sum(each.admitted for each in seconds),
        refused=sum(each.refused for each in seconds),
        unanswered=sum(each.unanswered for each in seconds),
        reasons=dict(record.reasons),
        lost=sum(each.lost for each in seconds),
        back=len(back) * record.weight,
        back_p50=_quantile(back, 0.5),
        back_p99=_quantile(back, 0.99),
        missing=record.missing,
        gone=record.gone,
        cpu_peak=max(peaks, default=0.0),
        cpu_peaks=peaks,
        connections_most=record.most_connections,
        waiting_most=max((each.waiting for each in seconds), default=0),
        events=sorted(events),
        series=_series(record, nodes),
    )


def _series(record: Record, nodes: int) -> Series:
    seconds = record.seconds
    every = max(1, -(-len(seconds) * nodes // _MOST_CELLS))
    accepting = (Status.UP, Status.DRAINING)
    shown = range(0, len(seconds), every)
    return Series(
        attempts=[each.attempted for each in seconds],
        admitted=[each.admitted for each in seconds],
        refused=[each.refused for each in seconds],
        unanswered=[each.unanswered for each in seconds],
        lost=[each.lost for each in seconds],
        connected=[each.connected for each in seconds],
        waiting=[each.waiting for each in seconds],
        nodes_up=[each.up for each in seconds],
        cpu_most=[max(row, default=0.0) for row in record.cpu],
        cpu_mean=[
            round(sum(row) / max(1, second.up), 3)
            for row, second in zip(record.cpu, seconds, strict=True)
        ],
        every=every,
        cpu=[
            [
                record.cpu[second][number]
                if number < len(record.cpu[second]) and record.status[second][number] in accepting
                else -1.0
                for second in shown
            ]
            for number in range(nodes)
        ],
        connections=[
            _column([record.connections[second] for second in shown], number, 0)
            for number in range(nodes)
        ],
    )


def _column(rows: Sequence[Sequence[N]], number: int, none: N) -> list[N]:
    """The values of one node; it may have been added later."""
    return [row[number] if number < len(row) else none for row in rows]


def _peak(values: Sequence[float]) -> float:
    """The highest mean over a few seconds."""
    if not values:
        return 0.0
    window = min(_WINDOW, len(values))
    current = sum(values[:window])
    most = current
    for index in range(window, len(values)):
        current += values[index] - values[index - window]
        most = max(most, current)
    return round(most / window, 3)


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
