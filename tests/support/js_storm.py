"""A crowd of TypeScript clients that is cut off at once, and how it comes back."""

from __future__ import annotations

import json
import subprocess
import threading
import time

from tests.support.js_client import built
from tests.support.process import ROOT, Process
from tests.support.storm import Storm, begun, most_within

__all__ = ["js_storm"]


def js_storm(server: Process, count: int, *, patience: float = 120.0) -> Storm:
    """Connect so many clients, cut them all off at once, and wait until all are back."""
    built()

    def refused() -> int:
        return int(server.stats()["connections"]["rejected"])

    process = subprocess.Popen(
        ["node", str(ROOT / "tests/js/storm.mjs"), server.url, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    limit = threading.Timer(patience, process.kill)
    limit.start()
    try:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        before = refused()
        start = time.monotonic()
        process.stdin.write("cut\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline())
        times = begun(server)
        after = refused()
    finally:
        limit.cancel()
        process.kill()
        process.communicate()
    return Storm(
        count,
        said["seconds"],
        most_within([at for at in times if at >= start]),
        after - before,
        said["early"],
        said["givenUp"],
    )
