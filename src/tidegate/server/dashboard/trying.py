"""Where the clients of the page to try it on connect to, and what its policy lets them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tidegate.addresses import authority, unix_path

if TYPE_CHECKING:
    from tidegate.core.settings import Settings

__all__ = ["allowed_source", "public_url"]

_ALL_ADDRESSES: Final = ("", "0.0.0.0", "::")
_NAME: Final = re.compile(r"([A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?")


def public_url(settings: Settings, addresses: Sequence[tuple[str, int]], host: str) -> str:
    """Return the URL of the public listener, as a page of the admin listener reaches it.

    Args:
        addresses: host and port of every public listener; only a Unix socket has no URL.
        host: the Host of the request for the page: a listener on all addresses is asked by this.

    Returns:
        Empty, where there is no URL.
    """
    found = next(((name, port) for name, port in addresses if unix_path(name) is None), None)
    if found is None:
        return ""
    name, port = found
    if name in _ALL_ADDRESSES:
        asked = _NAME.fullmatch(host)
        where = f"{asked[1]}:{port}" if asked else authority("127.0.0.1", port)
    else:
        where = authority(name, port)
    secure = "s" if settings.tls.certificate is not None else ""
    return f"ws{secure}://{where}{settings.server.path}"


def allowed_source(url: str) -> str:
    """Return what a Content-Security-Policy calls the server of such a URL.

    It has no form for IPv6 addresses (CSP 3, 2.3.1), so that all hosts stand for one.
    """
    scheme, _, rest = url.partition("://")
    where = rest.partition("/")[0]
    return f"{scheme}://*:{where.rpartition(':')[2]}" if "[" in where else f"{scheme}://{where}"
