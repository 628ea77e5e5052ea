"""Our clients are cut off at once: how they come back, as the server sees it.

Usage: python -m bench.reconnect [--typescript] [--clients 2000] [--rate 200] [--burst 100]

It prints the most connections that began within one second, which may be rate plus burst, and how
many clients came before their time or gave up, which must be none.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support.js_storm import js_storm
from tests.support.net import allow_descriptors
from tests.support.process import Process
from tests.support.storm import storm

__all__ = ["main"]


def main() -> int:
    """Run it, and return 1 if a client did what it must not."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--typescript", action="store_true", help="those in place of Python's")
    options.add_argument("--clients", type=int, default=2000)
    options.add_argument("--rate", type=float, default=200)
    options.add_argument("--burst", type=int, default=100)
    given = options.parse_args()
    # Each has a connection, and a line in two halves.
    if not allow_descriptors(given.clients * 4 + 200):
        print("too few open files are allowed (ulimit -Hn)", file=sys.stderr)
        return 1
    settings = {
        "limits": {"per_ip": given.clients + 100},
        "pacing": {"rate": given.rate, "burst": given.burst},
    }
    with tempfile.TemporaryDirectory() as folder:
        server = Process.serve(Path(folder), settings)
        try:
            if given.typescript:
                seen = js_storm(server, given.clients, patience=600)
            else:
                seen = asyncio.run(storm(server, given.clients, patience=600))
        finally:
            server.kill()
    most = given.rate + given.burst
    print(f"{seen.clients:,} clients were cut off and back within {seen.seconds:.1f} s")
    print(f"most new connections within a second: {seen.most:,} (rate + burst is {most:,.0f})")
    print(f"refused with a time to come back at: {seen.refused:,}")
    print(f"before their time: {seen.early}, given up: {seen.given_up}")
    # Ages are those of the moment in which a page of them was written.
    return int(seen.early + seen.given_up > 0 or seen.most > most * 1.05)


if __name__ == "__main__":
    sys.exit(main())
