from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tidegate.backplane.traffic import Traffic
from tidegate.core.admission.breaker import CircuitBreaker
from tidegate.core.admission.shedding import Zone
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import REASONS, Close, Refusal
from tidegate.core.messaging.history import History
from tidegate.core.settings import RoomsSettings, Settings
from tidegate.core.stats import Histogram, Ingested, Stats
from tidegate.node.control import METRICS, Control, figures
from tidegate.server.metrics import PROCESS_COUNTERS, MetricsCollector

# The names are a promise to dashboards and alerts that others have built.
NAMES = {
    "tidegate_build_info": "version",
    "websocket_connections_current": "state",
    "websocket_connections_peak": "",
    "websocket_connections_total": "result",
    "websocket_rejections_total": "reason",
    "websocket_dry_run_rejections_total": "policy",
    "websocket_waiting": "state",
    "websocket_waiting_total": "event",
    "websocket_ready": "",
    "websocket_breaker_open": "",
    "websocket_disconnections_total": "reason",
    "websocket_closes_total": "code",
    "websocket_connection_duration_seconds": "",
    "websocket_utilization_ratio": "",
    "websocket_limit": "setting",
    "websocket_addresses": "",
    "websocket_users": "",
    "websocket_rooms": "",
    "websocket_room_refusals_total": "reason",
    "websocket_slow_connections": "",
    "websocket_outbox_bytes": "",
    "websocket_buffers_bytes": "",
    "websocket_messages_received_total": "type",
    "websocket_published_total": "source",
    "websocket_messages_sent_total": "",
    "websocket_messages_limited_total": "action",
    "websocket_messages_dropped_total": "policy",
    "websocket_deltas_sent_total": "",
    "websocket_delta_saved_bytes_total": "",
    "websocket_hooks_total": "outcome",
    "websocket_fleet_connections": "",
    "websocket_fleet_limits_hold": "",
    "websocket_fleet_leases_total": "result",
    "websocket_event_streams": "",
    "websocket_posts_total": "result",
    "websocket_sessions_waiting": "",
    "websocket_sessions_total": "outcome",
    "websocket_fleet_orders_total": "outcome",
    "websocket_history_bytes": "",
    "websocket_history_rooms": "",
    "websocket_history_lost_total": "",
    "websocket_ingest_records_total": "source",
    "websocket_ingest_bytes_total": "source",
    "websocket_ingest_skipped_total": "source",
    "websocket_ingest_retries_total": "source",
    "websocket_ingest_failures_total": "source",
    "websocket_ingest_in_flight": "source",
    "websocket_ingest_lag_records": "source",
    "websocket_backplane_up": "",
    "websocket_backplane_latency_seconds": "",
    "websocket_backplane_errors_total": "error",
    "websocket_backplane_reconnects_total": "",
    "websocket_backplane_messages_total": "direction",
    "websocket_backplane_bytes_total": "direction",
    "websocket_backplane_subscriptions": "",
    "websocket_message_size_bytes": "direction",
    "websocket_bytes_total": "direction",
    "websocket_heartbeat_latency_seconds": "",
    "websocket_handshake_duration_seconds": "",
    "websocket_tls_handshake_duration_seconds": "",
    "websocket_event_loop_lag_seconds": "",
    "websocket_file_descriptors_used_ratio": "",
    "websocket_zone": "",
    "websocket_pressure": "signal",
    "websocket_zone_changes_total": "zone",
}


class RoomsOfThree:
    def __init__(self) -> None:
        self.refused = Counter(room_limit=2)

    def __len__(self) -> int:
        return 3


class WaitingRoom:
    kept = 2

    def __len__(self) -> int:
        return 5


@pytest.fixture
def node() -> Any:
    settings = Settings.from_mapping({"limits": {"connections": 8}})
    return SimpleNamespace(
        version="1.2.3",
        ready=(False, "draining"),
        stats=Stats(),
        tracker=ConnectionTracker(settings.limits, settings.tiers),
        settings=settings,
        rooms=RoomsOfThree(),
        room_rates=SimpleNamespace(refused=4),
        sessions=None,
        leases=SimpleNamespace(total=30, up=True),
        event_streams=(),
        history=History(RoomsSettings(), "n"),
        engine=SimpleNamespace(opening=2, buffered=4096, kept=5000, slow=3),
        waiting=WaitingRoom(),
        admission=SimpleNamespace(breaker=CircuitBreaker(settings.breaker)),
        shedder=SimpleNamespace(zone=Zone.CRITICAL, pressures={"cpu": 0.9, "memory": 0.1}),
        backplane=SimpleNamespace(up=True, subscriptions=2, traffic=Traffic()),
        membership=SimpleNamespace(latencies=Histogram((0.001, 0.01))),
    )


def collector(node: Any) -> MetricsCollector:
    found = MetricsCollector(Control(node), lambda: (6, 7, *(0,) * 5))
    found.measure()
    return found


def scrape(node: Any) -> dict[str, float]:
    """Every sample, as `name{label}`."""
    text = generate_latest(collector(node)).decode()
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_names_and_labels() -> None:
    assert {metric.name: metric.label for metric in METRICS} == NAMES


def test_what_is_exposed_is_what_is_described(node: Any) -> None:
    node.stats.ingest["orders"] = Ingested()
    text = generate_latest(collector(node)).decode()
    suffix = {"counter": "", "gauge": "", "histogram": "_bucket"}
    samples = {
        sample.name: set(sample.labels) - {"le"}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_sum", "_count"))
        and not sample.name.startswith(("process_", "python_"))
    }
    expected = {metric.name + suffix[metric.kind]: {metric.label} - {""} for metric in METRICS}
    assert samples == {**expected, **{name: set() for name, _ in PROCESS_COUNTERS}}


