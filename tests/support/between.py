"""What there is between nodes: a real Valkey or NATS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.nats import Nats, nats
from tests.support.valkey import Valkey, valkey

__all__ = ["STARTING", "Server"]

Server: TypeAlias = Valkey | Nats

STARTING: dict[str, Callable[[Path], Any]] = {"valkey": valkey, "nats": nats}
"""Starts one in a folder; it ends with the block."""
