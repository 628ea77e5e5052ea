"""Large fleets in the simulator: `python -m bench.millions [--clients N] [--nodes N] [--only X]`.

The ready scenarios of `tidegate simulate` with ten million clients on 1,000 nodes, over ten
minutes: with the defaults and with everything off. Exit code 1 when one takes more than a minute
of CPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from tidegate.sim.happenings import simulate
from tidegate.sim.outcome import outcome_of
from tidegate.sim.scenario import OFF, Scenario, load, ready

MOST_SECONDS = 60.0
_DURATION = 600.0


def grown(name: str, clients: int, nodes: int) -> Scenario:
    """A ready scenario for so many; as large a part of the nodes as before is deployed at once."""
    scenario = load(name)
    more, factor = clients / scenario.crowd, max(1, nodes // scenario.fleet.nodes)
    return replace(
        scenario,
        run=replace(scenario.run, duration=_DURATION),
        fleet=replace(scenario.fleet, nodes=nodes),
        clients=tuple(replace(kind, count=int(kind.count * more)) for kind in scenario.clients),
        happenings=tuple(
            replace(each, nodes=each.nodes * factor) if each.kind == "deploy" else each
            for each in scenario.happenings
        ),
    )


def main() -> int:
    """Run them one after the other."""
    parser = argparse.ArgumentParser(prog="python -m bench.millions")
    parser.add_argument("--clients", type=int, default=10_000_000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--only", choices=list(ready()))
    options = parser.parse_args()
    good = True
    for name in [options.only] if options.only else ready():
        scenario = grown(name, options.clients, options.nodes)
        for settings, one in (("defaults", scenario), ("off", scenario.with_settings(OFF))):
            began = time.process_time()
            outcome = outcome_of(one, simulate(one))
            took = time.process_time() - began
            good = good and took <= MOST_SECONDS
            back = "-" if outcome.back_p99 is None else f"{outcome.back_p99:.0f} s"
            print(
                f"{name:<16} {settings:<9} {took:>5.1f} s of CPU, "
                f"{outcome.attempts:>12,} attempts, {outcome.nodes_failed:>6,} deaths, "
                f"99 % back after {back}",
                flush=True,
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
