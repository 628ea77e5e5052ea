"""Metrics for Prometheus, rendered when they are scraped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Final

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tidegate.node.control import METRICS, Description, Distribution

if TYPE_CHECKING:
    from tidegate.node.control import Control

__all__ = ["PROCESS_COUNTERS", "MetricsCollector", "exposition"]

_openmetrics: Callable[[Collector], bytes] = openmetrics.generate_latest
_TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_WEIGHT: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")  # RFC 9110, section 12.4.2

PROCESS_COUNTERS: Final = (
    (
        "tidegate_log_lines_lost_total",
        "Lines of the log that were lost, because what reads it was too slow or its disk was full.",
    ),
    (
        "tidegate_admin_bad_requests_total",
        "Requests to the admin listener that were no valid HTTP, or larger than it takes.",
    ),
)
"""Names and texts of the counters that are not the node's."""


class MetricsCollector(Collector):
    """Gives the metrics of one process and its node their format. Costs nothing between scrapes.

    Args:
        counts: returns the numbers of `PROCESS_COUNTERS`, in their order.
    """

    def __init__(self, control: Control, counts: Callable[[], Sequence[int]]) -> None:
        self._control = control
        self._counts = counts
        # Made without a registry: the global one would be the same for every node of a process.
        self._sources = ProcessCollector(registry=None), PlatformCollector(registry=None)
        self._process: list[Metric] = []

    def measure(self) -> None:
        """Look at the process; call it before `collect`, in a thread.

        It lists the open descriptors, which takes 8 ms for 15,000 of them.
        """
        self._process = [metric for source in self._sources for metric in source.collect()]

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield from self._node()
        for (name, text), count in zip(PROCESS_COUNTERS, self._counts(), strict=True):
            yield CounterMetricFamily(name, text, value=count)
        yield from self._process

    def _node(self) -> Iterator[Metric]:
        values = {metric.name: metric.values for metric in self._control.metrics()}
        for description in METRICS:
            yield _family(description, values[description.name])


def exposition(collector: Collector, accepted: str) -> tuple[bytes, str]:
    """Return all metrics in the format that a scraper accepts, and their content type.

    Args:
        accepted: its `Accept` header. OpenMetrics is for those that ask for it; others, and those
            whose header makes no sense, get the text format that everything reads.
    """
    if _prefers_openmetrics(accepted):
        return _openmetrics(collector), _OPENMETRICS_TYPE
    return generate_latest(collector), _TEXT_TYPE


def _prefers_openmetrics(accepted: str) -> bool:
    # RFC 9110, section 12.5.1: of two formats, the one with the higher weight.
    metrics, text = 0.0, 0.0
    for part in accepted.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        values = dict(parameter.partition("=")[::2] for parameter in parameters)
        weight = values.get("q", "1")
        if _WEIGHT.fullmatch(weight) is None:
            continue
        version = values.get("version", "1.0.0").strip('"')
        if media == "application/openmetrics-text" and version == "1.0.0":
            metrics = max(metrics, float(weight))
        elif media == "text/plain" and version in ("0.0.4", "1.0.0"):
            text = max(text, float(weight))
    return metrics > 0 and metrics >= text


def _family(description: Description, values: Mapping[str, float | Distribution]) -> Metric:
    name, kind, label, text, _ = description
    labels = [label] if label else []
    if kind == "histogram":
        histograms = HistogramMetricFamily(name, text, labels=labels)
        for key, value in values.items():
            assert isinstance(value, Distribution)
            histograms.add_metric([key] if label else [], _buckets(value), value.sum)
        return histograms
    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(
        name, text, labels=labels
    )
    for key, value in values.items():
        assert not isinstance(value, Distribution)
        family.add_metric([key] if label else [], value)
    return family


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus has them."""
    bounds = map(floatToGoString, (*distribution.bounds, inf))
    return list(zip(bounds, map(float, accumulate(distribution.counts)), strict=True))
