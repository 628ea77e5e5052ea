from __future__ import annotations

from math import inf
from typing import Any

import pytest

from tidegate.costs import Costs
from tidegate.estimate.bottlenecks import Estimate, Resource, estimate
from tidegate.estimate.workload import Machine, Table, Workload

SOURCES = dict.fromkeys(("cores", "memory", "bandwidth", "descriptors"), "given")
# Round numbers, so that a test can say what comes out.
COSTS = Costs(
    schema=1,
    bytes_per_connection=1_000,
    cpu_per_connect=100e-6,
    cpu_per_message=10e-6,
    cpu_per_delivery=5e-6,
    cpu_per_tls_handshake=1e-3,
    process_bytes=50_000_000,
    kernel_bytes_per_connection=4_000,
    tls_bytes_per_connection=15_000,
    cpu_per_heartbeat=0,
    cpu_per_byte_in=0,
    cpu_per_byte_out=0,
    cpu_per_tls_record=0,
    cpu_per_tls_byte=0,
)


def workload(**changes: Any) -> Workload:
    quiet: dict[str, Any] = {
        "connections": 10_000,
        "rate": 0.0,
        "published": 0.0,
        "size": 100,
        "room": 10,
        "tls": 0.0,
        "connects": 0.0,
        "storm": None,
        "heartbeat": 30.0,
        "buffers": 0.0,
    }
    return Workload(**(quiet | changes))


def machine(**changes: Any) -> Machine:
    large: dict[str, Any] = {
        "cores": 1.0,
        "memory": 1e12,
        "bandwidth": 1e12,
        "descriptors": None,
        "sources": SOURCES,
    }
    return Machine(**(large | changes))


def row(found: Estimate, name: str) -> Resource:
    return next(resource for resource in found.resources if resource.name == name)


@pytest.mark.parametrize(
    ("load", "name", "need"),
    [
        (workload(), "memory", 50e6 + 10_000 * 5_000),
        (workload(tls=0.5), "memory", 50e6 + 10_000 * 5_000 + 5_000 * 15_000),
        (workload(buffers=7e6), "memory", 50e6 + 10_000 * 5_000 + 7e6),
        (workload(rate=1.0), "CPU", 10_000 * (10e-6 + 10 * 5e-6)),
        (workload(published=100.0, room=10_000), "CPU", 100 * (10e-6 + 10_000 * 5e-6)),
        (workload(connects=100.0, tls=0.5), "CPU", 100 * (100e-6 + 0.5e-3)),
        (workload(storm=10.0), "CPU", 1_000 * 100e-6),
        (workload(storm=10.0, tls=1.0), "CPU", 1_000 * 1.1e-3),
        (workload(rate=1.0, heartbeat=1e9), "bandwidth in", (10_000 * 248 + 100_000 * 90) * 8),
        (workload(rate=1.0, heartbeat=1e9), "bandwidth out", (100_000 * 318 + 10_000 * 90) * 8),
        (workload(), "descriptors", 10_000),
    ],
)
def test_estimate_of_a_load_needs_the_sum(load: Workload, name: str, need: float) -> None:
    found = row(estimate(load, machine(), Table(COSTS)), name)
    assert found.need == pytest.approx(need, rel=1e-6)
    assert found.need == pytest.approx(sum(line.value for line in found.lines))


@pytest.mark.parametrize(
    ("changes", "first", "ends_at"),
    [
        # 90 % of it, without the 50 MB of the process, by 5,000 B.
        ({"memory": 100e6}, "memory", 8_000),
        # 70 % of a core, by 60 µs.
        ({}, "CPU", 0.7 / 60e-6),
        ({"cores": 4.0}, "one core", 0.7 / 60e-6),
        ({"bandwidth": 10e6}, "bandwidth out", 0.7 * 10e6 / ((3_180 + 90) * 8 + 48)),
        # An eighth each is for attempts and for others.
        ({"descriptors": 64}, "descriptors", 64 - 16 - 8 - 16),
    ],
)
def test_first_resource_is_the_one_that_ends_first(
    changes: dict[str, Any], first: str, ends_at: float
) -> None:
    found = estimate(workload(rate=1.0), machine(**changes), Table(COSTS))
    assert found.first.name == first
    assert found.first.ends_at == pytest.approx(ends_at, rel=0.01)
    # It is true: with so many, just this one is used up.
    again = estimate(
        workload(connections=round(ends_at), rate=1.0), machine(**changes), Table(COSTS)
    )
    assert row(again, first).need == pytest.approx(row(again, first).usable, rel=0.01)


def test_machines_are_enough_for_all_resources() -> None:
    found = estimate(workload(rate=1.0), machine(memory=70e6), Table(COSTS))
    # 13 MB are left on each beside the process, and 50 MB are needed.
    assert found.machines == 4
    assert found.workers == 1
    assert estimate(workload(rate=5.0), machine(cores=2.0), Table(COSTS)).workers == 5
    assert estimate(workload(rate=5.0), machine(cores=2.0), Table(COSTS)).machines == 3


def test_descriptors_of_one_process_make_more_processes() -> None:
    found = estimate(workload(), machine(cores=4.0, descriptors=6_000), Table(COSTS))
    assert (found.workers, found.machines) == (2, 1)
    assert row(found, "descriptors").has == 12_000


def test_machine_too_small_for_the_process_holds_nobody() -> None:
    found = estimate(workload(), machine(memory=20e6), Table(COSTS))
    assert found.machines is None
    assert (found.first.name, found.first.ends_at) == ("memory", 0)


def test_load_without_messages_never_ends_the_processor() -> None:
    found = estimate(workload(), machine(), Table(COSTS))
    assert row(found, "CPU").ends_at == inf
    assert row(found, "descriptors").ends_at == inf


def test_publications_of_a_backend_stay_when_connections_change() -> None:
    load = workload(published=100.0, connects=10.0).of(5_000)
    assert (load.published, load.connects, load.messages) == (100.0, 5.0, 100.0)


@pytest.mark.parametrize(("connections", "addresses"), [(28_232, 1), (28_233, 2), (100_000, 4)])
def test_proxy_needs_an_address_for_each_range_of_ports(connections: int, addresses: int) -> None:
    found = estimate(workload(connections=connections), machine(), Table(COSTS))
    assert found.proxy_addresses == addresses
