"""Counters of several nodes as one: counts are added. What adding makes no sense of is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tidegate.node.control.snapshot import Connections, Load, Messages, Snapshot, Waiting

__all__ = ["ZONES", "FleetStats", "add_counts", "fleet_stats", "snapshots"]

ZONES: Final = ("normal", "warning", "critical", "emergency")
"""From the best to the worst."""


class FleetStats(Snapshot, frozen=True, rename="camel", kw_only=True):
    """The counters of several nodes. Users, addresses and rooms of two nodes are counted twice."""

    nodes: int = 1
    """How many have answered."""
    complete: bool = True
    """Whether all have."""


def fleet_stats(all_of_them: Sequence[Snapshot], nodes: int | None = None) -> FleetStats:
    """Return the sum of several; there must be one at least.

    Args:
        nodes: of how many nodes they are; each is of one when None.
    """
    fields = {name: getattr(snapshots(all_of_them), name) for name in Snapshot.__struct_fields__}
    return FleetStats(**fields, nodes=len(all_of_them) if nodes is None else nodes)


def add_counts(mappings: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add numbers by their names; a name with 0 stays."""
    total: Counter[str] = Counter()
    for mapping in mappings:
        for name, count in mapping.items():
            total[name] += count
    return dict(total)


def snapshots(all_of_them: Sequence[Snapshot]) -> Snapshot:
    """Return one snapshot of several; there must be one at least.

    Addresses, users and rooms of two nodes are counted in both. The load is that of the node with
    the highest pressure.
    """
    connections = [one.connections for one in all_of_them]
    current = sum(one.current for one in connections)
    limit = sum(one.limit for one in connections)
    messages = [one.messages for one in all_of_them]
    return Snapshot(
        connections=Connections(
            current=current,
            peak=sum(one.peak for one in connections),
            limit=limit,
            utilization=round(current / limit, 4) if limit else 0.0,
            unique_ips=sum(one.unique_ips for one in connections),
            unique_users=sum(one.unique_users for one in connections),
            accepted=sum(one.accepted for one in connections),
            rejected=sum(one.rejected for one in connections),
        ),
        rejections=add_counts(one.rejections for one in all_of_them),
        disconnections=add_counts(one.disconnections for one in all_of_them),
        dry_run=add_counts(one.dry_run for one in all_of_them),
        waited=add_counts(one.waited for one in all_of_them),
        messages=Messages(
            received=sum(one.received for one in messages),
            sent=sum(one.sent for one in messages),
            bytes_received=sum(one.bytes_received for one in messages),
            bytes_sent=sum(one.bytes_sent for one in messages),
            limited=add_counts(one.limited for one in messages),
            dropped=add_counts(one.dropped for one in messages),
        ),
        rooms=sum(one.rooms for one in all_of_them),
        load=max((one.load for one in all_of_them), key=_weight),
        waiting=Waiting(
            now=sum(one.waiting.now for one in all_of_them),
            kept=sum(one.waiting.kept for one in all_of_them),
        ),
    )


def _weight(load: Load) -> tuple[int, float]:
    return ZONES.index(load.zone), load.pressure
