"""Host names of the server, so that no page can pass for its own by a name of an attacker's.

A page at `evil.example` may let that name point to 127.0.0.1, or to an address in the network of
its reader (DNS rebinding). The browser then sends `Host: evil.example` with the page's own origin,
which are the same. Only the name tells that it is not this server.
"""

from __future__ import annotations

from collections.abc import Collection

from tidegate.addresses import is_loopback
from tidegate.core.origins import Origins

__all__ = ["Hosts", "is_this_machine"]


class Hosts:
    """The names that a server goes by.

    Args:
        names: host names and IP addresses without a port, with `*` for a label; "*" for all.

    Raises:
        ValueError: one is no host.
    """

    __slots__ = ("_all", "_any", "_names")

    def __init__(self, names: Collection[str]) -> None:
        listed = [name for name in names if name != "*"]
        self._names = Origins(f"http://{_bracketed(name)}:*" for name in listed)
        self._any = bool(listed)
        self._all = "*" in names

    def allows(self, host: str) -> bool:
        """Tell whether the Host of a request, with or without its port, is one of these."""
        return self._all or (self._any and self._names.allows(f"http://{host}", "", secure=False))


def is_this_machine(host: str) -> bool:
    """Tell whether the Host of a request is a name that only this machine can have.

    Browsers resolve `localhost` and names below it to loopback without asking (RFC 6761 6.3).
    """
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    name = name.lower().removesuffix(".")
    return is_loopback(name) or name.endswith(".localhost")


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
