"""The storm: all are cut and all come back at once. `python -m bench.storm [--connections N] ...`.

15,000 authenticated clients, each in a room, are reset in the same moment. All of them come back
at once and without jitter, the worst that clients can do, and a refused one comes back when it was
told to. Meanwhile 200 others who were not cut send messages, and their latency is measured. This is
done to Tidegate with a slow pace, with a fast one and with none, and to `ws` behind a counter of
accepts in each second.

Exit code 1 when the paced server does not keep its bounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench import prepare
from bench.peers import PEERS, SERVERS, Peer, Start
from bench.process import HERE, LOAD_CORE, BenchError, descriptors
from bench.report import machine
from bench.scenario import Check, crew, natives, served, tidegate

QUIET = 5.0
"""Seconds of the crew alone, before anybody else comes."""

AFTER = 3.0
"""Seconds that are looked at when all are back."""

RESULTS = HERE / "results"
PICTURE = HERE.parent / "docs" / "guide" / "reconnect-storm.png"

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and how it lets people in."""

    name: str
    peer: Peer
    rate: float | None = None
    burst: float = 0.0


def contenders(rate: float, burst: int) -> dict[str, Contender]:
    """All of them, by the name under which `--only` asks for them."""

    def paced(rate: float, burst: int) -> Contender:
        settings = {"pacing.enabled": "true", "pacing.rate": rate, "pacing.burst": burst}
        return Contender(f"Tidegate, {rate:,.0f} a second", tidegate(settings), rate, burst)

    def counter(start: Start) -> list[str]:
        node = shutil.which("node") or "node"
        return [node, str(SERVERS / "ws_counter.mjs"), str(start.port), f"{rate:g}"]

    ws = replace(PEERS["ws"], command=counter, fan_path="/echo")
    return {
        "paced": paced(rate, burst),
        "fast": paced(4 * rate, 10 * burst),
        "unpaced": Contender("Tidegate, no pace", tidegate({"pacing.enabled": "false"})),
        "ws": Contender(f"ws, {rate:g} in a second of the clock", ws, rate),
    }


def storm(contender: Contender, connections: int) -> Figures:
    """Cut all, wait until all are back, and say what happened."""
    peer = contender.peer
    rate = contender.rate or 1000.0
    limit = 4 * connections / rate + 60
    with served(peer, connections + 1000) as (server, herd, watch):
        crew(herd, peer)
        quiet = herd.run(QUIET)
        if peer.joins:
            group = natives(herd, peer, "herd", connections, rate=4000)
        else:
            group = herd.group(connections, peer.echo_path or "/")
        filled = herd.run(limit, until_settled=group)
        if filled["groups"][group]["settled"] != connections:
            raise BenchError(f"only {filled['groups'][group]} came in at first")
        herd.run(2)
        herd.cut(group)
        began, used = time.monotonic(), server.cpu()
        seen = herd.run(limit, until_settled=group)
        ended, used = time.monotonic(), server.cpu() - used
        after = herd.run(AFTER)
        back = seen["groups"][group]["settled"]
        if back != connections:
            raise BenchError(f"{back} of {connections} were back after {limit:.0f} s")
        seconds = len(seen["admitted"])
        memory = watch.memory(began, ended)
        cpu = watch.cpu(began, seconds)
    return {
        "name": contender.name,
        "rate": contender.rate,
        "burst": contender.burst,
        "connections": connections,
        "seconds": seen["seconds"],
        "busiest_second": seen["admissions"]["busiest"],
        "back_p50": seen["back"]["p50"],
        "back_p99": seen["back"]["p99"],
        "attempts": sum(seen["attempts"]),
        "refused": sum(seen["refused"]),
        "gave_up": sum(seen["gave_up"]),
        "cpu_seconds": used,
        "memory_most": max(memory, default=0),
        "latency": {
            "quiet": quiet["latency"],
            "storm": seen["latency"],
            "after": after["latency"],
        },
        "by_second": {
            "attempts": seen["attempts"],
            "admitted": seen["admitted"],
            "refused": seen["refused"],
            "cpu": cpu,
            "latency_p99": [second["s"]["p99"] for second in seen["latencies"]],
        },
    }


