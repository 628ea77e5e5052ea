"""What the admin listener was asked, by route and status, for its metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from starlette.routing import BaseRoute, Route

from tidegate.core.stats import Histogram
from tidegate.node.control.exposition import buckets
from tidegate.node.control.figures import Distribution

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["REQUESTS", "REQUEST_SECONDS", "AdminRequests", "Counted"]

REQUESTS: Final = (
    "tidegate_admin_requests_total",
    "Requests to the admin listener, by the route and the status of the answer.",
)
REQUEST_SECONDS: Final = (
    "tidegate_admin_request_duration_seconds",
    "Time from a request to the admin listener to the end of its answer, by route.",
)
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_OTHER: Final = "other"  # paths that are no route; a client can make up any number of them
_FAILED: Final = 500


class AdminRequests:
    """Counts requests. A route has a value from its first request on."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, Histogram] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._answered[route, status] += 1
        self._seconds.setdefault(route, Histogram(_SECONDS)).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        requests = CounterMetricFamily(*REQUESTS, labels=["route", "status"])
        for (route, status), count in self._answered.items():
            requests.add_metric([route, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(*REQUEST_SECONDS, labels=["route"])
        for route, taken in self._seconds.items():
            values = Distribution(taken.bounds, tuple(taken.counts), taken.sum)
            seconds.add_metric([route], buckets(values), taken.sum)
        yield seconds


class Counted:
    """Counts the requests to an ASGI application.

    Args:
        routes: its routes. A request that matches none of them is counted as `other`.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], requests: AdminRequests) -> None:
        self._app = app
        self._paths = frozenset(route.path for route in routes if isinstance(route, Route))
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _FAILED
        begun = perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            # Starlette writes here which route it took; what was refused before has none.
            path = getattr(scope.get("route"), "path", scope["path"])
            route = path if path in self._paths else _OTHER
            self._requests.answered(route, status, perf_counter() - begun)
