"""What happens to a fleet: a method for each kind of happening."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tidegate.sim.behaviours import BROKEN
from tidegate.sim.clients import Client
from tidegate.sim.fleet import Fleet
from tidegate.sim.node import Node, Status
from tidegate.sim.recorder import Record
from tidegate.sim.scenario import Scenario
from tidegate.sim.sections import Happening

__all__ = ["simulate"]

_LOOK = 0.5


def simulate(scenario: Scenario) -> Record:
    """Run a scenario from its start to its end. The same scenario gives the same record."""
    fleet = Fleet(scenario)
    fleet.populate()
    arrange(fleet)
    return fleet.run()


def arrange(fleet: Fleet) -> None:
    """Put everything that is to happen on the fleet's clock."""
    happenings = _Happenings(fleet)
    for happening in fleet.scenario.happenings:
        fleet.clock.at(happening.at, happenings.begin, happening)
    if fleet.scenario.autoscale.enabled:
        fleet.clock.after(fleet.scenario.autoscale.interval, happenings.autoscale)


class _Happenings:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._zones_back: dict[int, float] = {}  # when the last outage of each zone ends
        self._kinds: Mapping[str, Callable[[Happening], str]] = {
            "death": self._death,
            "deploy": self._deploy,
            "zone-outage": self._zone_outage,
            "blip": self._blip,
            "slow": self._slow,
            "leak": self._leak,
            "flash-crowd": self._flash_crowd,
            "retry-bug": self._retry_bug,
        }

    def begin(self, happening: Happening) -> None:
        said = self._kinds[happening.kind](happening)
        self._fleet.record.events.append((happening.at, said))

    def _some(self, count: int) -> list[Node]:
        up = [node for node in self._fleet.nodes if node.status is Status.UP]
        return self._fleet.random.sample(up, min(count, len(up)))

    def _share(self, share: float) -> list[Client]:
        clients, chance = self._fleet.clients, self._fleet.chance
        if share >= 1.0:
            return list(clients)
        return [client for client in clients if chance() < share]

    # Nodes.

    def _death(self, happening: Happening) -> str:
        nodes = self._some(happening.nodes)
        for node in nodes:
            node.die()
            if happening.restarts:
                self._fleet.boot(node)
        return f"{_count(len(nodes), 'node')} died"

    def _zone_outage(self, happening: Happening) -> str:
        fleet = self._fleet
        zone = happening.zone - 1
        nodes = [node for node in fleet.nodes if node.zone == zone]
        for node in nodes:
            node.die(silent=True)
        self._zones_back[zone] = max(
            self._zones_back.get(zone, 0.0), fleet.clock.now + happening.duration
        )

        def back() -> None:
            if fleet.clock.now >= self._zones_back[zone]:  # else another outage goes on
                for node in nodes:
                    fleet.boot(node)

        fleet.clock.after(happening.duration, back)
        return f"zone {happening.zone} failed, with {_count(len(nodes), 'node')}"

    def _slow(self, happening: Happening) -> str:
        nodes = self._some(happening.nodes)
        for node in nodes:
            node.slowness = happening.factor

        def back() -> None:
            for node in nodes:
                node.slowness = 1.0

        self._fleet.clock.after(happening.duration, back)
        return f"{_count(len(nodes), 'node')} became {happening.factor:g} times as slow"

    def _leak(self, happening: Happening) -> str:
        nodes = self._some(happening.nodes)
        for node in nodes:
            node.leak = happening.rate

        def back() -> None:
            for node in nodes:
                node.leak = 0.0

        self._fleet.clock.after(happening.duration, back)
        return f"{_count(len(nodes), 'node')} began to leak"

    def _deploy(self, happening: Happening) -> str:
        nodes = [node for node in self._fleet.nodes if not node.retired]
        if happening.mode == "blue-green":
            self._blue_green(nodes)
            return f"a deploy began, to {_count(len(nodes), 'new node')} at once"
        self._roll(nodes, happening.nodes)
        return f"a deploy began, {_count(happening.nodes, 'node')} at a time"

    def _roll(self, nodes: list[Node], at_once: int) -> None:
        """Drain and restart the first nodes, and go on when they are in rotation again."""
        batch, rest = nodes[:at_once], nodes[at_once:]
        if not batch:
            self._fleet.record.events.append((self._fleet.clock.now, "the deploy was done"))
            return
        longest = 0.0
        for node in batch:
            if node.status is Status.UP:
                longest = max(longest, self._fleet.drain(node))

        def go_on() -> None:
            if all(self._fleet.in_rotation(node) for node in batch):
                self._roll(rest, at_once)
            else:
                self._fleet.clock.after(_LOOK, go_on)

        # They are out of rotation until the restart is over.
        own = self._fleet.scenario.balancer
        self._fleet.clock.after(max(longest, own.interval * own.fall) + _LOOK, go_on)

    def _blue_green(self, old: list[Node]) -> None:
        fleet = self._fleet
        new = [fleet.add_node() for _ in old]
        for node in new:
            fleet.boot(node)

        def go_on() -> None:
            if not all(fleet.in_rotation(node) for node in new):
                fleet.clock.after(_LOOK, go_on)
                return
            for node in old:
                fleet.out(node)
                node.retired = True
                if node.status is Status.UP:
                    fleet.drain(node)
            fleet.record.events.append((fleet.clock.now, "the old nodes were drained"))

        go_on()

    # Clients.

    def _blip(self, happening: Happening) -> str:
        fleet = self._fleet
        until = fleet.clock.now + happening.duration
        if happening.where == "balancer":
            fleet.cut_off_until = until
            for node in fleet.nodes:
                fleet.out(node)
            cut = list(fleet.clients)
            said = f"the balancer reached no node for {happening.duration:g} s"
        else:
            cut = self._share(happening.share)
            fleet.offline.update(dict.fromkeys(cut, until))
            said = (
                f"{happening.share:.0%} of the clients had no network for {happening.duration:g} s"
            )
        for client in cut:
            fleet.cut(client)
        return said

    def _flash_crowd(self, happening: Happening) -> str:
        fleet = self._fleet
        for kind in fleet.scenario.clients:
            own = replace(kind, connected=False)
            for client in fleet.add_clients(own, int((happening.factor - 1) * kind.count)):
                fleet.later(client, fleet.chance() * happening.duration)
        return f"{happening.factor:g} times as many clients came, within {happening.duration:g} s"

    def _retry_bug(self, happening: Happening) -> str:
        fleet = self._fleet
        ill = self._share(happening.share)
        before = [client.behaviour for client in ill]
        for client in ill:
            client.behaviour = BROKEN
            fleet.cut(client)

        def cure() -> None:
            for client, behaviour in zip(ill, before, strict=True):
                client.behaviour = behaviour

        fleet.clock.after(happening.duration, cure)
        return f"{happening.share:.0%} of the clients got a version that retries without a pause"

    # Nodes that are added.

    def autoscale(self) -> None:
        fleet = self._fleet
        own = fleet.scenario.autoscale
        there = [node for node in fleet.nodes if not node.retired]
        up = [node for node in there if node.accepts]
        busy = sum(node.cpu for node in up)
        wanted = min(own.most, -int(-busy // own.cpu))
        for _ in range(wanted - len(there)):
            fleet.boot(fleet.add_node())
        if wanted > len(there):
            said = f"{_count(wanted - len(there), 'node')} added"
            fleet.record.events.append((fleet.clock.now, said))
        fleet.clock.after(own.interval, self.autoscale)


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
