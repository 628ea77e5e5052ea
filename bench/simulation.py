"""The simulator beside the real thing: `python -m bench.simulation [--connections N] [--rate R]`.

The storm of `bench.storm`, on one node and on two: all clients are reset in the same moment, come
back at once, and when they were told to. Real servers with real sockets first, then the same as a
scenario of `tidegate simulate`. Exit code 1 when a figure of the simulator is more than 10 % off.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import prepare
from bench.herd import Herd
from bench.measure import started
from bench.process import HERE, LOAD_CORE, BenchError, descriptors
from bench.report import machine
from bench.scenario import natives, tidegate
from tidegate.sim.happenings import simulate
from tidegate.sim.outcome import outcome_of
from tidegate.sim.scenario import parse

FAR = 0.1
"""How far a figure of the simulator may be off."""

RESULTS = HERE / "results" / "simulation.json"

Figures = dict[str, float]


def settings(rate: float, burst: int, connections: int) -> dict[str, object]:
    """The settings of a node."""
    return {
        "pacing.enabled": True,
        "pacing.rate": rate,
        "pacing.burst": burst,
        "limits.connections": connections + 1000,
        "limits.per_ip": connections + 1000,
    }


def real(connections: int, nodes: int, rate: float, burst: int) -> Figures:
    """Cut all of them, on so many servers, and wait until all are back.

    One load generator has the clients of all servers, since two of them on one core would take it
    from each other. The servers share a core.
    """
    each = connections // nodes
    own = {name: str(value).lower() for name, value in settings(rate, burst, each).items()}
    peer = tidegate(own)
    limit = 4 * each / rate + 60
    with ExitStack() as stack:
        servers = [stack.enter_context(started(peer, each + 1000)) for _ in range(nodes)]
        herd = stack.enter_context(Herd(*(port for _, port in servers)))
        group = natives(herd, peer, "herd", connections, rate=4000)
        filled = herd.run(limit, until_settled=group)["groups"][group]
        if filled["settled"] != connections:
            raise BenchError(f"only {filled} came in at first")
        herd.run(2)
        herd.cut(group)
        seen = herd.run(limit, until_settled=group)
    back = seen["groups"][group]["settled"]
    if back != connections:
        raise BenchError(f"{back} of {connections} were back after {limit:.0f} s")
    return {
        "admitted a second": connections / seen["seconds"],
        "refused": sum(seen["refused"]),
        "half back after": seen["back"]["p50"],
        "99 % back after": seen["back"]["p99"],
    }


def simulated(connections: int, nodes: int, rate: float, burst: int) -> Figures:
    """The same as a scenario."""
    each = connections // nodes
    text = "\n".join(
        (
            f"[run]\nduration = {10 + int(3 * each / rate) + 30}",
            f"[fleet]\nnodes = {nodes}\nspeed = {1 / nodes}",
            "[balancer]\nalgorithm = 'sticky'",
            "[load]\nmessages = 0\nstay = 0",
            "[network]\nrtt = 0.0001",
            f"[[clients]]\ncount = {connections}\nbehaviour = 'obedient'",
            "[[happenings]]\nat = 5\nkind = 'blip'\nduration = 0",
        )
    )
    own = settings(rate, burst, connections)
    # The generator opens one after the other, so that the kernel's queue does not overflow.
    own["server.backlog"] = connections
    scenario = parse(text, "storm", Path(), own)
    record = simulate(scenario)
    outcome = outcome_of(scenario, record)
    assert outcome.back_p50 is not None
    assert outcome.back_p99 is not None
    return {
        "admitted a second": connections / max(record.back),
        "refused": outcome.refused,
        "half back after": outcome.back_p50,
        "99 % back after": outcome.back_p99,
    }


def main() -> int:
    """Run both, and compare."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulation")
    parser.add_argument("--connections", type=int, default=15_000)
    parser.add_argument("--rate", type=float, default=500.0, help="default: %(default)s a second")
    parser.add_argument("--burst", type=int, default=100, help="default: %(default)s")
    options = parser.parse_args()
    if descriptors() < options.connections + 2000:
        print("simulation: needs more file descriptors: see ulimit -Hn", file=sys.stderr)
        return 2
    answer: dict[str, Any] = {"machine": machine(), "runs": {}}
    good = True
    try:
        prepare.compile_c()
        os.sched_setaffinity(0, {LOAD_CORE})
        for nodes in (1, 2):
            rate, burst = options.rate / nodes, options.burst // nodes
            there = real(options.connections, nodes, rate, burst)
            here = simulated(options.connections, nodes, rate, burst)
            answer["runs"][nodes] = {"real": there, "simulated": here}
            print(f"\n{options.connections:,} clients, {nodes} of {rate:g} a second")
            for name, value in there.items():
                off = here[name] / value - 1 if value else 0.0
                good = good and abs(off) <= FAR
                print(f"{name:<20} {value:>10,.1f} {here[name]:>10,.1f} {off:>+7.1%}")
    except BenchError as error:
        print(f"simulation: {error}", file=sys.stderr)
        return 2
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(answer, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
