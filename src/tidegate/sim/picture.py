"""Outcomes as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tidegate.errors import UsageError
from tidegate.sim.outcome import Outcome

__all__ = ["draw"]

_INK = "#0b7285"
_BAD = "#e8590c"
_SOFT = "#868e96"


def draw(outcomes: Sequence[Outcome], target: Path) -> None:
    """Write a PNG: a column for each run, with connections, attempts, and the core of every node.

    Raises:
        UsageError: Matplotlib is not installed, or the file cannot be written.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        problem = "--png needs Matplotlib: pip install 'tidegate[simulate]'"
        raise UsageError(problem) from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(
        3,
        len(outcomes),
        figsize=(5.5 * len(outcomes), 6),
        sharex="col",
        sharey="row",
        squeeze=False,
    )
    for column, outcome in enumerate(outcomes):
        series = outcome.series
        top, middle, low = grid[:, column]
        top.set_title(outcome.name, loc="left", fontsize=10)
        top.plot(series.connected, color=_INK, label="connected")
        if any(series.waiting):
            top.plot(series.waiting, color=_SOFT, label="in waiting rooms")
        middle.plot(series.admitted, color=_INK, label="admitted a second")
        middle.plot(series.refused, color=_BAD, label="refused a second")
        middle.plot(series.unanswered, color=_SOFT, label="not answered a second")
        middle.set_yscale("symlog", linthresh=100)
        shades = [[value if value >= 0 else float("nan") for value in row] for row in series.cpu]
        low.imshow(
            shades,
            aspect="auto",
            cmap="viridis",
            vmin=0,
            vmax=1,
            interpolation="nearest",
            extent=(0, len(series.attempts), len(shades), 0),
        )
        low.set_xlabel("seconds")
        for axes in (top, middle):
            axes.set_ylim(bottom=0)
            axes.grid(visible=True, alpha=0.25)
        if column == 0:
            top.legend(fontsize=8, loc="lower right")
            middle.legend(fontsize=8, loc="upper right")
            low.set_ylabel("CPU of each node")
    figure.tight_layout()
    try:
        figure.savefig(target, dpi=90)
    except OSError as error:
        raise UsageError(f"--png {target}: {error.strerror}") from None
    finally:
        plt.close(figure)
