"""Web origins: which pages may connect, compared in the one form in which browsers write them.

A browser says where a page comes from by scheme, host and port (RFC 6454 6.2). It writes them in
lower case, international names in Punycode, addresses in their shortest form, and leaves out the
port that is the scheme's own (WHATWG URL 3.5 and 4.5). A list of origins is read in the same way,
so that "https://Bücher.example:443" is found under the name that browsers send.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from unicodedata import category, normalize

__all__ = ["Origins", "normal_origin"]

_PORTS: Final = {"http": "80", "https": "443"}
_AS_THEY_ARE: Final = ("*", "null", "file://")
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://"
    r"(?P<host>\[[^\]/?#@]*\]|(?!\[)[^:/?#@\[\]]*)(?P<colon>:(?P<port>[^/?#@]*))?"
)
_ASCII_LABEL: Final = re.compile(r"[a-z0-9_\-]+|\*")
_OPAQUE_HOST: Final = re.compile(r"[a-z0-9._~\-]+|\*")
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")
_ANY_LABEL: Final = r"[a-z0-9_\-]+"
_ANY_PORT: Final = r"(?::[0-9]+)?"
_MAX_LABEL: Final = 63  # RFC 1035 2.3.4
_MAX_NAME: Final = 253
_MAX_ORIGIN: Final = 300  # a scheme, the longest name and a port


def normal_origin(origin: str) -> str:
    """Return an origin as browsers write it.

    A label of the host and the port may be `*`, for any. "*", "null" and "file://" stay as they
    are: the last two are what browsers send for pages from files.

    Raises:
        ValueError: it is no origin, or no page can have it. The text says why.
    """
    if origin in _AS_THEY_ARE:
        return origin
    if "://" not in origin:
        raise ValueError('it has no scheme; write it as in "https://example.com"')
    match = _ORIGIN.match(origin)
    if match is None:
        raise ValueError("its scheme or its host has a character that is not allowed there")
    rest = origin[match.end() :]
    if rest.startswith("@") or "@" in match["host"] + (match["port"] or ""):
        raise ValueError("it has a user name; an origin is only scheme, host and port")
    scheme = match["scheme"].lower()
    if scheme in ("ws", "wss"):
        page = "https" if scheme == "wss" else "http"
        raise ValueError(f'it is no address of a page; the page itself comes from "{page}://"')
    if scheme == "file":
        raise ValueError('browsers name no file; list "file://", and "null" beside it')
    if rest:
        raise ValueError('it has something after the host and the port; leave out even the "/"')
    if not match["host"]:
        raise ValueError("it has no host")
    host = _web_host(match["host"]) if scheme in _PORTS else _opaque_host(match["host"])
    port = _port(match["port"] or "", _PORTS.get(scheme))
    return f"{scheme}://{host}{port}"


def _port(port: str, usual: str | None) -> str:
    if port == "*":
        return ":*"
    if not port:
        return ""
    if not (port.isascii() and port.isdigit() and len(port) <= 10 and int(port) <= 65535):
        raise ValueError('its port must be a number from 0 to 65535, or "*"')
    port = str(int(port))
    return "" if port == usual else f":{port}"


def _opaque_host(host: str) -> str:
    # Such as the id of a browser's extension; Firefox invents one for each installation, hence "*".
    host = host.lower()
    if _OPAQUE_HOST.fullmatch(host) is None:
        raise ValueError("its host has a character that is not allowed there")
    return host


def _web_host(host: str) -> str:
    if host.startswith("["):
        try:
            if "%" in host:  # a zone (RFC 4007 11), which URLs do not have
                raise AddressValueError
            return f"[{IPv6Address(host[1:-1]).compressed}]"
        except AddressValueError:
            raise ValueError("what is in its brackets is no IPv6 address") from None
    labels = [_label(label) for label in _mapped(host).split(".")]
    rooted = len(labels) > 1 and not labels[-1]  # "example.com." is a host of its own
    names = labels[:-1] if rooted else labels
    if not all(names):
        raise ValueError("its host has an empty label")
    if names[-1] == "*":
        raise ValueError('the last label of its host must not be "*"')
    if _NUMBER.fullmatch(names[-1]) is not None:
        if "*" in names:
            raise ValueError('an IP address must not have "*" in it')
        return _ipv4(names)
    if len(".".join(labels)) > _MAX_NAME:
        raise ValueError(f"its host has more than {_MAX_NAME} characters")
    return ".".join(labels)


def _mapped(host: str) -> str:
    """Map a name as UTS 46 does: case, width and other forms of one character are one."""
    # One by one, because Python has a rule of its own for a sigma at the end of a word.
    lower = "".join(map(str.lower, host))
    return normalize("NFKC", lower).lower().replace("\u3002", ".")  # the ideographic full stop


def _label(label: str) -> str:
    if label.isascii():
        if "*" in label and label != "*":
            raise ValueError(
                '"*" stands for a whole label of the host, as in "https://*.a.example"'
            )
        if label and _ASCII_LABEL.fullmatch(label) is None:
            raise ValueError("its host has a character that is not allowed there")
        if label.startswith("xn--"):
            try:
                label[4:].encode().decode("punycode")
            except UnicodeError:
                raise ValueError("its host is not valid Punycode") from None
    else:
        if not all(map(_may_stand, label)):
            raise ValueError("its host has a character that is not allowed there")
        label = "xn--" + label.encode("punycode").decode("ascii")  # RFC 3492
    if len(label) > _MAX_LABEL:
        raise ValueError(f"a label of its host has more than {_MAX_LABEL} characters")
    return label


def _may_stand(letter: str) -> bool:
    """Whether a character may stand in a label that is not ASCII as a whole."""
    if letter.isascii():
        return _ASCII_LABEL.fullmatch(letter) is not None
    return category(letter)[0] in "LMNS"


def _ipv4(parts: Sequence[str]) -> str:
    """Read an address as WHATWG URL 3.5 does: parts may be octal or hex, the last may be long."""
    try:
        numbers = [_number(part) for part in parts]
        *first, last = numbers
        if len(numbers) > 4 or any(number > 255 for number in first):
            raise ValueError
        room = 256 ** (4 - len(first))
        if last >= room:
            raise ValueError
        whole = sum(number << 8 * (3 - at) for at, number in enumerate(first)) + last
    except ValueError:
        raise ValueError("its host ends in a number, but is no IPv4 address") from None
    return str(IPv4Address(whole))


def _number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if part.startswith("0") and len(part) > 1 else 10)


class Origins:
    """The origins whose pages may connect (RFC 6455 10.2).

    Args:
        allowed: origins in any spelling, with `*` for a label or the port; "*" for all. Empty for
            pages of the server itself only.

    Raises:
        ValueError: one is no origin.
    """

    __slots__ = ("_all", "_exact", "_patterns")

    def __init__(self, allowed: Iterable[str]) -> None:
        normal = [normal_origin(origin) for origin in allowed]
        self._all = "*" in normal
        self._exact = frozenset(origin for origin in normal if "*" not in origin)
        patterns = [_pattern(origin) for origin in normal if "*" in origin]
        self._patterns = re.compile("|".join(patterns)) if patterns else None

    def allows(self, origin: str, host: str, secure: bool) -> bool:
        """Tell whether a page from `origin` may connect to `host`, the Host of its request. HOT.

        With nothing listed the page must come from `host` itself, over https when the connection
        is `secure`. A plain connection also takes https, for TLS may end at a proxy in front.
        """
        if self._all or self._lists(origin):
            return True
        if not (self._exact or self._patterns):
            host = host.lower()
            if origin == "https://" + host.removesuffix(":443"):
                return True
            if not secure and origin == "http://" + host.removesuffix(":80"):
                return True
        # Browsers write the one form, so what follows is for other programs, and for refusals.
        written = _read(origin)
        if written is None:
            return False
        if self._exact or self._patterns:
            return written != origin and self._lists(written)
        return written == _read(f"https://{host}") or (
            not secure and written == _read(f"http://{host}")
        )

    def _lists(self, origin: str) -> bool:
        return origin in self._exact or (
            self._patterns is not None and self._patterns.fullmatch(origin) is not None
        )


def _pattern(origin: str) -> str:
    port = ""
    if origin.endswith(":*"):
        origin, port = origin[:-2], _ANY_PORT
    return re.escape(origin).replace(r"\*", _ANY_LABEL) + port


def _read(origin: str) -> str | None:
    """Return what a peer sent as browsers write it; None if it is no origin."""
    if len(origin) > _MAX_ORIGIN or not origin.isascii() or "*" in origin:
        return None
    try:
        return normal_origin(origin)
    except ValueError:
        return None
