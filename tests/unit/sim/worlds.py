"""Scenarios for tests, small enough to run in a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tidegate.sim.scenario import Scenario, load, parse


def scenario(text: str = "", changes: Mapping[str, object] | None = None) -> Scenario:
    """A scenario of its TOML text."""
    return parse(text, "test", Path(), changes)


def small(name: str, objects: int = 2000, duration: float | None = None) -> Scenario:
    """A ready scenario with fewer objects, each of which stands for more clients."""
    found = load(name)
    run = replace(found.run, exact=0, objects=objects, duration=duration or found.run.duration)
    return replace(found, run=run)


SMALL = """
[run]
duration = "60s"

[fleet]
nodes = 3
boot = "5s"

[[clients]]
count = 300
"""