def test_before_anything_happens_known_reasons_are_zero(node: Any) -> None:
    found = scrape(node)
    assert found["websocket_connections_current{open}"] == 0
    assert found["websocket_connections_total{accepted}"] == 0
    assert found["websocket_connections_total{rejected}"] == 0
    for reason in REASONS.values():
        if isinstance(reason, Refusal):
            assert found[f"websocket_rejections_total{{{reason.name}}}"] == 0
        elif isinstance(reason, Close):
            assert found[f"websocket_disconnections_total{{{reason.name}}}"] == 0


def test_the_values(node: Any) -> None:
    leases = [node.tracker.acquire("192.0.2.1") for _ in range(3)]
    node.tracker.release(leases[0])
    stats = node.stats
    stats.accepted = 3
    stats.rejected["ip_limit"] += 4
    stats.rejected["server_limit"] += 1
    stats.disconnected["eof"] += 1
    for code in (1001, 1005, 1014, 3001, 3999, 4008, 4321, 4321):
        stats.close_codes[code] += 1
    stats.native_messages["join"] = 2
    stats.published["client"] += 5
    stats.outgoing.others.observe_many(500, 4)
    stats.outgoing.small[5] += 3
    stats.incoming.other_bytes, stats.outgoing.other_bytes = 100, 179
    stats.zone_changes["critical"] += 2
    stats.dry_run["per_ip"] += 6
    stats.waited["promoted"] += 8
    found = scrape(node)
    expected = {
        "tidegate_build_info{1.2.3}": 1,
        "tidegate_log_lines_lost_total": 6,
        "tidegate_admin_bad_requests_total": 7,
        "websocket_connections_current{open}": 2,
        "websocket_connections_current{opening}": 2,
        "websocket_connections_peak": 3,
        "websocket_connections_total{accepted}": 3,
        "websocket_connections_total{rejected}": 5,
        "websocket_rejections_total{ip_limit}": 4,
        "websocket_rejections_total{server_limit}": 1,
        "websocket_disconnections_total{eof}": 1,
        "websocket_closes_total{1000}": 0,
        "websocket_closes_total{1001}": 1,
        "websocket_closes_total{1005}": 1,
        "websocket_closes_total{4008}": 1,
        "websocket_closes_total{1xxx}": 1,
        "websocket_closes_total{3xxx}": 2,
        "websocket_closes_total{4xxx}": 2,
        "websocket_dry_run_rejections_total{per_ip}": 6,
        "websocket_dry_run_rejections_total{pacing}": 0,
        "websocket_waiting{waiting}": 5,
        "websocket_waiting{kept}": 2,
        "websocket_waiting_total{promoted}": 8,
        "websocket_ready": 0,
        "websocket_breaker_open": 0,
        "websocket_utilization_ratio": 0.25,
        "websocket_limit{connections}": 8,
        "websocket_limit{per_ip}": 100,
        "websocket_limit{per_user}": 10,
        "websocket_limit{per_room}": 10_000,
        "websocket_limit{rooms_per_connection}": 100,
        "websocket_addresses": 1,
        "websocket_users": 0,
        "websocket_rooms": 3,
        "websocket_room_refusals_total{room_limit}": 2,
        "websocket_room_refusals_total{room_rate}": 4,
        "websocket_slow_connections": 3,
        "websocket_outbox_bytes": 4096,
        "websocket_buffers_bytes": 5000,
        "websocket_messages_received_total{join}": 2,
        "websocket_published_total{client}": 5,
        "websocket_published_total{api}": 0,
        "websocket_messages_sent_total": 7,
        "websocket_bytes_total{received}": 100,
        "websocket_bytes_total{sent}": 200,
        "websocket_zone": 2,
        "websocket_pressure{cpu}": 0.9,
        "websocket_pressure{memory}": 0.1,
        "websocket_zone_changes_total{critical}": 2,
        "websocket_zone_changes_total{normal}": 0,
    }
    assert expected.items() <= found.items()
    assert 0 < found["websocket_file_descriptors_used_ratio"] < 1


def test_histograms_are_cumulative(node: Any) -> None:
    sizes = node.stats.incoming.others
    for size in (16, 17, 1 << 20, (1 << 20) + 1):
        sizes.observe(size)
    node.stats.loop_lag.observe(0.0005)
    found = scrape(node)
    assert found["websocket_message_size_bytes_bucket{received}{16.0}"] == 1
    assert found["websocket_message_size_bytes_bucket{received}{64.0}"] == 2
    assert found["websocket_message_size_bytes_bucket{received}{1.048576e+06}"] == 3
    assert found["websocket_message_size_bytes_bucket{received}{+Inf}"] == 4
    assert found["websocket_message_size_bytes_count{received}"] == 4
    assert found["websocket_message_size_bytes_sum{received}"] == 2 * (1 << 20) + 34
    assert found["websocket_message_size_bytes_count{sent}"] == 0
    assert found["websocket_event_loop_lag_seconds_bucket{0.0005}"] == 1


def test_openmetrics_takes_it_too(node: Any) -> None:
    generate: Callable[[Any], bytes] = generate_openmetrics
    text = generate(collector(node)).decode()
    assert 'websocket_connections_total{result="accepted"} 0.0' in text
    assert text.endswith("# EOF\n")


def test_no_sample_where_descriptors_cannot_be_counted(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "descriptors_used_ratio", lambda: None)
    assert "websocket_file_descriptors_used_ratio" not in scrape(node)


def test_the_process_is_measured_too(node: Any) -> None:
    found = scrape(node)
    assert any(name.startswith("python_info") for name in found)
    if sys.platform == "linux":
        assert found["process_resident_memory_bytes"] > 0
        assert found["process_open_fds"] > 0
