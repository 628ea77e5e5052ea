"""Figures of several workers as one: samples, what is left of one that has ended, and drains.

Counts are added. What adding makes no sense of is said at each place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from tidegate.node.control import DrainProgress, Load, Sample, Snapshot, Waiting
from tidegate.node.control.adding import ZONES, add_counts

__all__ = ["counted", "counted_sample", "drains", "samples"]


def counted(snapshot: Snapshot) -> Snapshot:
    """Return what a worker that has ended leaves: what it has counted, and nothing that it held."""
    own = snapshot.connections
    return replace(
        snapshot,
        connections=replace(
            own, current=0, peak=0, limit=0, utilization=0.0, unique_ips=0, unique_users=0
        ),
        rooms=0,
        load=Load("normal", 0.0, 0.0, None, {}, False),
        waiting=Waiting(now=0, kept=0),
    )


def samples(all_of_them: Sequence[Sample]) -> Sample:
    """Return one sample of several: of zone, pressures and lag the worst."""
    return Sample(
        connections=sum(one.connections for one in all_of_them),
        limit=sum(one.limit for one in all_of_them),
        waiting=sum(one.waiting for one in all_of_them),
        accepted=sum(one.accepted for one in all_of_them),
        rejected=add_counts(one.rejected for one in all_of_them),
        received=sum(one.received for one in all_of_them),
        sent=sum(one.sent for one in all_of_them),
        bytes_received=sum(one.bytes_received for one in all_of_them),
        bytes_sent=sum(one.bytes_sent for one in all_of_them),
        outbox=sum(one.outbox for one in all_of_them),
        rooms=sum(one.rooms for one in all_of_them),
        users=sum(one.users for one in all_of_them),
        zone=max((one.zone for one in all_of_them), key=ZONES.index, default=ZONES[0]),
        pressures=_highest(one.pressures for one in all_of_them),
        lag=max((one.lag for one in all_of_them), default=0.0),
    )


def counted_sample(sample: Sample) -> Sample:
    """Return what a worker that has ended leaves of a sample, as `counted` does."""
    return replace(
        sample,
        connections=0,
        limit=0,
        waiting=0,
        outbox=0,
        rooms=0,
        users=0,
        zone=ZONES[0],
        pressures={},
        lag=0.0,
    )


def drains(all_of_them: Sequence[DrainProgress], over: bool) -> DrainProgress:
    """Return how far the drain of several workers is; there must be one at least."""
    return DrainProgress(
        draining=True,
        over=over,
        total=sum(one.total for one in all_of_them),
        told=sum(one.told for one in all_of_them),
        closed=sum(one.closed for one in all_of_them),
        open=sum(one.open for one in all_of_them),
        window=max(one.window for one in all_of_them),
        elapsed=max(one.elapsed for one in all_of_them),
        left=max(one.left for one in all_of_them),
    )


def _highest(mappings: Iterable[Mapping[str, float]]) -> dict[str, float]:
    highest: dict[str, float] = {}
    for mapping in mappings:
        for name, value in mapping.items():
            highest[name] = max(value, highest.get(name, 0.0))
    return highest
