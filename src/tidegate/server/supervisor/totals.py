"""What all workers have counted together, those that have ended included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakSet

from msgspec.structs import replace
from prometheus_client.core import Metric

from tidegate.node.control import Sample, Snapshot
from tidegate.node.control.adding import snapshots
from tidegate.server.supervisor.exposition import families, joined
from tidegate.server.supervisor.figures import counted, counted_sample, samples

if TYPE_CHECKING:
    from tidegate.server.supervisor.process import Worker

__all__ = ["Totals"]


class Totals:
    """Adds workers up. Counts of a worker go on to count when it has ended.

    A worker that ends by itself says what it has counted. Of one that was killed it is known what
    was asked for last, so what it counted since is lost.
    """

    def __init__(self) -> None:
        self._peak = 0
        self._gone: WeakSet[Worker] = WeakSet()
        self._sample: Sample | None = None
        self._snapshot: Snapshot | None = None
        self._metrics: Mapping[str, Metric] = {}
        self._snapshots: dict[Worker, Snapshot] = {}
        self._pages: dict[Worker, Mapping[str, Metric]] = {}

    def snapshot(self, of_workers: Mapping[Worker, Snapshot]) -> Snapshot | None:
        """Return one snapshot of all; None while there is nothing.

        Its peak is the highest number of connections that was seen here or in a sample.
        """
        # One may have ended since it was asked.
        of_workers = {one: own for one, own in of_workers.items() if one not in self._gone}
        self._snapshots.update(of_workers)
        parts = list(of_workers.values())
        if self._snapshot is not None:
            parts.append(self._snapshot)
        if not parts:
            return None
        total = snapshots(parts)
        self._peak = max(self._peak, total.connections.current)
        return replace(total, connections=replace(total.connections, peak=self._peak))

    def metrics(self, of_workers: Mapping[Worker, str]) -> Mapping[str, Metric]:
        """Return the metrics of all, from their pages in the text format."""
        pages = {one: families(text) for one, text in of_workers.items() if one not in self._gone}
        self._pages.update(pages)
        named = {worker.label: page for worker, page in pages.items()}
        return joined(named, [self._metrics])

    def sample(self, of_workers: Mapping[Worker, Sample]) -> Sample:
        """Return what charts show of all."""
        parts = [own for one, own in of_workers.items() if one not in self._gone]
        self._peak = max(self._peak, sum(own.connections for own in parts))
        return samples(parts if self._sample is None else [*parts, self._sample])

    def ended(self, worker: Worker) -> None:
        """Keep what a worker has counted, because its process has ended."""
        self._gone.add(worker)
        snapshot = self._snapshots.pop(worker, None)
        page = self._pages.pop(worker, None)
        if worker.last is not None:
            snapshot, page = worker.last.snapshot, families(worker.last.metrics)
        if snapshot is not None:
            own = counted(snapshot)
            self._snapshot = own if self._snapshot is None else snapshots([self._snapshot, own])
        if worker.beat is not None:
            last = counted_sample(worker.beat.sample)
            self._sample = last if self._sample is None else samples([self._sample, last])
        if page is not None:
            self._metrics = joined({}, [self._metrics, page])
