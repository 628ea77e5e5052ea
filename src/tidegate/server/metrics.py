"""Metrics for Prometheus, rendered when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from tidegate.node.control import METRICS
from tidegate.node.control.exposition import exposition, family

if TYPE_CHECKING:
    from tidegate.node.control import Control
    from tidegate.server.admin_requests import AdminRequests

__all__ = ["PROCESS_COUNTERS", "MetricsCollector", "as_text", "exposition"]

PROCESS_COUNTERS: Final = (
    (
        "tidegate_log_lines_lost_total",
        "Lines of the log that were lost, because what reads it was too slow or its disk was full.",
    ),
    (
        "tidegate_admin_bad_requests_total",
        "Requests to the admin listener that were no valid HTTP, or larger than it takes.",
    ),
    (
        "tidegate_webhook_questions_answered_total",
        "Questions of webhooks that the application answered, by yes or no.",
    ),
    (
        "tidegate_webhook_questions_failed_total",
        "Questions of webhooks without a good answer; webhooks.on_failure decided.",
    ),
    ("tidegate_webhook_facts_sent_total", "Facts that the application of webhooks has taken."),
    ("tidegate_webhook_facts_retried_total", "Requests with facts that were sent again."),
    (
        "tidegate_webhook_facts_dropped_total",
        "Facts that were never taken: too many waited, or all tries failed.",
    ),
)
"""Names and texts of the counters that are not the node's."""


def as_text(collector: MetricsCollector) -> str:
    """Return all metrics in the text format, as they are now."""
    collector.measure()
    return exposition(collector, "")[0].decode()


class MetricsCollector(Collector):
    """Gives the metrics of one process and its node their format. Costs nothing between scrapes.

    Args:
        counts: returns the numbers of `PROCESS_COUNTERS`, in their order.
        requests: has counted what the admin listener was asked; None where there is none.
    """

    def __init__(
        self,
        control: Control,
        counts: Callable[[], Sequence[int]],
        requests: AdminRequests | None = None,
    ) -> None:
        self._control = control
        self._counts = counts
        self._requests = requests
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
        if self._requests is not None:
            yield from self._requests.collect()
        yield from self._process

    def _node(self) -> Iterator[Metric]:
        values = {metric.name: metric.values for metric in self._control.metrics()}
        for description in METRICS:
            yield family(description, values[description.name])