def checks(paced: Figures) -> list[Check]:
    """What has to hold of a paced server."""
    even = paced["connections"] / paced["rate"]
    most = paced["rate"] + paced["burst"] + 1  # whoever comes at either end of a second is in it
    return [
        Check("until all are back", paced["seconds"], 0.8 * even, 1.2 * even, " s"),
        Check("admitted in the busiest second", paced["busiest_second"], 0, most),
    ]


def table(results: Mapping[str, Figures]) -> str:
    """The figures as a table for the documentation."""
    names = [figures["name"] for figures in results.values()]
    lines = ["| | " + " | ".join(names) + " |", "|---" + "|---:" * len(names) + "|"]

    def row(title: str, cells: list[str]) -> None:
        lines.append(f"| {title} | " + " | ".join(cells) + " |")

    of = list(results.values())
    row("until all are back", [f"{each['seconds']:.1f} s" for each in of])
    row("half of them are back after", [f"{each['back_p50']:.1f} s" for each in of])
    row("99 % are back after", [f"{each['back_p99']:.1f} s" for each in of])
    row("most admitted within a second", [f"{each['busiest_second']:,}" for each in of])
    row("attempts", [f"{each['attempts']:,}" for each in of])
    row("refused", [f"{each['refused']:,}" for each in of])
    row("CPU of the server", [f"{each['cpu_seconds']:.1f} s" for each in of])
    for when, title in (("quiet", "before"), ("storm", "in the storm")):
        cells = [_milliseconds(each["latency"][when]) for each in of]
        row(f"latency of those in, {title} (p50, p99)", cells)
    return "\n".join(lines)


def _milliseconds(latency: Mapping[str, float]) -> str:
    return f"{latency['p50'] * 1e3:.2f}, {latency['p99'] * 1e3:.1f} ms"


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.storm")
    parser.add_argument("--connections", type=int, default=15_000)
    parser.add_argument("--rate", type=float, default=500.0, help="default: %(default)s a second")
    parser.add_argument("--burst", type=int, default=100, help="default: %(default)s")
    parser.add_argument(
        "--only", action="append", choices=list(contenders(1, 1)), help="may be repeated"
    )
    parser.add_argument(
        "--publish", action="store_true", help=f"put the picture into {PICTURE.parent.name}/ too"
    )
    return parser.parse_args()


def main() -> int:
    """Run what is asked for."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    needed = options.connections + 2000
    if descriptors() < needed:
        print(f"storm: needs {needed} file descriptors: see ulimit -Hn", file=sys.stderr)
        return 2
    missing: list[str] = []
    results: dict[str, Figures] = {}
    try:
        prepare.compile_c()
        prepare.install_node()
        prepare.install_python()
        versions = {"ws": prepare.version_of("ws"), "node": prepare.version_of("node")}
        os.sched_setaffinity(0, {LOAD_CORE})
    except BenchError as error:
        print(f"storm: {error}", file=sys.stderr)
        return 2
    every = contenders(options.rate, options.burst)
    for name in options.only or every:
        print(f"{every[name].name} ...", flush=True)
        try:
            results[name] = storm(every[name], options.connections)
        except BenchError as error:
            missing.append(f"{every[name].name}: {error}")
    RESULTS.mkdir(exist_ok=True)
    answer = {"machine": machine(), "versions": versions, "results": results}
    written = RESULTS / "storm.json"
    written.write_text(json.dumps(answer, indent=1) + "\n")
    print(f"\n{table(results)}\n")
    held = [
        check for name in ("paced", "fast") if name in results for check in checks(results[name])
    ]
    for line in [*held, *missing]:
        print(line)
    picture = written.with_suffix(".png")
    try:
        prepare.draw(written, picture)
    except BenchError as error:
        missing.append(str(error))
        print(error)
    else:
        if options.publish:
            shutil.copy(picture, PICTURE)
        print(f"every figure is in {written.relative_to(HERE.parent)}, the picture beside it")
    return 0 if not missing and all(check.holds for check in held) else 1


if __name__ == "__main__":
    sys.exit(main())
