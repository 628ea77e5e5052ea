"""The arguments of a client, for those who pass them on."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Mapping
from typing import Literal, TypedDict

from tidegate.client.clock import Clock
from tidegate.client.codec import Format
from tidegate.client.requests import QueuePolicy
from tidegate.client.retry import Backoff
from tidegate.client.tokens import TokenSource

__all__ = ["Options"]


class Options(TypedDict, total=False):
    """As in `Client`."""

    token: TokenSource
    codec: Format
    ssl: ssl_module.SSLContext | None
    proxy: str | Literal[True] | None
    headers: Mapping[str, str] | None
    connect_timeout: float
    backoff: Backoff | None
    stable_after: float
    queue_size: int
    queue_policy: QueuePolicy
    max_buffered: int
    max_message_size: int
    room_buffer: int
    clock: Clock | None
