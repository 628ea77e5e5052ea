"""Metrics in the formats of Prometheus: the text format, and OpenMetrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from tidegate.node.control.figures import Distribution

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from tidegate.node.control.figures import Description

__all__ = ["buckets", "exposition", "family"]

_openmetrics: Callable[[Collector], bytes] = openmetrics.generate_latest
_TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_WEIGHT: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")  # RFC 9110, section 12.4.2


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


def family(description: Description, values: Mapping[str, float | Distribution]) -> Metric:
    """Return one metric with its values, by the value of its label."""
    name, kind, label, text, _ = description
    labels = [label] if label else []
    if kind == "histogram":
        histograms = HistogramMetricFamily(name, text, labels=labels)
        for key, value in values.items():
            assert isinstance(value, Distribution)
            histograms.add_metric([key] if label else [], buckets(value), value.sum)
        return histograms
    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(
        name, text, labels=labels
    )
    for key, value in values.items():
        assert not isinstance(value, Distribution)
        family.add_metric([key] if label else [], value)
    return family


def buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus has them."""
    bounds = map(floatToGoString, (*distribution.bounds, inf))
    return list(zip(bounds, map(float, accumulate(distribution.counts)), strict=True))
