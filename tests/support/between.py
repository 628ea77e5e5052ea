"""What there is between nodes: a real Valkey, a cluster of it, or NATS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.nats import Nats, nats
from tests.support.valkey import Valkey, valkey
from tests.support.valkey_cluster import ValkeyCluster, valkey_cluster

__all__ = ["STARTING", "Server"]

Server: TypeAlias = Valkey | ValkeyCluster | Nats

STARTING: dict[str, Callable[[Path], Any]] = {
    "valkey": valkey,
    "cluster": valkey_cluster,
    "nats": nats,
}
"""Starts one in a folder; it ends with the block."""
