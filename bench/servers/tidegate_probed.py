"""`tidegate serve`, with a timer in its loop that measures how late the loop gets to it.

python tidegate_probed.py serve OPTION...

On SIGUSR1 it prints the longest stall since the last SIGUSR1, in milliseconds, and how much of
that time this process was running: what is missing there was taken by the kernel or a neighbour.
"""

import asyncio
import json
import signal
import sys
import time

import uvloop

from tidegate.cli.main import run

PERIOD = 0.001


class Probe:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.worst = self.worst_cpu = 0.0
        loop.call_soon(self.start)

    def start(self) -> None:
        self.loop.add_signal_handler(signal.SIGUSR1, self.report)
        self.arm()

    def arm(self) -> None:
        self.armed_at, self.armed_cpu = time.monotonic(), time.process_time()
        self.loop.call_later(PERIOD, self.fire)

    def fire(self) -> None:
        late = time.monotonic() - self.armed_at - PERIOD
        if late > self.worst:
            self.worst, self.worst_cpu = late, time.process_time() - self.armed_cpu
        self.arm()

    def report(self) -> None:
        figures = {"stall": self.worst * 1e3, "cpu": self.worst_cpu * 1e3}
        print(json.dumps(figures), flush=True)
        self.worst = self.worst_cpu = 0.0


make_loop = uvloop.new_event_loop


def probed_loop() -> uvloop.Loop:
    loop = make_loop()
    Probe(loop)
    return loop


if __name__ == "__main__":
    uvloop.new_event_loop = probed_loop
    sys.exit(run(sys.argv[1:]))
