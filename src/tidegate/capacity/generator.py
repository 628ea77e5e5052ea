"""The load generator: a process of its own, told what to do by lines of JSON.

    python -m tidegate.capacity.generator    < {"do": "hold", "count": 1000, "rate": 2000}
                                             > {"open": 1000, "cpu": 0.4, ...}

The first line says where the server is. Every answer has `cpu`, the share of a core that this
process used: near 1, the generator was the limit and not the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from tidegate.capacity.clients import Client, Clients, Server
from tidegate.capacity.wire import PING, masked, text_of

__all__ = ["main"]

_PROBES: Final = 50
_PROBE_EVERY: Final = 0.05
_LOST_SECONDS: Final = 5.0
_PONG: Final = 0x8A


class Probes:
    """Measures how fast the server answers, by pings on some of the connections in turn."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._turn: deque[Client] = deque(list(clients.all)[:_PROBES])
        self._sent: dict[Client, float] = {}
        self._next = monotonic()
        self.seen: list[float] = []
        for client in self._turn:
            client.heard = self._heard

    def due(self, now: float) -> float:
        """Ping the next one when it is time; return when the one after that is due."""
        if now >= self._next and self._turn:
            self._next = now + _PROBE_EVERY
            client = self._turn[0]
            self._turn.rotate(-1)
            if client.open and client not in self._sent:
                self._sent[client] = now
                self._clients.send(client, masked(PING, b"tidegate"))
        return self._next

    def result(self) -> dict[str, float]:
        """The median and the slowest hundredth, in seconds; what has no answer counts too."""
        now = monotonic()
        late = [now - at for at in self._sent.values()]
        waits = sorted([*self.seen, *(wait for wait in late if wait > _PROBE_EVERY)])
        return {"p50": _share(waits, 0.5), "p99": _share(waits, 0.99), "answers": len(self.seen)}

    def _heard(self, client: Client, first: int, _payload: bytes) -> None:
        if first == _PONG and client in self._sent:
            self.seen.append(monotonic() - self._sent.pop(client))


