"""The bottlenecks: what is needed beside what a machine has, and what ends first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Final

from tidegate.engine.descriptors import Shares
from tidegate.estimate import needs
from tidegate.estimate.needs import Term
from tidegate.estimate.workload import Machine, Table, Workload

__all__ = ["PROXY_PORTS", "Estimate", "Resource", "estimate"]

PROXY_PORTS: Final = 28_232
"""Ports from 32,768 to 60,999, the default of `net.ipv4.ip_local_port_range`."""

_BUSY: Final = 0.7
"""Share of a core or a line that may be used on average: near 1, what comes in bursts waits."""
_MEMORY: Final = 0.9
_OWN: Final = 16  # descriptors of the process itself


@dataclass(frozen=True, slots=True)
class Resource:
    """One row of the matrix."""

    name: str
    unit: str
    """cores, bytes, bits/s or descriptors."""
    need: float
    has: float
    """What one machine has."""
    usable: float
    """What of it may be used."""
    source: str
    """Where `has` is from."""
    ends_at: float
    """Connections of this load at which it ends on one machine; infinite where it does not."""
    machines: int | None
    """Machines that it takes; None where not even one connection fits."""
    lines: tuple[Term, ...] = ()

    @property
    def share(self) -> float:
        """The need as a share of what one machine has."""
        return self.need / self.has if self.has else inf


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a load needs."""

    load: Workload
    resources: tuple[Resource, ...]
    workers: int
    """Processes, each of which uses one core."""
    machines: int | None
    proxy_addresses: int
    """Addresses that a proxy in front needs, for one address and port of the server."""

    @property
    def first(self) -> Resource:
        """The resource that ends first."""
        return min(self.resources, key=lambda resource: resource.ends_at)


def estimate(load: Workload, machine: Machine, table: Table) -> Estimate:
    """Calculate what `load` needs, and compare it with `machine`."""

    def processor(at: Workload) -> tuple[Term, ...]:
        return tuple(needs.processor(at, table))

    def memory(at: Workload) -> tuple[Term, ...]:
        return tuple(needs.memory(at, table, here))

    busy = _need(processor(load))
    core = min(1.0, machine.cores)
    fits = max(0, Shares.of(machine.descriptors).connections - _OWN)
    workers = max(ceil(busy / (_BUSY * core)), ceil(load.connections / fits) if fits else 1, 1)
    here = min(workers, max(1, floor(machine.cores)))
    limit, fit = inf, inf
    if machine.descriptors is not None:
        limit, fit = float(machine.descriptors * here), float(fits * here)
    sources = machine.sources
    rows = [
        _resource("memory", "bytes", load, memory, machine.memory, _MEMORY, sources["memory"]),
        _resource("CPU", "cores", load, processor, machine.cores, _BUSY, sources["cores"]),
    ]
    if machine.cores > core:
        name = "one core"
        row = _resource(name, "cores", load, processor, core, _BUSY, "one process")
        rows.append(_shown_elsewhere(row))
    for name, out in (("bandwidth in", False), ("bandwidth out", True)):

        def line(at: Workload, out: bool = out) -> tuple[Term, ...]:
            return tuple(needs.bandwidth(at, out=out))

        rows.append(
            _resource(name, "bits/s", load, line, machine.bandwidth, _BUSY, sources["bandwidth"])
        )
    rows.append(_descriptors(load, limit, fit, here, sources["descriptors"]))
    counts = [row.machines for row in rows if row.name != "one core"]
    machines = None if None in counts else max(count for count in counts if count is not None)
    return Estimate(load, tuple(rows), workers, machines, ceil(load.connections / PROXY_PORTS))


def _need(lines: tuple[Term, ...]) -> float:
    return sum(line.value for line in lines)


def _resource(
    name: str,
    unit: str,
    load: Workload,
    lines: Callable[[Workload], tuple[Term, ...]],
    has: float,
    part: float,
    source: str,
) -> Resource:
    shown = lines(load)
    need, fixed, usable = _need(shown), _need(lines(load.of(0))), part * has
    each = (need - fixed) / load.connections
    left = usable - fixed
    ends_at = max(0.0, left / each) if each else inf if left >= 0 else 0.0
    # Every machine has a server without connections; what a backend publishes is divided.
    if unit != "bytes":
        machines: int | None = max(1, ceil(need / usable))
    elif left > each:
        machines = max(1, ceil((need - fixed) / left))
    else:
        machines = None
    return Resource(name, unit, need, has, usable, source, ends_at, machines, shown)


def _shown_elsewhere(row: Resource) -> Resource:
    return Resource(
        row.name, row.unit, row.need, row.has, row.usable, row.source, row.ends_at, row.machines
    )


def _descriptors(load: Workload, limit: float, fit: float, processes: int, source: str) -> Resource:
    line = Term("connections", f"{load.connections:,}", load.connections, "one each")
    many = f", {processes} processes" if processes > 1 else ""
    machines = ceil(load.connections / fit) if fit else None
    return Resource(
        "descriptors",
        "descriptors",
        load.connections,
        limit,
        fit,
        source + many,
        fit,
        machines,
        (line,),
    )
