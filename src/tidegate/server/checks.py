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


def warnings(settings: Settings, descriptors: int | None, *, rooms: bool = True) -> Iterator[str]:
    """Sentences for the operator; none when all is well.

    Args:
        descriptors: the file descriptor limit in force, None for no limit.
        rooms: whether clients may join rooms and write to users; not with an application.
    """
    server, limits = settings.server, settings.limits
    open_to_all = next((host for host in server.host if not is_local(host)), None)
    if rooms and settings.auth.anonymous and (open_to_all is not None or settings.proxies.trusted):
        why = (
            "proxies are trusted" if open_to_all is None else f"server.host is {shown(open_to_all)}"
        )
        yield (
            f"anonymous clients may {_allowed(settings)}, because {why} and auth.anonymous is true;"
            f" to ask for tokens, set auth.secret (or auth.public_key) and auth.anonymous = false;"
            f" to allow less, set anonymous.join, anonymous.publish and anonymous.direct"
        )
    room = max(0, Shares.of(descriptors).connections - _OWN_DESCRIPTORS)
    if room < limits.connections:
        yield (
            f"the file descriptor limit of {descriptors} is too low for limits.connections = "
            f"{limits.connections}: about {room} connections will fit; raise the hard limit "
            f"(`tidegate doctor` prints the line) or lower limits.connections"
        )


def _allowed(settings: Settings) -> str:
    """What anonymous clients may do, in words."""
    may = ["connect from anywhere"]
    for verb, rooms in (
        ("join", settings.anonymous.join),
        ("write to", settings.anonymous.publish),
    ):
        if rooms:
            may.append(f"{verb} {'every room' if '*' in rooms else shown(rooms)}")
    if settings.anonymous.direct:
        may.append("write to every user")
    *others, last = may
    return f"{', '.join(others)} and {last}" if others else last
