"""One setting, tried at several values: which brings the clients back soonest.

A value counts as good when no node dies of load and no node uses more than a share of its core.
Of the good ones the best is the one with the fewest clients left out at the end, then the one after
which 99 % are back soonest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, log
from typing import Final

from tidegate.core.settings import Settings
from tidegate.errors import UsageError
from tidegate.sim.happenings import simulate
from tidegate.sim.outcome import Outcome, outcome_of
from tidegate.sim.scenario import Scenario

__all__ = ["CPU", "Range", "Trial", "best", "sweep"]

CPU: Final = 0.8
"""The share of a core that no node is to pass."""

_FIRST: Final = 7
_MORE: Final = 2
_RANGE: Final = re.compile(r"([\w.\-]+)=([\d.]+?)\.\.([\d.]+)")


@dataclass(frozen=True, slots=True)
class Range:
    """A setting, and the lowest and the highest value to try."""

    name: str
    low: float
    high: float
    whole: bool

    @classmethod
    def parse(cls, text: str) -> Range:
        """Read `pacing.rate=200..5000`.

        Raises:
            UsageError: it is not of this form, or names no number among the settings.
        """
        match = _RANGE.fullmatch(text.strip())
        try:
            low, high = (float(match[2]), float(match[3])) if match else (0.0, 0.0)
        except ValueError:
            low = high = 0.0
        if match is None or not 0 < low < high:
            raise UsageError(
                f"--sweep {text}: must be section.key=LOW..HIGH, such as pacing.rate=200..5000"
            )
        kinds = {known.name: known for known in Settings.fields()}
        known = kinds.get(match[1])
        if known is None or known.kind not in (int, float) or known.many:
            raise UsageError(f"--sweep {match[1]}: must be a setting that is a number")
        return cls(match[1], low, high, known.kind is int)

    def spread(self, count: int, low: float, high: float) -> Iterator[float]:
        """Values from the lowest to the highest, each as many times the one before."""
        for step in range(count):
            value = exp(log(low) + (log(high) - log(low)) * step / (count - 1))
            yield float(round(value)) if self.whole else float(f"{value:.3g}")


@dataclass(frozen=True, slots=True)
class Trial:
    """One value, and what it came to."""

    value: float
    outcome: Outcome

    @property
    def good(self) -> bool:
        """Whether it keeps the bounds."""
        return not self.outcome.cascade and self.outcome.cpu_peak <= CPU

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Lower is better."""
        outcome = self.outcome
        out = outcome.missing / max(1, outcome.clients)
        late = outcome.back_p99 if outcome.back_p99 is not None else 0.0
        return not self.good, round(out, 3), late


def sweep(
    scenario: Scenario, tried: Range, tell: Callable[[Trial], None] | None = None
) -> list[Trial]:
    """Run a scenario with several values of a setting; in the order of the values.

    Args:
        scenario: what is run.
        tried: the setting.
        tell: is given each trial when it is done.
    """
    trials: dict[float, Trial] = {}

    def run(values: Iterator[float]) -> None:
        for value in values:
            if value in trials:
                continue
            given = int(value) if tried.whole else value
            own = scenario.with_settings({tried.name: given}, f"{tried.name} = {value:g}")
            trial = trials[value] = Trial(value, outcome_of(own, simulate(own)))
            if tell is not None:
                tell(trial)

    run(tried.spread(_FIRST, tried.low, tried.high))
    # And some more on both sides of the best.
    values = sorted(trials)
    place = values.index(best(list(trials.values())).value)
    low, high = values[max(0, place - 1)], values[min(len(values) - 1, place + 1)]
    run(tried.spread(_MORE + 3, low, high))
    return [trials[value] for value in sorted(trials)]


def best(trials: list[Trial]) -> Trial:
    """The best of them; where none is good, the least bad."""
    return min(trials, key=lambda trial: trial.rank)
