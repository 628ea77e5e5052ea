"""Metrics for Prometheus, rendered when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING

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

__all__ = ["MetricsCollector"]


class MetricsCollector(Collector):
    """Gives the metrics of one node their format. Costs nothing between scrapes."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
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
