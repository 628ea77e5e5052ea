"""What is worth a warning although it is allowed."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.addresses import is_local
from tidegate.core.settings import Settings
from tidegate.core.settings.fields import shown
from tidegate.engine.descriptors import Shares

__all__ = ["warnings"]

# What the process has open beside its clients and those of the admin API: listeners, poller, logs.
_OWN_DESCRIPTORS = 32


def warnings(settings: Settings, descriptors: int | None) -> Iterator[str]:
    """Sentences for the operator; none when all is well.

    `descriptors` is the file descriptor limit in force, None for no limit.
    """
    server, limits = settings.server, settings.limits
    open_to_all = [host for host in server.host if not is_local(host)]
    if settings.auth.anonymous and open_to_all:
        yield (
            f"anonymous clients may connect from anywhere, because server.host is "
            f"{shown(open_to_all[0])} and auth.anonymous is true; to ask for tokens, set "
            f"auth.secret (or auth.public_key) and auth.anonymous = false"
        )
    room = max(0, Shares.of(descriptors).connections - _OWN_DESCRIPTORS)
    if room < limits.connections:
        yield (
            f"the file descriptor limit of {descriptors} is too low for limits.connections = "
            f"{limits.connections}: about {room} connections will fit; raise the hard limit "
            f"(`ulimit -n`, or LimitNOFILE= of systemd) or lower limits.connections"
        )
