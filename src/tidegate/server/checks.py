"""What is worth a warning although it is allowed."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.addresses import is_loopback
from tidegate.core.settings import Settings
from tidegate.core.settings.fields import shown

__all__ = ["warnings"]

# What the process has open besides connections: listeners, poller, logs, the admin API's clients,
# and for a moment handshakes and clients that are refused.
_OTHER_DESCRIPTORS = 64


def warnings(settings: Settings, descriptors: int | None) -> Iterator[str]:
    """Sentences for the operator; none when all is well.

    `descriptors` is the file descriptor limit in force, None for no limit.
    """
    server, limits = settings.server, settings.limits
    if settings.auth.anonymous and not is_loopback(server.host):
        yield (
            f"anonymous clients may connect from anywhere, because server.host is "
            f"{shown(server.host)} and auth.anonymous is true; to ask for tokens, set auth.secret "
            f"(or auth.public_key) and auth.anonymous = false"
        )
    if descriptors is not None and descriptors < limits.connections + _OTHER_DESCRIPTORS:
        room = max(0, descriptors - _OTHER_DESCRIPTORS)
        yield (
            f"the file descriptor limit of {descriptors} is too low for limits.connections = "
            f"{limits.connections}: about {room} connections will fit; raise the hard limit "
            f"(`ulimit -n`, or LimitNOFILE= of systemd) or lower limits.connections"
        )
