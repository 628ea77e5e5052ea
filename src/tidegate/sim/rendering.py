"""Outcomes as text for a terminal: a table, and the course as lines of small bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tidegate.sim.outcome import Outcome
from tidegate.sim.sweep import Trial
from tidegate.text import clean, duration, number

__all__ = ["columns", "course", "rows", "trial_line"]

_BARS: Final = "▁▂▃▄▅▆▇█"


def rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """The lines of a table: what, and how it was in each run."""

    def line(title: str, values: Sequence[str]) -> tuple[str, ...]:
        return (title, *values)

    yield line("clients", [f"{each.clients:,}" for each in outcomes])
    yield line("nodes", [f"{each.nodes:,}" for each in outcomes])
    yield line("cascade", [_cascade(each) for each in outcomes])
    yield line("lost their connection", [f"{each.lost:,}" for each in outcomes])
    yield line("half of them back after", [_time(each.back_p50) for each in outcomes])
    yield line("99 % back after", [_time(each.back_p99) for each in outcomes])
    yield line("without a connection at the end", [f"{each.missing:,}" for each in outcomes])
    yield line("attempts", [f"{each.attempts:,}" for each in outcomes])
    yield line("admitted, most in a second", [f"{each.admitted_most:,}" for each in outcomes])
    yield line("refused", [_refused(each) for each in outcomes])
    yield line("refused, most in a second", [f"{each.refused_most:,}" for each in outcomes])
    yield line("not answered", [f"{each.unanswered:,}" for each in outcomes])
    yield line("CPU of the busiest node (5 s)", [f"{each.cpu_peak:.0%}" for each in outcomes])
    yield line("connections, most on a node", [f"{each.connections_most:,}" for each in outcomes])
    yield line("in waiting rooms, most", [f"{each.waiting_most:,}" for each in outcomes])


def course(outcome: Outcome, width: int) -> Iterator[tuple[str, str, str]]:
    """Lines of bars over the time of the run: title, bars, and what the highest bar is."""
    series = outcome.series
    for title, values, unit in (
        ("connected", series.connected, ""),
        ("admitted a second", series.admitted, ""),
        ("refused a second", series.refused, ""),
        ("not answered a second", series.unanswered, ""),
        ("waiting", series.waiting, ""),
        ("nodes that accept", series.nodes_up, ""),
        ("CPU, busiest node", [round(100 * value) for value in series.cpu_most], " %"),
    ):
        most = max(values, default=0)
        if most:
            yield title, _bars(values, width, most), f"{number(most)}{unit}"


def columns(values: Sequence[float], width: int) -> list[float]:
    """As many values as there are columns, each the highest of its part."""
    count = len(values)
    if count <= width:
        return list(values)
    return [
        max(values[column * count // width : (column + 1) * count // width])
        for column in range(width)
    ]


def _bars(values: Sequence[float], width: int, most: float) -> str:
    last = len(_BARS) - 1
    return "".join(
        _BARS[min(last, round(value / most * last))] if value else " "
        for value in columns(values, width)
    )


def _cascade(outcome: Outcome) -> str:
    if not outcome.cascade:
        return "no"
    times = "once" if outcome.nodes_failed == 1 else f"{outcome.nodes_failed:,} times"
    return f"yes: nodes died of load {times}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _refused(outcome: Outcome) -> str:
    said = ", ".join(
        f"{clean(name)} {count:,}"
        for name, count in sorted(outcome.reasons.items(), key=lambda item: -item[1])
    )
    return f"{outcome.refused:,}" + (f" ({said})" if said else "")


def trial_line(trial: Trial | None, name: str) -> str:
    """One line of the table of a sweep; its head without a trial."""
    if trial is None:
        return f"{name:>16} {'99 % back':>10} {'left out':>9} {'CPU':>5} {'cascade':>8}"
    outcome = trial.outcome
    cascade = "yes" if outcome.cascade else "no"
    return (
        f"{trial.value:>16g} {_time(outcome.back_p99):>10} {outcome.missing:>9,}"
        f" {outcome.cpu_peak:>5.0%} {cascade:>8}"
    )
