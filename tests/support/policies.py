"""Settings with a waiting room, as there is none by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["with_a_line"]


def with_a_line(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The sections, with a waiting room unless they say otherwise."""
    return {**sections, "waiting_room": {"enabled": True, **sections.get("waiting_room", {})}}
