"""Draws a storm: `python picture.py STORM.json STORM.png`. Runs where Matplotlib is installed."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {"paced": "#0b7285", "fast": "#37b24d", "unpaced": "#f08c00", "ws": "#868e96"}
PANELS = (
    ("admitted", "admitted a second", 1.0, "symlog"),
    ("refused", "refused a second", 1.0, "symlog"),
    ("latency_p99", "latency of those in, p99 (ms)", 1e3, "log"),
    ("cpu", "CPU of the server (cores)", 1.0, "linear"),
)


def panel(
    axes: Axes, results: dict[str, Any], row: str, title: str, factor: float, scale: str
) -> None:
    for name, figures in results.items():
        values = [value * factor for value in figures["by_second"][row]]
        axes.step(
            range(len(values)),
            values,
            where="post",
            color=COLOURS[name],
            linewidth=1.8,
            label=f"{figures['name']}: all back after {figures['seconds']:.1f} s",
        )
    axes.set_yscale(scale)
    if scale == "symlog":
        axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    answer = json.loads(source.read_text())
    results = answer["results"]
    count = next(iter(results.values()))["connections"]
    figure, grid = plt.subplots(2, 2, figsize=(11, 7), sharex=True)
    for axes, (row, title, factor, scale) in zip(grid.flat, PANELS, strict=True):
        panel(axes, results, row, title, factor, scale)
    for axes in grid[1]:
        axes.set_xlabel("seconds since the cut")
    figure.suptitle(f"{count:,} clients are cut, and all come back at once", fontsize=13)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
