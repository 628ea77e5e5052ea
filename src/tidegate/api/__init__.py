"""The client of the server API: a backend publishes, asks and steers over HTTP.

`ServerApi` is for threads, `AsyncServerApi` for asyncio; both have the same calls. It needs the
extra `tidegate[http]`, and nothing of the server.
"""

from __future__ import annotations

try:
    import httpx2 as _httpx2  # noqa: F401 - what is missing is said before anything else
except ImportError as error:
    raise ImportError("tidegate.api needs httpx2: pip install 'tidegate[http]'") from error

from tidegate.api.client import AsyncServerApi, ServerApi
from tidegate.api.errors import (
    ApiError,
    InvalidRequest,
    NotTaken,
    TokenRefused,
    Unavailable,
    Unreachable,
)
from tidegate.api.figures import BackplaneCounts, NodesPage, OneNode, Stats
from tidegate.api.results import (
    Applied,
    ConnectionsPage,
    DrainProgress,
    ExplainStep,
    Explanation,
    Health,
    HistoryMessage,
    HistoryPage,
    KeptHistory,
    Latency,
    Moved,
    OneConnection,
    OneRoom,
    OneSetting,
    OneUser,
    Outcome,
    Position,
    Presence,
    PresentUser,
    Published,
    Readiness,
    Refusals,
    RefusedAttempt,
    RefusedReason,
    Revoked,
    RoomExplanation,
    RoomsPage,
    SettingsView,
    UsersPage,
)
from tidegate.api.values import Message

__all__ = [
    "ApiError",
    "Applied",
    "AsyncServerApi",
    "BackplaneCounts",
    "ConnectionsPage",
    "DrainProgress",
    "ExplainStep",
    "Explanation",
    "Health",
    "HistoryMessage",
    "HistoryPage",
    "InvalidRequest",
    "KeptHistory",
    "Latency",
    "Message",
    "Moved",
    "NodesPage",
    "NotTaken",
    "OneConnection",
    "OneNode",
    "OneRoom",
    "OneSetting",
    "OneUser",
    "Outcome",
    "Position",
    "Presence",
    "PresentUser",
    "Published",
    "Readiness",
    "Refusals",
    "RefusedAttempt",
    "RefusedReason",
    "Revoked",
    "RoomExplanation",
    "RoomsPage",
    "ServerApi",
    "SettingsView",
    "Stats",
    "TokenRefused",
    "Unavailable",
    "Unreachable",
    "UsersPage",
]
