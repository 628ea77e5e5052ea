"""URLs that the server itself sends requests to."""

from __future__ import annotations

from urllib.parse import urlsplit

from tidegate.addresses import is_loopback

__all__ = ["URL_WORDING", "is_url", "url_problem"]

URL_WORDING = "a URL of https, or of http on this machine"


def is_url(text: str) -> bool:
    """Tell whether a text is meant as a URL, and not as the path of a file."""
    return "://" in text


def url_problem(text: str, *, plain: bool = False) -> str:
    """Return what is wrong with a URL that requests are to be sent to; empty if nothing.

    Args:
        plain: whether http is allowed to any host. Otherwise what is received must not cross a
            network in the clear.
    """
    wording = "a URL of http or https" if plain else URL_WORDING
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return f"must be {wording}"
    host = parts.hostname
    if not host or not text.isascii() or any(c <= " " or c == "\x7f" for c in text):
        return f"must be {wording}"
    if parts.username is not None or parts.password is not None:
        return "must not hold a name or a password"
    if parts.fragment:
        return 'must not have a part behind "#"'
    if parts.scheme == "https" or (parts.scheme == "http" and (plain or is_loopback(host))):
        return ""
    return f"must be {wording}"
