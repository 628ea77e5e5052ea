"""The settings as a worker gets them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from tidegate.core.settings import Settings
from tidegate.core.settings.changes import differences, merged, values_of
from tidegate.server.supervisor.values import Program, Spec

__all__ = ["keeping", "make_spec"]

# What belongs to the supervisor, which keeps what it has as long as it lives.
_OWN: Final = (
    *("server.host", "server.port", "server.backlog", "server.workers"),
    *("admin.", "agent_check.", "log.", "backplane."),
)


def make_spec(
    number: int,
    settings: Settings,
    sockets: Sequence[socket.socket],
    folder: str,
    admin: str,
    program: Program | None,
    private: str | None,
) -> Spec:
    """Return what a worker is.

    Args:
        sockets: to accept from.
        folder: the private folder.
        admin: path of the Unix socket of its admin API. It needs no token, because nobody else can
            get into the folder.
        program: the ASGI application that it runs; None for the native protocol.
        private: URL of the Valkey that belongs to the workers; None without one.
    """
    own = replace(settings.admin, host=(f"unix:{admin}",), token=None, dashboard=False)
    backplane = settings.backplane
    if private is not None:
        backplane = replace(backplane, url=private)
    values = values_of(replace(settings, admin=own, backplane=backplane))
    return Spec(number, values, [sock.fileno() for sock in sockets], folder, program)


def keeping(before: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """Return new settings with what belongs to the supervisor as it was, and what that is."""
    live, restart = differences(before, new)
    own = [name for name in (*live, *restart) if name.startswith(_OWN)]
    kept: dict[str, dict[str, Any]] = {}
    for name in own:
        section, _, key = name.partition(".")
        kept.setdefault(section, {})[key] = getattr(getattr(before, section), key)
    return merged(new, kept), own
