"""The metrics of records that are read from Kafka, NATS and Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidegate.node.control.metric import Description

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidegate.core.stats import Ingested
    from tidegate.node.control.parts import Parts

__all__ = ["INGEST"]


def _each(read: Callable[[Ingested], int]) -> Callable[[Parts], Mapping[str, int]]:
    return lambda node: {name: read(counts) for name, counts in node.stats.ingest.items()}


INGEST: Final = (
    Description(
        "websocket_ingest_records_total",
        "counter",
        "source",
        "Records of other systems that were published to rooms.",
        _each(lambda counts: counts.records),
    ),
    Description(
        "websocket_ingest_bytes_total",
        "counter",
        "source",
        "Bytes of the records that were read.",
        _each(lambda counts: counts.bytes),
    ),
    Description(
        "websocket_ingest_skipped_total",
        "counter",
        "source",
        "Records that were left out, as they can never be published; the log has some of them.",
        _each(lambda counts: counts.skipped),
    ),
    Description(
        "websocket_ingest_retries_total",
        "counter",
        "source",
        "Tries to publish a record that failed for the moment.",
        _each(lambda counts: counts.retries),
    ),
    Description(
        "websocket_ingest_failures_total",
        "counter",
        "source",
        "Connections to the source that ended, and tries to connect that failed.",
        _each(lambda counts: counts.failures),
    ),
    Description(
        "websocket_ingest_in_flight",
        "gauge",
        "source",
        "Records that were read and are not published yet.",
        _each(lambda counts: counts.in_flight),
    ),
    Description(
        "websocket_ingest_lag_records",
        "gauge",
        "source",
        "Records that wait: in the partitions of this node (Kafka), or of the group (NATS, Redis).",
        _each(lambda counts: counts.lag),
    ),
)
