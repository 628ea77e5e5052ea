"""Recorded machines: what `tidegate doctor --record` wrote, or would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tidegate.doctor.facts import Facts, load

__all__ = ["MACHINES", "machine"]

MACHINES = Path(__file__).with_name("machines")


def machine(name: str, **changes: Any) -> Facts:
    """A recorded machine; `network__somaxconn=128` changes one of its facts."""
    facts: Any = load((MACHINES / f"{name}.json").read_bytes())
    for path, value in changes.items():
        group, _, key = path.partition("__")
        if key:
            value = msgspec.structs.replace(getattr(facts, group), **{key: value})
        facts = msgspec.structs.replace(facts, **{group: value})
    assert isinstance(facts, Facts)
    return facts
