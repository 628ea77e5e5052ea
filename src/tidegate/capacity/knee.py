"""Where a load becomes too much: steps up until one is bad, then in between.

A bad step may be the machine's neighbour, who only ever takes away. So a step counts as bad when it
was bad three times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

__all__ = ["Knee", "Measure", "Step", "search"]

_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Step:
    """What was seen under one load."""

    load: float
    """What was asked for; `reached` is what came of it."""
    reached: float
    figures: dict[str, float] = field(default_factory=dict)
    driver: str = ""
    """The signal that passed its bound; empty when none did."""
    final: bool = False
    """Whether there is no use in a higher load: the generator or the machine can do no more."""

    @property
    def good(self) -> bool:
        """Whether all signals were within their bounds."""
        return not self.driver


@dataclass(frozen=True, slots=True)
class Knee:
    """The highest load that was good, and what ended the search."""

    load: float
    driver: str
    """The signal that is the limit; empty when none was reached, and the load is "at least"."""
    steps: tuple[Step, ...]


Measure: TypeAlias = Callable[[float], Step]


def search(
    measure: Measure,
    start: float,
    most: float,
    *,
    factor: float = 2.0,
    precision: float = 0.1,
    late: Callable[[], bool] = lambda: False,
) -> Knee:
    """Find the highest load that is good.

    Args:
        measure: tries a load.
        start: the first load.
        most: the highest load to try.
        factor: by which the load rises as long as it is good.
        precision: how far apart the last good and the first bad load may be, as a share.
        late: whether it is time to end with what there is.
    """
    steps: list[Step] = []

    def attempt(load: float) -> Step:
        for _ in range(_TRIES):
            step = measure(load)
            steps.append(step)
            if step.good or step.final or late():
                break
        return step

    good, bad, driver = 0.0, 0.0, ""
    load = min(start, most)
    while not late():
        step = attempt(load)
        if not step.good:
            bad, driver = load, step.driver
            break
        good = max(good, step.reached)
        if load >= most or step.final:
            break
        load = min(load * factor, most)
    while bad and bad > good * (1 + precision) and bad - good >= 1 and not late():
        step = attempt((good + bad) / 2)
        if step.good and step.reached > good:
            good = step.reached
        elif step.good:  # it asked for more, and got no more
            break
        else:
            bad, driver = step.load, step.driver
    return Knee(good, driver, tuple(steps))
