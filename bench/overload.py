"""Too much for long: `python -m bench.overload [--only NAME] [--seconds T]`.

capacity
    Twice as many clients as there is room for at this pace, for two minutes: each wants to be in
    for ten seconds, over and over. A refused one comes back when it was told to. 200 others send
    messages all the while. What is looked at: their latency, the admissions, the memory, and how
    long it takes after the end until everything is as before.

arrivals
    The same, but with new clients all the time, twice as many as the pace lets in. That cannot go
    on for ever: the line of those who were told when to come gets longer and longer.

readers
    A room of 5,000 gets 100 messages a second for 60 seconds. 1,000 more of its members never read.

Exit code 1 when a bound is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from typing import Any

from bench import prepare
from bench.process import HERE, LOAD_CORE, BenchError, descriptors
from bench.report import machine
from bench.scenario import Check, crew, natives, served, tidegate

RATE, BURST = 500.0, 100
STAY = 10.0
QUIET = 20.0
SETTLING = 10.0
"""Seconds within which everything has to be as before."""

READERS, SILENT, PER_SECOND = 5_000, 1_000, 100
CAP = 128 * 1024 * 1024
"""Memory that peers who never read may cost a server at the most, in bytes."""

SLOT_BYTES = 400
"""Memory that a client who was told when to come may cost until then; at most 131,072 are kept."""

SAME_SPEED = 1.25
"""How far the quiet medians before and after may be apart on one machine at one speed."""

RESULTS = HERE / "results" / "overload.json"

Figures = dict[str, Any]


def capacity(seconds: float) -> tuple[Figures, list[Check]]:
    """Twice as many as there is room for, over and over."""
    figures = _crowd(int(2 * RATE * STAY), seconds, again=True)
    memory = figures["memory"]
    full = memory[int(4 * 2 * STAY) : len(memory) // 2] or memory
    growth = statistics.mean(memory[-8:]) / statistics.mean(full)
    flat = Check("memory at the end, of that when full", growth, 0.9, 1.1, " x")
    return figures, [*_usual(figures), flat]


def arrivals(seconds: float) -> tuple[Figures, list[Check]]:
    """Twice as many new ones as the pace lets in."""
    figures = _crowd(int(2 * RATE * seconds), seconds, again=False)
    memory = figures["memory"]
    half = len(memory) // 2
    more = (statistics.mean(memory[-8:]) - statistics.mean(memory[half : half + 8])) / (
        RATE * seconds / 2
    )
    kept = Check("memory for each who was told when to come", more, -50, SLOT_BYTES, " B")
    return figures, [*_usual(figures), kept]


def _crowd(coming: int, seconds: float, *, again: bool) -> Figures:
    peer = tidegate(
        {"pacing.enabled": "true", "pacing.rate": RATE, "pacing.burst": BURST, "limits.per_ip": 100}
    )
    with served(peer, 16_000) as (server, herd, watch):
        crew(herd, peer)
        # As many as will be in at a time, so that the quiet time is like the loud one but for the
        # comers; they leave at its end.
        group = natives(herd, peer, "stayers", int(RATE * STAY), rate=RATE)
        herd.run(60, until_settled=group)
        quiet = herd.run(QUIET)
        herd.end(group)
        herd.run(1)
        group = natives(herd, peer, "comers", coming, rate=2 * RATE, stay=STAY, again=again)
        first = time.monotonic()
        used = server.cpu()
        loud = herd.run(seconds)
        used = (server.cpu() - used) / seconds
        last = time.monotonic()
        herd.end(group)
        settling = herd.run(SETTLING)
        after = herd.run(QUIET)
        memory = watch.memory(first, last)
    return {
        "clients": coming,
        "rate": RATE,
        "burst": BURST,
        "seconds": seconds,
        "cpu": used,
        "quiet": quiet["latency"],
        "loud": loud["latency"],
        "after": after["latency"],
        "late_quiet": quiet["late"],
        "late_loud": loud["late"],
        "p99_by_second": {
            when: [second["s"]["p99"] for second in seen["latencies"]]
            for when, seen in (
                ("quiet", quiet),
                ("loud", loud),
                ("settling", settling),
                ("after", after),
            )
        },
        "admitted_by_second": loud["admitted"],
        "refused_by_second": loud["refused"],
        "busiest_second": loud["admissions"]["busiest"],
        "gave_up": sum(loud["gave_up"]),
        "memory": memory,
    }


def _usual(figures: Figures) -> list[Check]:
    # The first seconds are those of the burst, and of the first who are told a second at least.
    even = figures["admitted_by_second"][3 : int(figures["seconds"])]
    quiet, loud, after = (figures[when]["p99"] for when in ("quiet", "loud", "after"))
    low, high = 0.95 * RATE, 1.05 * RATE
    # Before and after, because a machine that is shared changes its speed meanwhile.
    usual = (quiet + after) / 2
    return [
        Check("p99 latency, of the quiet one before and after", loud / usual, 0, 2, " x"),
        Check("admitted a second, mean", statistics.mean(even), low, high),
        Check("admitted a second, least", min(even), low, high),
        Check("admitted a second, most", max(even), low, high),
        Check("admitted in the busiest second", figures["busiest_second"], 0, RATE + BURST + 1),
        Check("p99 latency 10 s after, of the one before", after / quiet, 0, 1.5, " x"),
    ]


def _other_machine(figures: Figures) -> str | None:
    """Tell when a shared machine ran at another speed afterwards: that says nothing of a server."""
    if "quiet" not in figures:
        return None
    before, after = sorted(figures[when]["p50"] for when in ("quiet", "after"))
    if after <= SAME_SPEED * before:
        return None
    return (
        f"note: the quiet medians before and after are {after / before:.2f} x apart: the machine "
        "changed its speed meanwhile; measure again"
    )


def readers(seconds: float) -> tuple[Figures, list[Check]]:
    """A busy room with many who do not read."""
    peer = tidegate({"messages.per_second": 0})
    text = '{"type":"room_message","room":"busy","data":{"n":#,"pad":"' + "x" * 400 + '"}}'
    with served(peer, 16_000) as (server, herd, watch):
        group = natives(herd, peer, "readers", READERS, room="busy")
        herd.run(30, until_settled=group)
        silent = natives(herd, peer, "silent", SILENT, room="busy", silent=True)
        herd.run(30, until_settled=silent)
        herd.run(1)
        before, used = server.memory(), server.cpu()
        first = time.monotonic()
        natives(herd, peer, "speaker", 1, room="busy", text=text, every=1 / PER_SECOND)
        seen = herd.run(seconds)
        used = (server.cpu() - used) / seconds
        last = time.monotonic()
        memory = watch.memory(first, last)
        states = seen["groups"]
    sent = seconds * PER_SECOND
    delivered = seen["messages"] / READERS
    figures = {
        "seconds": seconds,
        "cpu": used,
        "messages": seen["messages"],
        "gaps": seen["gaps"],
        "lost": seen["lost"],
        "groups": states,
        "memory_before": before,
        "memory": memory,
        "latency": seen["latency"],
    }
    return figures, [
        Check("readers who are still there", states[group]["settled"], READERS, READERS),
        Check("readers' gaps", seen["gaps"], 0, 0),
        Check("messages that a reader got, of those sent", delivered / sent, 0.98, 1.02, " x"),
        Check(
            "memory that it cost at most", (max(memory) - before) / 2**20, 0, CAP / 2**20, " MiB"
        ),
    ]


SCENARIOS = {
    "capacity": (capacity, 120.0),
    "arrivals": (arrivals, 120.0),
    "readers": (readers, 60.0),
}


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload")
    parser.add_argument("--only", action="append", choices=list(SCENARIOS))
    parser.add_argument("--seconds", type=float, help="in place of 120, 120 and 60")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if descriptors() < 17_000:
        print("overload: needs 17,000 file descriptors: see ulimit -Hn", file=sys.stderr)
        return 2
    results: Figures = {"machine": machine()}
    good = True
    try:
        prepare.compile_c()
        os.sched_setaffinity(0, {LOAD_CORE})
        for name in options.only or SCENARIOS:
            scenario, usual = SCENARIOS[name]
            print(f"{name} ...", flush=True)
            results[name], held = scenario(options.seconds or usual)
            for check in held:
                print(f"  {check}")
                good = good and check.holds
            if note := _other_machine(results[name]):
                print(f"  {note}")
    except BenchError as error:
        print(f"overload: {error}", file=sys.stderr)
        good = False
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"every figure is in {RESULTS.relative_to(HERE.parent)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
