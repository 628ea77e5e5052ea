"""Hold connections for long: `python -m bench.soak [--connections N] [--seconds T]`.

Authenticated connections, each in one room, against `tidegate serve`; the load generator answers
the heartbeats. Exit code 1 when any connection closes, when heartbeats are missing, or when the
server's memory grows by more than 5 %.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from bench import prepare
from bench.load import Load
from bench.measure import Sizes, join, started, write_tokens
from bench.peers import PEERS
from bench.process import LOAD_CORE, BenchError, descriptors

GROWTH = 0.05
HEARTBEAT = 30.0
EVERY = 30.0


def soak(connections: int, seconds: float) -> list[str]:
    """Hold the connections and say how they fare; returns what went wrong."""
    peer = PEERS["serve"]
    sizes = Sizes(others=connections // 3, members=connections - connections // 3)
    write_tokens(sizes)
    wrong: list[str] = []
    with (
        started(peer, connections, HEARTBEAT) as (server, port),
        Load(port, sources=16) as load,
    ):
        join(load, peer, sizes.others, members=False)
        join(load, peer, sizes.members, members=True)
        time.sleep(2)
        began, cpu = time.monotonic(), server.cpu()
        first, reported = server.memory(), 0.0
        last = first
        while True:
            passed = time.monotonic() - began
            stat = load.stat()
            if reported <= passed or passed >= seconds:
                reported += EVERY
                last = server.memory()
                used = (server.cpu() - cpu) / passed if passed > 1 else 0.0
                print(
                    f"{passed:5.0f} s  {stat['open']:6,} open  "
                    f"{stat['unexpected_closes']:3} closed  {stat['pings']:8,} pings answered  "
                    f"{last / 1e6:7.2f} MB ({last / first - 1:+.2%})  {used:6.2%} CPU",
                    flush=True,
                )
            if stat["open"] != connections or stat["unexpected_closes"]:
                wrong.append(f"{connections - stat['open']} connections closed: {stat['note']}")
                break
            if passed >= seconds:
                break
            time.sleep(min(1.0, seconds - passed))
    if last > first * (1 + GROWTH):
        wrong.append(f"memory grew by {last / first - 1:.1%}")
    # Connections that came together are pinged spread over some time.
    expected = int(max(0, passed - 20) // HEARTBEAT) * connections
    if not wrong and stat["pings"] < expected:
        wrong.append(f"{stat['pings']} heartbeats instead of at least {expected}")
    return wrong


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--connections", type=int, default=15_000)
    parser.add_argument("--seconds", type=float, default=300.0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if descriptors() < options.connections + 1000:
        print(f"soak: needs {options.connections + 1000} file descriptors: see ulimit -Hn")
        return 2
    try:
        prepare.compile_c()
        os.sched_setaffinity(0, {LOAD_CORE})
        wrong = soak(options.connections, options.seconds)
    except BenchError as error:
        wrong = [str(error)]
    for line in wrong:
        print(f"soak: {line}", file=sys.stderr)
    if not wrong:
        print(f"{options.connections:,} connections held for {options.seconds:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
