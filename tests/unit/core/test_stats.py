from __future__ import annotations

import json
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.admission.shedding import Zone
from tidegate.core.codes import REASONS, Refusal
from tidegate.core.stats import SMALL, Histogram, Stats, Traffic


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(-1.0, 0), (0.0, 0), (1.0, 0), (1.001, 1), (10.0, 1), (10.001, 2), (1e9, 2)],
)
def test_an_upper_bound_belongs_to_its_range(value: float, bucket: int) -> None:
    histogram = Histogram((1.0, 10.0))
    histogram.observe(value)
    assert histogram.counts == [int(i == bucket) for i in range(3)]
    assert histogram.sum == value
    assert histogram.count == 1


def test_observe_many_is_observe_many_times() -> None:
    one, many = Histogram((1.0, 10.0)), Histogram((1.0, 10.0))
    for _ in range(7):
        one.observe(4.0)
    many.observe_many(4.0, 7)
    many.observe_many(2.0, 0)
    assert (one.counts, one.sum, one.count) == (many.counts, many.sum, many.count)


@given(st.lists(st.integers(0, 2_000_000)))
@settings(max_examples=50)
def test_every_value_is_in_the_range_that_holds_it(values: list[int]) -> None:
    histogram = Stats().incoming.others
    for value in values:
        histogram.observe(value)
    bounds = histogram.bounds
    for index, bound in enumerate(bounds):
        below = sum(histogram.counts[: index + 1])
        assert below == bisect_left(sorted(values), bound + 1)
    assert histogram.count == len(values)
    assert histogram.sum == sum(values)


@given(st.lists(st.integers(0, 300)))
@settings(max_examples=50)
def test_small_messages_count_as_all_others(values: list[int]) -> None:
    traffic, plain = Traffic(header=6), Histogram(Traffic(header=6).sizes.bounds)
    for value in values:
        plain.observe(value)
        if value < SMALL:
            traffic.small[value] += 1
        else:
            traffic.others.observe(value)
            traffic.other_bytes += value + 8
    assert traffic.messages == len(values)
    assert traffic.bytes == sum(value + (6 if value < SMALL else 8) for value in values)
    sizes = traffic.sizes
    assert (sizes.counts, sizes.sum) == (plain.counts, plain.sum)


def test_messages_are_of_the_native_protocol_or_text_and_binary() -> None:
    stats = Stats()
    stats.incoming.small[5] += 3
    stats.incoming.others.observe(500)
    stats.binary_received += 1
    assert stats.messages_received == {"text": 3, "binary": 1}
    stats.native_messages["join"] = 0
    assert stats.messages_received == {"join": 0}


def test_bounds_rise() -> None:
    stats = Stats()
    histograms = [getattr(stats, name) for name in Stats.__slots__]
    bounds = [value.bounds for value in histograms if isinstance(value, Histogram)]
    bounds += [traffic.sizes.bounds for traffic in (stats.incoming, stats.outgoing)]
    assert len(bounds) == 7
    assert all(list(b) == sorted(set(b)) for b in bounds)


def test_every_reason_has_its_counter_from_the_start() -> None:
    stats = Stats()
    assert set(stats.rejected) == {r.name for r in REASONS.values() if isinstance(r, Refusal)}
    assert {"normal", "idle_timeout", "eof", "shutdown"} <= set(stats.disconnected)
    assert stats.rejected.total() == stats.disconnected.total() == 0


def test_zones_are_those_of_the_shedder() -> None:
    assert list(Stats().zone_changes) == [zone.label for zone in Zone]


def test_nodes_do_not_share_counters() -> None:
    first, second = Stats(), Stats()
    first.rejected["ip_limit"] += 1
    first.outgoing.small[1] += 1
    assert second.rejected["ip_limit"] == second.outgoing.messages == 0


def test_snapshot() -> None:
    stats = Stats()
    stats.rejected["ip_limit"] += 3
    stats.rejected["draining"] += 1
    stats.disconnected["eof"] += 1
    stats.native_messages["join"] = 2
    stats.native_messages["leave"] = 3
    stats.outgoing.small[10] += 5
    stats.outgoing.others.observe_many(200, 2)
    stats.messages_limited["delayed"] += 4
    stats.messages_dropped["drop_oldest"] += 9
    stats.incoming.other_bytes = 50
    stats.outgoing.other_bytes = 10
    snapshot = json.loads(json.dumps(stats.snapshot()))
    assert snapshot["rejections"]["ip_limit"] == 3
    assert snapshot["rejections"]["server_limit"] == 0
    assert snapshot["disconnections"]["eof"] == 1
    assert snapshot["messages"] == {
        "received": 5,
        "sent": 7,
        "bytesReceived": 50,
        "bytesSent": 70,
        "limited": {"refused": 0, "delayed": 4},
        "dropped": {"drop_oldest": 9, "drop_newest": 0},
    }
