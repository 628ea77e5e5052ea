"""Our server, by its admin API: `/stats`, `/metrics`, `/nodes` and the pages of `/connections`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from tidegate.errors import TidegateError
from tidegate.top.sample import Count, Node, Row, Server

__all__ = ["ServerWatch", "quantile"]

Ask = Callable[[str], dict[str, Any]]
"""Returns the JSON object at a path of the admin API."""

Read = Callable[[str], str]
"""Returns the text at a path of the admin API."""

_TOP: Final = 10
_PAGE: Final = 1000
_MOST_PAGES: Final = 10
_ROWS: Final = 200
_PAGES_SECONDS: Final = 4.0  # how often the list is read: each page makes the server look at all


class ServerWatch:
    """Asks a server; each answer also says what came since the one before.

    Args:
        url: how the server is shown.
        ask: asks the admin API for JSON.
        read: asks it for text.
    """

    def __init__(self, url: str, ask: Ask, read: Read) -> None:
        self._url = url
        self._ask = ask
        self._read = read
        self._before: tuple[float, dict[str, float]] | None = None
        self._pages: tuple[float, str, list[Row], bool] | None = None
        self._cpu: list[float] = []

    def read(self, query: Mapping[str, str] | None = None, sort: str = "buffered") -> Server:
        """Ask once.

        Args:
            query: which connections to list, as `/connections` takes it.
            sort: the field of `Row` by which they are sorted; names rise, numbers fall.

        Raises:
            TidegateError: it does not answer, or not as it should.
        """
        try:
            return self._read_all(query or {}, sort)
        except (KeyError, TypeError, ValueError, IndexError, msgspec.MsgspecError):
            raise TidegateError(f"{self._url} answers, and not as this version should") from None

    def _read_all(self, query: Mapping[str, str], sort: str) -> Server:
        stats = self._ask("/stats")
        figures = _figures(self._read("/metrics"))
        now = monotonic()
        before, self._before = self._before, (now, figures)
        rate = _Rates(figures, before and before[1], now - before[0] if before else 0.0)
        cpu = rate.of("process_cpu_seconds_total")
        if cpu is not None:
            self._cpu = [min([*self._cpu, cpu]), max([*self._cpu, cpu])]
        rows, complete = self._connections(query, now)
        load, connections = stats["load"], stats["connections"]
        return Server(
            url=self._url,
            zone=load["zone"],
            zone_since=load["since"],
            pressure=load["pressure"],
            driver=load["driver"],
            pressures=load["pressures"],
            acts=load["acts"],
            connections=connections["current"],
            limit=connections["limit"],
            peak=connections["peak"],
            opening=int(figures.get('websocket_connections_current{state="opening"}', 0)),
            addresses=connections["uniqueIps"],
            users=connections["uniqueUsers"],
            waiting=stats["waiting"]["now"],
            kept=stats["waiting"]["kept"],
            outbox=figures.get("websocket_outbox_bytes", 0.0),
            slow=int(figures.get("websocket_slow_connections", 0)),
            descriptors=figures.get("websocket_file_descriptors_used_ratio"),
            memory=figures.get("process_resident_memory_bytes"),
            connects=rate.of('websocket_connections_total{result="accepted"}'),
            closes=rate.sum("websocket_disconnections_total"),
            refusals=rate.by_label("websocket_rejections_total"),
            refused={name: count for name, count in stats["rejections"].items() if count},
            messages_in=rate.sum("websocket_messages_received_total"),
            messages_out=rate.of("websocket_messages_sent_total"),
            bytes_in=rate.of('websocket_bytes_total{direction="received"}'),
            bytes_out=rate.of('websocket_bytes_total{direction="sent"}'),
            cpu=cpu,
            cpu_low=self._cpu[0] if self._cpu else None,
            cpu_high=self._cpu[1] if self._cpu else None,
            lag=rate.quantile("websocket_event_loop_lag_seconds", 0.99),
            tls_median=rate.quantile("websocket_tls_handshake_duration_seconds", 0.5),
            tls_slowest=rate.quantile("websocket_tls_handshake_duration_seconds", 0.99),
            top_addresses=_counted(row.address for row in rows),
            top_users=_counted(row.user for row in rows if row.user is not None),
            rows=_sorted(rows, sort)[:_ROWS],
            listed=len(rows),
            listed_all=complete,
            nodes=msgspec.convert(self._ask("/nodes")["nodes"], list[Node]),
        )

    def forget_pages(self) -> None:
        """Read the list anew next time, because it has changed."""
        self._pages = None

    def _connections(self, query: Mapping[str, str], now: float) -> tuple[list[Row], bool]:
        """The connections, at most ten pages of them; kept for some seconds."""
        key = urlencode(sorted(query.items()))
        if self._pages and self._pages[1] == key and now - self._pages[0] < _PAGES_SECONDS:
            return self._pages[2], self._pages[3]
        rows: list[Row] = []
        after: int | None = 0
        for _ in range(_MOST_PAGES):
            page = self._ask(f"/connections?{urlencode({**query, 'limit': _PAGE, 'after': after})}")
            rows += msgspec.convert(page["connections"], list[Row])
            after = page["next"]
            if after is None:
                break
        self._pages = (now, key, rows, after is None)
        return rows, after is None


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The value below which a share of the values of a histogram is, as Prometheus has it.

    Args:
        buckets: how many values are at most so large, by that size, up to infinity.

    Returns:
        Nothing, where there are no values. The largest bound, where it lies above it.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted = share * total
    low, below = 0.0, 0.0
    for bound in bounds[:-1]:
        if buckets[bound] >= wanted:
            inside = buckets[bound] - below
            return low + (bound - low) * ((wanted - below) / inside if inside else 1.0)
        low, below = bound, buckets[bound]
    return low


class _Rates:
    """What came in a time, from two readings of the counters."""

    def __init__(
        self, now: Mapping[str, float], before: Mapping[str, float] | None, seconds: float
    ) -> None:
        self._now = now
        self._before = before
        self._seconds = max(1e-3, seconds)

    def of(self, name: str) -> float | None:
        """One counter a second; None where it is not known, or read for the first time."""
        if self._before is None or name not in self._now:
            return None
        # A server that was started anew counts from zero.
        return max(0.0, self._now[name] - self._before.get(name, 0.0)) / self._seconds

    def sum(self, name: str) -> float | None:
        """A counter with a label, over all its values."""
        if self._before is None:
            return None
        return sum(self.of(each) or 0.0 for each in self._labelled(name))

    def by_label(self, name: str) -> dict[str, float]:
        """The same by value, without those that did not come."""
        rates = {each.split('"')[1]: self.of(each) or 0.0 for each in self._labelled(name)}
        return {label: rate for label, rate in rates.items() if rate}

    def quantile(self, name: str, share: float) -> float | None:
        """Of the values that came in this time, or of all where none came."""
        buckets: dict[float, float] = {}
        fresh: dict[float, float] = {}
        for each in self._labelled(f"{name}_bucket"):
            bound = float(each.split('"')[1])
            buckets[bound] = self._now[each]
            fresh[bound] = self._now[each] - (self._before or {}).get(each, 0.0)
        recent = None if self._before is None else quantile(fresh, share)
        return quantile(buckets, share) if recent is None else recent

    def _labelled(self, name: str) -> list[str]:
        return [each for each in self._now if each.startswith(f"{name}{{")]


def _figures(text: str) -> dict[str, float]:
    """The samples of a metrics page, by name and labels as they are written there."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def _counted(names: Iterable[str]) -> list[Count]:
    return [Count(name, count) for name, count in Counter(names).most_common(_TOP)]


def _sorted(rows: list[Row], field: str) -> list[Row]:
    if field in ("user", "address"):
        return sorted(rows, key=lambda row: getattr(row, field) or "")
    return sorted(rows, key=lambda row: getattr(row, field), reverse=True)
