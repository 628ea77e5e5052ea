"""Settings with every rate and line switched on, as nothing is by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["MESSAGES", "switched_on"]

MESSAGES: Mapping[str, float] = {
    "per_second": 100.0,
    "bytes_per_second": 1 << 20,
    "joins_per_second": 20.0,
    "control_per_second": 20.0,
}

_ON: Mapping[str, Mapping[str, object]] = {
    "pacing": {"enabled": True},
    "waiting_room": {"enabled": True},
    "messages": MESSAGES,
}


def switched_on(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The sections, over those that switch the policies on."""
    return {name: {**_ON.get(name, {}), **sections.get(name, {})} for name in {**_ON, **sections}}
