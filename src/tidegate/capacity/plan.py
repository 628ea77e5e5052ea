"""What is measured, one after the other: connections, connects, messages, and a room."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final

from tidegate.capacity.clients import Server
from tidegate.capacity.judging import Bounds, Use, judge, use_between
from tidegate.capacity.knee import Knee, Step, search
from tidegate.capacity.target import Target
from tidegate.errors import TidegateError

__all__ = ["LOADS", "Generator", "Outcome", "Plan"]

LOADS: Final = {
    "connections": "connections held",
    "connects": "connects a second",
    "messages": "messages a second",
    "deliveries": "deliveries a second",
}
"""What is measured, and how it is called."""

_SPARE: Final = 200  # descriptors that are for something else
_ROOM: Final = "tidegate-capacity"
_MEMBERS: Final = 200
_SIZE: Final = 100
_SHORT: Final = 0.9
_BASE: Final = 200  # connections that are held while something else is measured


class Generator:
    """The load generator, a process of its own.

    Args:
        server: where it connects to.
        owned: the process of a server that was started for this, which ends with it: also when
            this process is killed.

    Raises:
        TidegateError: it ends, or does not answer in time.
    """

    def __init__(self, server: Server, owned: int | None = None) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [
                *(sys.executable, "-m", "tidegate.capacity.generator"),
                *([] if owned is None else [str(owned)]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        given = {name: getattr(server, name) for name in Server.__dataclass_fields__}
        self._write(given)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have it do a command, and return what it says."""
        self._write({"do": do, **arguments})
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise TidegateError("the load generator has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End it, and all its connections."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise TidegateError("the load generator has ended") from None


@dataclass(slots=True)
class Outcome:
    """What was found."""

    knees: dict[str, Knee] = field(default_factory=dict)
    costs: dict[str, float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ended: bool = False
    """Whether it ended before its time, with what there was."""


class Plan:
    """Measures one server.

    Args:
        target: has its figures.
        generator: makes the load.
        bounds: when a load is too much.
        seconds: how long it may take in all.
        most: the most connections to try; None for as many as the descriptors allow.
        quick: with small loads, to try it out.
        told: called with a line for each step.
    """

    def __init__(
        self,
        target: Target,
        generator: Generator,
        bounds: Bounds,
        seconds: float,
        most: int | None,
        *,
        quick: bool,
        told: Callable[[str], None],
    ) -> None:
        self._target = target
        self._generator = generator
        self._bounds = bounds
        self._seconds = seconds
        self._most = most
        self._quick = quick
        self._told = told
        # Connections are probed twenty times a second, and all else is seen far more often.
        self._hold = 0.5 if quick else 2.0
        self._sample = 0.5 if quick else 1.0
        self.outcome = Outcome()

    def run(self) -> None:
        """Measure everything, in shares of the time; `outcome` has what there is so far."""
        shares = {"connections": 0.4, "connects": 0.2, "messages": 0.2, "deliveries": 0.2}
        measures: dict[str, Callable[[float], Knee | None]] = {
            "connections": self._connections,
            "connects": self._connects,
            "messages": self._messages,
            "deliveries": self._deliveries,
        }
        for name, measure in measures.items():
            if self.outcome.ended:
                return
            knee = measure(monotonic() + shares[name] * self._seconds)
            if knee is not None:
                self.outcome.knees[name] = knee

    def enough(self) -> None:
        """End after the step that is under way, with what there is."""
        self.outcome.ended = True

    # Connections.

    def _connections(self, until: float) -> Knee:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = 1_000_000 if descriptors == resource.RLIM_INFINITY else descriptors - _SPARE
        most = min(allowed, self._most or (1000 if self._quick else 1_000_000))
        empty = self._target.figures()
        first: list[tuple[float, float]] = []
        refused: Counter[str] = Counter()

        def measure(load: float) -> Step:
            held = self._generator.ask("hold", count=int(load), rate=4000, seconds=60)
            refused.update(held["refused"])
            before = self._target.figures()
            said = self._generator.ask("measure", seconds=self._hold)
            use = use_between(before, self._target.figures())
            failed = (sum(held["refused"].values()) + said["lost"]) / load
            if use.rss is not None and empty.rss is not None and said["open"] > 100:
                first.append((said["open"], use.rss - empty.rss))
            stuck = held["stuck"]
            driver = judge(self._bounds, use, p99=said["p99"], failed=failed, generator=said["cpu"])
            if stuck:
                driver = ""
            return self._step(
                "connections", load, said["open"], use, said, driver, final=bool(stuck)
            )

        knee = search(measure, 200 if self._quick else 1000, most, late=self._late(until))
        if knee.driver == "refusals" and refused:
            reason, times = refused.most_common(1)[0]
            self.outcome.notes.append(f"connections: most failed for {reason} ({times:,} times)")
        if self._quick:
            self.outcome.notes.append("--quick tries small loads: this machine may hold far more")
        if knee.steps and not knee.driver:
            last = knee.steps[-1]
            why = "the descriptors of one process" if last.load >= allowed else "what was asked for"
            self.outcome.notes.append(
                f"connections: no bound was reached; the end was {why} ({knee.load:,.0f})"
            )
        if len(first) > 1:
            (few, less), (many, more) = first[0], max(first)
            if many > few:
                self.outcome.costs["bytes_per_connection"] = max(0.0, (more - less) / (many - few))
        if not self.outcome.ended:
            self._generator.ask("hold", count=_BASE, rate=2000, seconds=30)
        return knee

    # Connects.

    def _connects(self, until: float) -> Knee:
        def measure(load: float) -> Step:
            before = self._target.figures()
            said = self._generator.ask("connects", rate=load, seconds=self._sample)
            use = use_between(before, self._target.figures())
            opened = said["reached"] * self._sample
            failed = sum(said["refused"].values()) / max(1.0, opened)
            driver = judge(
                self._bounds,
                use,
                p99=max(said["p99"], said["handshake"]),
                failed=failed,
                generator=said["cpu"],
                falls_short=said["reached"] < _SHORT * load,
            )
            self._cost("cpu_per_connect", use, opened, driver)
            return self._step("connects", load, said["reached"], use, said, driver)

        most = 2000 if self._quick else 100_000
        return search(measure, 200 if self._quick else 500, most, late=self._late(until))

    # Messages.

    def _messages(self, until: float) -> Knee | None:
        if not self._generator.ask("measure", seconds=0.2)["native"]:
            self.outcome.notes.append(
                "messages and deliveries: not measured, the server speaks another protocol"
            )
            return None

        def ask(load: float) -> dict[str, Any]:
            return self._generator.ask("messages", rate=load, seconds=self._sample, size=_SIZE)

        measure = partial(self._traffic, "messages", "cpu_per_message", ask)
        most = 8000 if self._quick else 1_000_000
        return search(measure, 1000 if self._quick else 4000, most, late=self._late(until))

    def _deliveries(self, until: float) -> Knee | None:
        members = self._generator.ask("join", room=_ROOM, members=_MEMBERS)["members"]
        if members < 1:
            return None

        def ask(load: float) -> dict[str, Any]:
            return self._generator.ask(
                "publish",
                room=_ROOM,
                members=members,
                rate=load / members,
                seconds=self._sample,
                size=_SIZE,
            )

        measure = partial(self._traffic, "deliveries", "cpu_per_delivery", ask)
        most = 40_000 if self._quick else 10_000_000
        return search(measure, 5000 if self._quick else 20_000, most, late=self._late(until))

    def _traffic(
        self, name: str, cost: str, ask: Callable[[float], dict[str, Any]], load: float
    ) -> Step:
        """Try a rate of messages, on connections that are open."""
        before = self._target.figures()
        said = ask(load)
        use = use_between(before, self._target.figures())
        driver = judge(
            self._bounds,
            use,
            p99=said["p99"],
            failed=0.0,
            generator=said["cpu"],
            falls_short=said["reached"] < _SHORT * load,
        )
        self._cost(cost, use, said["reached"] * self._sample, driver)
        return self._step(name, load, said["reached"], use, said, driver)

    # What all have in common.

    def _late(self, until: float) -> Callable[[], bool]:
        return lambda: self.outcome.ended or monotonic() > until

    def _cost(self, name: str, use: Use, count: float, driver: str) -> None:
        """Keep what one of them costs, from the highest load that was good."""
        if use.cpu_seconds is not None and count > 100 and not driver:
            self.outcome.costs[name] = use.cpu_seconds / count

    def _step(
        self,
        name: str,
        load: float,
        reached: float,
        use: Use,
        said: dict[str, Any],
        driver: str,
        *,
        final: bool = False,
    ) -> Step:
        figures = {"p99": said["p99"], "generator": said["cpu"], "memory": use.memory}
        seen = {"cpu": use.cpu, "rss": use.rss, "lag": use.lag}
        figures |= {key: value for key, value in seen.items() if value is not None}
        step = Step(load, reached, figures, driver, final)
        cpu = "" if use.cpu is None else f", server {use.cpu:.0%} of a core"
        self._told(
            f"{LOADS[name]}: {load:,.0f} asked for, {reached:,.0f} reached, "
            f"p99 {said['p99'] * 1e3:.1f} ms{cpu}: {driver or 'good'}"
        )
        return step
