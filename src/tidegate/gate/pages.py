"""Which web pages may open WebSockets here: by their origin, and by the host they asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.addresses import is_local, is_loopback
from tidegate.core.hosts import Hosts, is_this_machine
from tidegate.core.origins import Origins

if TYPE_CHECKING:
    from tidegate.core.settings import ServerSettings

__all__ = ["Pages"]


class Pages:
    """Decides about the origins of attempts, as the settings of the server say."""

    __slots__ = ("_hosts", "_loopback", "_origins", "_own_only")

    def __init__(self, settings: ServerSettings) -> None:
        self._origins = Origins(settings.origins)
        self._own_only = not settings.origins
        self._hosts = Hosts(settings.hosts) if settings.hosts else None
        self._loopback = all(map(is_local, settings.host))

    def allow(self, origin: str, host: str, address: str, *, secure: bool) -> bool:
        """Tell whether a page may connect. HOT.

        Args:
            origin: what its browser says of it.
            host: the Host of the request.
            address: the client's, behind trusted proxies.
            secure: whether the connection is TLS.
        """
        return self._origins.allows(origin, host, secure) and (
            not self._own_only or self._is_ours(host, address)
        )

    def problem(self, origin: str, host: str, address: str, *, secure: bool) -> str | None:
        """Return why a page may not connect; None if it may. What the peer sent is not in it."""
        if self.allow(origin, host, address, secure=secure):
            return None
        if not self._own_only:
            return "the origin is not in server.origins"
        if not self._origins.allows(origin, host, secure):
            return "the page is not of the Host that it asks for, and server.origins is empty"
        if self._hosts is not None:
            return "the Host is not in server.hosts"
        return "the Host is no name of this machine, and server.hosts is empty"

    def _is_ours(self, host: str, address: str) -> bool:
        """Tell whether the name in `host` is this server's, and not one that points to it."""
        if self._hosts is not None:
            return self._hosts.allows(host)
        # A client that is not on this machine came through a proxy, which a name cannot do.
        return not self._loopback or is_this_machine(host) or not is_loopback(address)
