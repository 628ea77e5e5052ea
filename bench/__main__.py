"""Run the benchmarks: `python -m bench [--quick] [--only NAME] [--peers NAMES] [--rounds N]`.

Within a round, servers take turns step by step, and ratios are taken within a round, so that what
slows the machine for a while slows all of them. Exit code 1 when a budget does not hold or cannot
be checked.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time

from rich.console import Console

from bench import prepare, report
from bench.budgets import ROWS
from bench.measure import MEASUREMENTS, Figures, Measurement, Sizes, Steps, write_tokens
from bench.peers import PEERS, PROBED
from bench.process import HERE, LOAD_CORE, SERVER_CORE, BenchError, descriptors

MOST_SECONDS = 340.0
"""Nothing more is begun that would end later than this."""

FULL = Sizes(others=5_000, members=10_000)
QUICK = Sizes(others=1_000, members=2_000, refusals=3_000, fans=5, echoes=3)
"""Shows that everything works; the budgets are meant for the full sizes and decide nothing."""

CROWDED = 0.05
"""The share of a core's time that others may have before the figures are doubted."""

RESULTS = HERE / "results" / "latest.json"


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    rows = sorted({row.only for row in ROWS})
    parser.add_argument("--only", action="append", choices=rows, help="may be repeated")
    parser.add_argument("--peers", default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=4, help="even is fair; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small sizes and one round")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"argument --rounds: {options.rounds} is not a number of rounds from 1 on")
    options.peers = options.peers.split(",")
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return options


def prepared(names: list[str], missing: list[str]) -> list[str]:
    """Build and install what the servers need; returns those that can run."""
    prepare.compile_c()
    installs = {"ws": prepare.install_node}
    for name in ("websockets", "picows", "uvicorn"):
        installs[name] = prepare.install_python
    usable = []
    for name in names:
        try:
            if name in installs:
                installs[name]()
        except BenchError as error:
            missing.append(f"{name} is left out: {error}")
        else:
            usable.append(name)
    return usable


def versions_of(names: list[str]) -> dict[str, str]:
    """Return the versions of the peers' packages."""
    packages = [PEERS[name].package for name in names]
    found = {package: prepare.version_of(package) for package in packages if package}
    if "ws" in found:
        found["node"] = prepare.version_of("node")
    return found


def order(names: list[str], measurement: Measurement, number: int) -> list[str]:
    """Return who takes part in a round; servers without a budget do in the first one only."""
    if "stall" in measurement.rows:
        return [name for name in names if name == "serve" and number % 2 == 0]
    part = [name for name in names if number == 0 or PEERS[name].compared]
    # Who is started first can be slower (README.md): as many rounds in one order as in the other.
    return part if number % 2 == 0 else part[::-1]


def take_turns(runs: dict[str, Steps], missing: list[str]) -> None:
    """Run one step of each server after the other until all are done.

    Nobody follows itself while others are there: it would find its memory in the caches.
    """
    while runs:
        for name in list(runs):
            try:
                next(runs[name])
            except StopIteration:
                del runs[name]
            except BenchError as error:
                missing.append(f"{name}: {error}")
                del runs[name]


def main() -> int:
    """Run what is asked for."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    notes: list[str] = []
    missing: list[str] = []
    sizes = QUICK if options.quick else FULL
    repeats = 1 if options.quick else options.rounds
    wanted = set(options.only or (row.only for row in ROWS))

    if descriptors() < sizes.connections + 1000:
        console.print(
            f"bench: {sizes.connections} connections need at least {sizes.connections + 1000} "
            f"file descriptors, and the hard limit is {descriptors()} (ulimit -Hn)"
        )
        return 2
    if SERVER_CORE == LOAD_CORE:
        notes.append("there is one core only: the load generator takes time from the server")
    try:
        names = prepared(options.peers, missing)
        versions = versions_of(names)
    except BenchError as error:
        console.print(f"bench: {error}", highlight=False)
        return 2
    os.sched_setaffinity(0, {LOAD_CORE})
    write_tokens(sizes)

    results: dict[str, list[Figures]] = {name: [] for name in names}
    took: dict[Measurement, float] = {}
    for number in range(repeats):
        for found in results.values():
            found.append({})
        for measurement in MEASUREMENTS:
            if not wanted & measurement.rows:
                continue
            what = measurement.steps.__name__
            part = order(names, measurement, number)
            if not part:
                continue
            started = time.monotonic()
            if started - began + took.get(measurement, 0) * len(part) > MOST_SECONDS:
                # A median of fewer rounds is still one; what was never measured is missing.
                short = notes if measurement in took else missing
                short.append(f"no time left for {what} in round {number + 1}")
                continue
            console.print(f"[dim]round {number + 1} of {repeats}: {what} of {', '.join(part)}[/]")
            runs: dict[str, Steps] = {}
            for name in part:
                peer = PROBED if "stall" in measurement.rows else PEERS[name]
                runs[name] = measurement.steps(peer, results[name][-1], sizes, wanted)
            take_turns(runs, missing)
            took[measurement] = (time.monotonic() - started) / len(part)

    seconds = time.monotonic() - began
    every = [figures for rounds in results.values() for figures in rounds if figures.get("ran")]
    crowded = max((f["waited"] / (f["ran"] + f["waited"]) for f in every), default=0.0)
    if crowded > CROWDED:
        notes.append(
            f"other processes had up to {crowded:.0%} of a core's time: the figures are too low "
            "and uneven, and the stalls are not the server's"
        )
    if options.quick:
        notes.append("the budgets are meant for the full sizes: here they decide nothing")
    notes = missing + notes
    good = report.show(console, results, notes) or options.quick
    console.print(f"\n{report.markdown(results, versions)}", highlight=False, soft_wrap=True)
    RESULTS.parent.mkdir(exist_ok=True)
    answer = report.as_json(results, versions, sizes, notes, seconds)
    RESULTS.write_text(json.dumps(answer, indent=1) + "\n")
    console.print(f"\n{seconds:.0f} s; every figure is in {RESULTS.relative_to(HERE.parent)}")
    return 0 if good and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
