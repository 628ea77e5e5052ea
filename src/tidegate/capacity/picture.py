"""The knees as a picture."""

from __future__ import annotations

from pathlib import Path

from tidegate.capacity.judging import Bounds
from tidegate.capacity.plan import LOADS, Outcome
from tidegate.errors import UsageError

__all__ = ["draw"]

_INK = "#0b7285"
_BAD = "#e8590c"


def draw(outcome: Outcome, bounds: Bounds, target: Path) -> None:
    """Write a PNG: for each load the p99 and the processor time, and where the knee is.

    Raises:
        UsageError: Matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        problem = "--png needs Matplotlib: pip install 'tidegate[capacity]'"
        raise UsageError(problem) from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    knees = {name: knee for name, knee in outcome.knees.items() if knee.steps}
    figure, grid = plt.subplots(2, 2, figsize=(11, 7))
    for axes in grid.flat[len(knees) :]:
        axes.set_visible(False)
    for axes, (name, knee) in zip(grid.flat, knees.items(), strict=False):
        steps = sorted(knee.steps, key=lambda step: step.load)
        loads = [step.load for step in steps]
        axes.plot(loads, [step.figures["p99"] * 1e3 for step in steps], color=_INK, marker="o")
        bad = [step for step in steps if not step.good]
        axes.plot(
            [step.load for step in bad],
            [step.figures["p99"] * 1e3 for step in bad],
            color=_BAD,
            marker="o",
            linestyle="none",
        )
        axes.axhline(bounds.latency * 1e3, color=_BAD, linestyle=":", linewidth=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylabel("p99 (ms)", color=_INK)
        if knee.load:
            axes.axvline(knee.load, color="#868e96", linewidth=1)
        title = f"{LOADS[name]}: {'' if knee.driver else 'at least '}{knee.load:,.0f}"
        axes.set_title(title, loc="left", fontsize=10)
        if all("cpu" in step.figures for step in steps):
            right = axes.twinx()
            right.plot(loads, [step.figures["cpu"] for step in steps], color="#868e96")
            right.set_ylim(bottom=0)
            right.set_ylabel("server (cores)", color="#868e96")
        axes.grid(visible=True, alpha=0.25)
    figure.suptitle("How much this machine holds", fontsize=13)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
