"""Figures that stand on several pages are the same on all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tidegate.costs import MEASURED

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide"


def test_figures_of_the_comparison_are_those_of_the_benchmark() -> None:
    page = (GUIDE / "comparison.md").read_text()
    part = page.partition("## Figures")[2].partition("## One by one")[0]
    found = set(re.findall(r"\d{1,3}(?:,\d{3})+|\d+ B", part)) - {"10,000"}
    measured = (ROOT / "bench" / "README.md").read_text()
    assert len(found) > 40
    assert [
        figure
        for figure in found
        if not re.search(rf"(?<![\d,]){figure.removesuffix(' B')}\b", measured)
    ] == []


@pytest.mark.parametrize(
    "cost",
    [
        f"| {MEASURED.bytes_per_connection:,.0f} B |",
        f"| {MEASURED.kernel_bytes_per_connection:,.0f} B |",
        f"| {MEASURED.tls_bytes_per_connection:,.0f} B |",
        f"| {MEASURED.cpu_per_connect * 1e6:.0f} µs |",
        f"| {(MEASURED.cpu_per_tls_handshake or 0) * 1e3:.1f} ms |",
        f"| {MEASURED.cpu_per_message * 1e6:.0f} µs, and "
        f"{MEASURED.cpu_per_byte_in * 1e9:.1f} ns a byte |",
        f"| {MEASURED.cpu_per_delivery * 1e6:.1f} µs, and "
        f"{MEASURED.cpu_per_byte_out * 1e9:.2f} ns a byte |",
        f"| {MEASURED.cpu_per_tls_record * 1e6:.0f} µs, and "
        f"{MEASURED.cpu_per_tls_byte * 1e9:.0f} ns a byte |",
        f"| {MEASURED.cpu_per_heartbeat * 1e6:.0f} µs |",
    ],
)
def test_costs_in_the_guide_are_those_of_the_build(cost: str) -> None:
    assert cost in (GUIDE / "estimate.md").read_text()
