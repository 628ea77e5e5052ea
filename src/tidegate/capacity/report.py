"""What was found, for people and for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import psutil

from tidegate.capacity.judging import GENERATOR, Bounds
from tidegate.capacity.knee import Knee
from tidegate.capacity.plan import LOADS, Outcome

__all__ = ["as_json", "costs_file", "lines", "thresholds"]

_BAR: Final = 24
_PACE: Final = 0.5  # of what can be admitted: the other half is for those who are connected


def thresholds(outcome: Outcome, safety: float) -> dict[str, int | float]:
    """Return the settings that keep a server below its knees.

    Args:
        outcome: what was found.
        safety: the share of each knee that is to be used, 0 to 1.
    """
    wanted: dict[str, int | float] = {}
    connections = outcome.knees.get("connections")
    if connections is not None and connections.load >= 1:
        wanted["limits.connections"] = max(1, _rounded(connections.load * safety))
    connects = outcome.knees.get("connects")
    if connects is not None and connects.load >= 1:
        rate = max(1, _rounded(connects.load * safety * _PACE))
        wanted["pacing.rate"] = float(rate)
        wanted["pacing.burst"] = max(1, rate // 2)
    return wanted


def lines(outcome: Outcome, bounds: Bounds, safety: float, width: int) -> Iterator[str]:
    """Yield the report, line by line."""
    for name, knee in outcome.knees.items():
        yield f"{LOADS[name].capitalize()}: {_found(knee)}"
        yield from _plot(knee, bounds, width)
        yield ""
    for note in outcome.notes:
        yield f"Note: {note}."
    wanted = thresholds(outcome, safety)
    if wanted:
        yield f"Settings for {safety:.0%} of that (--write FILE puts them there):"
        for key, value in wanted.items():
            yield f"  {key} = {value}"


def as_json(outcome: Outcome, bounds: Bounds, safety: float) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "schema": 1,
        "measured": measured(),
        "bounds": {name: getattr(bounds, name) for name in Bounds.__dataclass_fields__},
        "complete": not outcome.ended,
        "knees": {
            name: {
                "load": knee.load,
                "driver": knee.driver,
                "atLeast": knee.driver in ("", GENERATOR),
                "steps": [
                    {
                        "load": step.load,
                        "reached": step.reached,
                        "driver": step.driver,
                        **step.figures,
                    }
                    for step in knee.steps
                ],
            }
            for name, knee in outcome.knees.items()
        },
        "costs": outcome.costs,
        "notes": outcome.notes,
        "settings": thresholds(outcome, safety),
    }


def costs_file(outcome: Outcome) -> dict[str, Any] | None:
    """Return the costs for `tidegate estimate --costs`; None when not all were measured."""
    names = ("bytes_per_connection", "cpu_per_connect", "cpu_per_message", "cpu_per_delivery")
    costs = {name: outcome.costs.get(name) for name in names}
    if any(not value for value in costs.values()):
        return None
    return {"schema": 1, **costs, "cpu_per_tls_handshake": None, "measured": measured()}


def measured() -> dict[str, Any]:
    """Where and when this was measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cores": os.cpu_count() or 1,
        "memory": psutil.virtual_memory().total,
    }


def _found(knee: Knee) -> str:
    if knee.driver == GENERATOR:
        return f"at least {knee.load:,.0f}; more than that the load generator cannot make"
    if not knee.driver:
        return f"at least {knee.load:,.0f}"
    if not knee.load:
        return f"less than the lowest load that was tried; {_limit(knee.driver)}"
    return f"{knee.load:,.0f}; {_limit(knee.driver)}"


def _limit(driver: str) -> str:
    return {
        "rate": "beyond it the server answers fewer than are sent",
        "refusals": "beyond it attempts and connections fail",
    }.get(driver, f"beyond it {driver} is the limit")


def _plot(knee: Knee, bounds: Bounds, width: int) -> Iterator[str]:
    """Draw the steps: how much of its bound the p99 has used, and what the server used."""
    wide = width >= 70
    for step in sorted(knee.steps, key=lambda one: one.load):
        share = min(1.0, step.figures["p99"] / bounds.latency)
        bar = "█" * round(share * _BAR) if wide else ""
        cpu = step.figures.get("cpu")
        seen = "" if cpu is None else f" cpu {cpu:4.0%}"
        mark = step.driver or "good"
        yield (
            f"  {step.load:>10,.0f} {step.figures['p99'] * 1e3:>8.1f} ms"
            f"{seen}  {bar:<{_BAR if wide else 0}} {mark}".rstrip()
        )


def _rounded(value: float) -> int:
    """Two digits that say something; more were not measured."""
    step = 10 ** max(0, len(str(int(value))) - 2)
    return int(value // step * step)