class Generator:
    """Does one command after the other."""

    def __init__(self, server: Server) -> None:
        self._clients = Clients(server)

    def hold(self, count: int, rate: float, seconds: float) -> dict[str, Any]:
        """Have so many connections open, opened at a rate, within a time."""
        clients = self._clients
        while len(clients.all) > count:
            clients.close(next(reversed(clients.all)))
        began = monotonic()
        until = began + seconds
        started = len(clients.all)
        clients.handshakes.clear()
        clients.refused.clear()
        paced = _Paced(rate, began)

        def due(now: float) -> float:
            clients.expire(now)
            while len(clients.all) + len(clients.opening) < count and paced.take(now):
                if not clients.open_one():
                    paced.give_back()
                    break
            return now + 0.005

        cpu = 0.0
        while monotonic() < until and not clients.stuck:
            cpu = clients.run(min(until, monotonic() + 0.25), due)
            if len(clients.all) >= count or clients.refused.total() > max(50, 0.02 * count):
                break
        taken = max(1e-3, monotonic() - began)
        return {
            "open": len(clients.all),
            "rate": (len(clients.all) - started) / taken,
            "cpu": cpu,
        }

    def measure(self, seconds: float) -> dict[str, Any]:
        """Hold what is open, and measure how fast the server answers."""
        clients = self._clients
        before = len(clients.all)
        clients.refused.clear()
        probes = Probes(clients)
        cpu = clients.run(monotonic() + seconds, probes.due)
        return {**probes.result(), "open": len(clients.all), "lost": before - len(clients.all)} | {
            "cpu": cpu
        }

    def connects(self, rate: float, seconds: float) -> dict[str, Any]:
        """Open connections at a rate and close each at once, while others are probed."""
        clients = self._clients
        clients.handshakes.clear()
        clients.refused.clear()
        probes = Probes(clients)
        began = monotonic()
        paced = _Paced(rate, began)

        def due(now: float) -> float:
            clients.expire(now)
            while paced.take(now):
                if not clients.open_one(clients.close):
                    paced.give_back()
                    break
            return min(probes.due(now), now + 0.002)

        cpu = clients.run(began + seconds, due)
        opened = sorted(clients.handshakes)
        return {
            **probes.result(),
            "reached": len(opened) / (monotonic() - began),
            "handshake": _share(opened, 0.99),
            "cpu": cpu,
        }

    def messages(self, rate: float, seconds: float, size: int) -> dict[str, Any]:
        """Have some clients send messages that the server answers, at a rate together."""
        clients = self._clients
        some = [one for one in clients.all if one.native][:200]
        sent: dict[Client, deque[float]] = {one: deque() for one in some}
        waits: list[float] = []

        def heard(client: Client, _first: int, payload: bytes) -> None:
            if b'"health_pong"' in payload and sent[client]:
                waits.append(monotonic() - sent[client].popleft())

        for one in some:
            one.heard = heard
        frame = text_of(type="health_ping", pad="x" * max(0, size - 40))
        turn = deque(some)
        began = monotonic()
        paced = _Paced(rate, began)

        def due(now: float) -> float:
            while turn and paced.take(now):
                client = turn[0]
                turn.rotate(-1)
                if client.open and clients.send(client, frame):
                    sent[client].append(now)
            return now + 0.001

        cpu = clients.run(began + seconds, due)
        reached = len(waits) / seconds
        now = monotonic()
        waits += [now - times[0] for times in sent.values() if times and now - times[0] > 0.05]
        waits.sort()
        return {
            "reached": reached,
            "p50": _share(waits, 0.5),
            "p99": _share(waits, 0.99),
            "cpu": cpu,
        }

    def join(self, room: str, members: int) -> dict[str, Any]:
        """Put some clients into a room, the first of them as the one that publishes."""
        some = [one for one in self._clients.all if one.native][: members + 1]
        for one in some:
            one.heard = None
            self._clients.send(one, text_of(type="join", room=room))
        cpu = self._clients.run(monotonic() + 0.5)
        return {"members": len(some) - 1, "cpu": cpu}

    def publish(
        self, room: str, members: int, rate: float, seconds: float, size: int
    ) -> dict[str, Any]:
        """Publish to a room at a rate, and see how its members get it."""
        clients = self._clients
        some = [one for one in clients.all if one.native][: members + 1]
        if len(some) < 2:
            return {"reached": 0.0, "p99": 0.0, "cpu": 0.0}
        count = 0
        waits: list[float] = []
        sent: deque[float] = deque(maxlen=4096)

        def heard(_client: Client, _first: int, _payload: bytes) -> None:
            nonlocal count
            count += 1

        def timed(_client: Client, _first: int, payload: bytes) -> None:
            nonlocal count
            if b'"room_message"' in payload and sent:
                count += 1
                waits.append(monotonic() - sent.popleft())

        speaker, first, *rest = some
        first.heard = timed
        for one in rest:
            one.heard = heard
        frame = text_of(type="room_message", room=room, data="x" * size, echo=False)
        began = monotonic()
        paced = _Paced(rate, began)

        def due(now: float) -> float:
            while paced.take(now):
                if not clients.send(speaker, frame):
                    break
                sent.append(now)
            return now + 0.001

        cpu = clients.run(began + seconds, due)
        reached = count / seconds
        waits += [monotonic() - at for at in sent if monotonic() - at > 0.05]
        waits.sort()
        return {"reached": reached, "p99": _share(waits, 0.99), "cpu": cpu}

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command."""
        name = command.pop("do")
        methods: dict[str, Callable[..., dict[str, Any]]] = {
            "hold": self.hold,
            "measure": self.measure,
            "connects": self.connects,
            "messages": self.messages,
            "join": self.join,
            "publish": self.publish,
        }
        result = methods[name](**command)
        clients = self._clients
        result["refused"] = dict(clients.refused)
        result["stuck"] = clients.stuck
        result["native"] = any(one.native for one in clients.all)
        return result

    def end(self) -> None:
        """Close everything."""
        self._clients.close_all()


class _Paced:
    """How many may be done by now, at a rate; a tenth of a second is made up for."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._at = now
        self._left = 1.0

    def take(self, now: float) -> bool:
        self._left = min(self._left + (now - self._at) * self._rate, max(1.0, self._rate / 10))
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        self._left += 1


def _share(rising: list[float], share: float) -> float:
    return rising[min(len(rising) - 1, int(len(rising) * share))] if rising else 0.0


def main() -> None:
    """Serve the commands of standard input; end the process of the first argument, if there is one.

    It ends with the input: what started both may have been killed at any time.
    """
    try:
        _serve()
    finally:
        if len(sys.argv) > 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(sys.argv[1]), signal.SIGINT)


def _serve() -> None:
    lines = iter(sys.stdin)
    first = next(lines, None)
    if first is None:
        return
    given = json.loads(first)
    given["offered"] = tuple(given["offered"])
    generator = Generator(Server(**given))
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for line in lines:
            print(json.dumps(generator.answer(json.loads(line))), flush=True)
    generator.end()


if __name__ == "__main__":
    main()
