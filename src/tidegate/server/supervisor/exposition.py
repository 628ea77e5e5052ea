"""The metrics of several workers as one page.

Counters and histograms are added, and those of workers that have ended go on to count, so that
they never fall. Gauges are added too, but for those of which that makes no sense: they get the
label `worker`, or are the same in all workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

__all__ = ["SAME", "Page", "families", "joined", "of_one"]

LABEL: Final = "worker"

SAME: Final = ("tidegate_build_info", "websocket_limit")
"""Metrics that are the same in all workers; limits hold for each."""

OF_ONE: Final = (
    "websocket_connections_peak",
    "websocket_ready",
    "websocket_breaker_open",
    "websocket_utilization_ratio",
    "websocket_addresses",
    "websocket_users",
    "websocket_rooms",
    "websocket_history_rooms",
    "websocket_file_descriptors_used_ratio",
    "websocket_fleet_connections",
    "websocket_fleet_limits_hold",
    "websocket_backplane_up",
    "websocket_backplane_subscriptions",
    "websocket_zone",
    "websocket_pressure",
)
"""Gauges that say something of one worker only: a part of something, a state, a number of things
that several workers may have at the same time."""

_OF_PROCESSES: Final = ("process_", "python_")
_ADDED: Final = ("counter", "histogram")

_Labels = tuple[tuple[str, str], ...]


def of_one(name: str) -> bool:
    """Whether a metric says something of one worker only."""
    return name in OF_ONE or name.startswith(_OF_PROCESSES)


def families(text: str) -> dict[str, Metric]:
    """Return the metrics of a page in the text format of Prometheus, by name."""
    found: dict[str, Metric] = {}
    for family in text_string_to_metric_families(text):
        found[family.name] = family
    return found


def joined(
    pages: Mapping[str, Mapping[str, Metric]], ended: Iterable[Mapping[str, Metric]] = ()
) -> dict[str, Metric]:
    """Return one page of several.

    Args:
        pages: those of workers, by what the label `worker` is to say.
        ended: those of workers that have ended; their counters and histograms count.
    """
    order: dict[str, Metric] = {}
    sums: dict[str, dict[tuple[str, _Labels], float]] = {}
    for number, page in (*pages.items(), *((None, page) for page in ended)):
        for name, family in page.items():
            own = of_one(name)
            if number is None and (own or family.type not in _ADDED):
                continue
            order.setdefault(name, family)
            values = sums.setdefault(name, {})
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue
                labels = dict(sample.labels)
                if own and number is not None:
                    labels[LABEL] = number
                key = sample.name, tuple(labels.items())
                before = values.get(key)
                if before is None or name in SAME:
                    values[key] = sample.value
                else:
                    values[key] = before + sample.value
    return {name: _family(order[name], values) for name, values in sums.items()}


def _family(like: Metric, values: Mapping[tuple[str, _Labels], float]) -> Metric:
    family = Metric(like.name, like.documentation, like.type)
    family.samples = [Sample(name, dict(labels), value) for (name, labels), value in values.items()]
    return family


class Page(Collector):
    """Metrics that are there already, as the writers of Prometheus want them."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._metrics.values()
