"""Metrics for Prometheus, rendered when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tidegate.node.control import METRICS, Description, Distribution

if TYPE_CHECKING:
    from tidegate.node.control import Control

__all__ = ["LOST_LINES", "MetricsCollector"]

LOST_LINES: Final = (
    "tidegate_log_lines_lost_total",
    "Lines of the log that were lost, because what reads it was too slow or its disk was full.",
)
"""Name and text of the one metric that is not the node's."""


class MetricsCollector(Collector):
    """Gives the metrics of one process and its node their format. Costs nothing between scrapes.

    Args:
        lost_lines: returns how many lines of the log were lost.
    """

    def __init__(self, control: Control, lost_lines: Callable[[], int]) -> None:
        self._control = control
        self._lost_lines = lost_lines
        # Made without a registry: the global one would be the same for every node of a process.
        self._process = ProcessCollector(registry=None)
        self._platform = PlatformCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield from self._node()
        yield CounterMetricFamily(*LOST_LINES, value=self._lost_lines())
        yield from self._process.collect()
        yield from self._platform.collect()

    def _node(self) -> Iterator[Metric]:
        values = {metric.name: metric.values for metric in self._control.metrics()}
        for description in METRICS:
            yield _family(description, values[description.name])


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
