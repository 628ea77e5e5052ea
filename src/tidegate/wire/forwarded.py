"""The client's address behind proxies: X-Forwarded-For, Forwarded (RFC 7239) and PROXY.

Anyone can write anything into these headers. Only what a trusted proxy added is believed, and
proxies add on the right, so the walk goes from the right and ends at the first address that is
not a trusted proxy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal

from tidegate.addresses import UNIX_PEER, UNIX_PREFIX, Address, parse
from tidegate.errors import ConfigError, PeerError

__all__ = [
    "MAX_PROXY_HEADER",
    "MAX_PROXY_V1",
    "PROXY_START",
    "PROXY_V1",
    "ProxyHeader",
    "TrustedProxies",
    "forwarded_scheme",
    "parse_proxy",
    "proxy_length",
]

# Nobody stands more proxies in a row, and the walk must not take long for a header full of them.
_MAX_HOPS = 32

_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._\-]+))?"
_IPV4_NODE = re.compile(rf"([0-9.]{{7,15}}){_PORT}")
_IPV6_NODE = re.compile(rf"\[([0-9A-Fa-f:.]{{2,45}})\]{_PORT}|([0-9A-Fa-f:.]{{2,45}})")

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(rf'({_WORD})=(?:({_WORD})|"((?:[^"\\]|\\.)*)")')
# Spaces around ";" are not in the RFC's grammar, but some proxies write them.
_ELEMENT = re.compile(rf"{_PAIR.pattern}(?:[ \t]*+;[ \t]*+(?:{_PAIR.pattern})?)*")

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PROXY_START = 12
"""Bytes that tell the versions apart. The shortest header, `PROXY UNKNOWN` with CRLF, has 15."""
PROXY_V1 = b"PROXY "
"""How a header of version 1 begins."""
MAX_PROXY_V1 = 107
"""The longest header of version 1, in bytes, CRLF included (section 2.1)."""
MAX_PROXY_HEADER = 4096
"""The longest PROXY v2 header that is accepted, in bytes; the protocol would allow 65,551."""


def _node(text: str) -> Address | None:
    """Parse one address with or without a port; None for names, "unknown" and nonsense."""
    match = _IPV4_NODE.fullmatch(text) or _IPV6_NODE.fullmatch(text)
    return None if match is None else parse(match[match.lastindex or 1])


def _forwarded_for(element: str) -> Address | None:
    """Parse the `for` of one element of Forwarded; None if it has none or is malformed."""
    if _ELEMENT.fullmatch(element) is None:
        return None
    nodes = [
        bare or re.sub(r"\\(.)", r"\1", quoted)
        for name, bare, quoted in _PAIR.findall(element)
        if name.lower() == "for"
    ]
    return _node(nodes[0]) if len(nodes) == 1 else None


def forwarded_scheme(value: str) -> str:
    """Return the `proto` of the last element of Forwarded, in lower case; empty if it has none."""
    element = value.rpartition(",")[2].strip(" \t")
    if _ELEMENT.fullmatch(element) is None:
        return ""
    schemes = [
        (bare or quoted).lower()
        for name, bare, quoted in _PAIR.findall(element)
        if name.lower() == "proto"
    ]
    return schemes[0] if len(schemes) == 1 else ""


class TrustedProxies:
    """The networks whose word about the client's address is taken.

    A peer on a Unix socket is always one: who may connect to it, the permissions of its file say.
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Sequence[str]) -> None:
        """Take networks in CIDR form or single addresses; ConfigError names a bad one."""
        parsed = []
        for network in networks:
            try:
                parsed.append(ip_network(network))
            except ValueError as error:
                raise ConfigError(f"{network!r} is not a network: {error}") from None
        self._networks = tuple(parsed)

    def __contains__(self, address: str) -> bool:
        if address == UNIX_PEER:
            return True
        if not self._networks:
            return False
        parsed = parse(address)
        return parsed is not None and self._trusts(parsed)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def client(
        self,
        peer: str,
        header_value: str | None,
        style: Literal["x-forwarded-for", "forwarded"],
    ) -> str:
        """Return the address of the client behind the connection from `peer`.

        `header_value` is the whole header named by `style`, repeated fields joined with commas.
        The answer is the right-most address that is not a trusted proxy. If the walk meets
        something that is no address before it, the last proxy that was found stands for the
        client, so that nobody escapes being counted.
        """
        unix = peer == UNIX_PEER
        if not self._networks and not unix:
            return peer
        address = parse(peer)
        if address is None and not unix:
            return peer
        read: Callable[[str], Address | None] = (
            _node if style == "x-forwarded-for" else _forwarded_for
        )
        if header_value is not None and (address is None or self._trusts(address)):
            # A comma within a quoted string splits an element of Forwarded in two and makes it
            # malformed. That is wanted: read from the right, what a client put in front of the
            # proxy's own element cannot change how that one is read.
            for element in header_value.rsplit(",", _MAX_HOPS)[: -_MAX_HOPS - 1 : -1]:
                element = element.strip(" \t")
                # RFC 9110, section 5.6.1.2: empty elements of a list are skipped. "unix:" is what
                # nginx writes for a peer on its own Unix socket.
                if not element or element == UNIX_PREFIX:
                    continue
                found = read(element)
                if found is None:
                    break
                address = found
                if not self._trusts(address):
                    break
        return peer if address is None else str(address)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A parsed PROXY header.

    `source` is the client's address, None when the proxy speaks for itself (a health check) or
    the client has no IP address: the connection's own address counts then. `length` is how many
    bytes the header took; the client's own bytes follow.
    """

    source: str | None
    length: int


def parse_proxy(data: bytes) -> ProxyHeader | None:
    """Parse the PROXY header, version 1 or 2, at the start of `data`; None while it is incomplete.

    Raises PeerError when the bytes are not such a header, or one that is too long.
    Source: the PROXY protocol, section 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt).
    """
    if data[:6] == PROXY_V1[: len(data)]:
        return _parse_v1(data)
    if data[:12] == _SIGNATURE[: len(data)]:
        return _parse_v2(data)
    raise PeerError("a PROXY header must come first")


def proxy_length(data: bytes) -> int:
    """How long a version 2 header is whose first bytes these are, as far as they tell."""
    return 16 if len(data) < 16 else 16 + int.from_bytes(data[14:16], "big")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_PROXY_V1)
    if end < 0:
        if len(data) >= MAX_PROXY_V1:
            raise PeerError("the PROXY header is too long")
        return None
    words = data[:end].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":  # whatever follows is to be ignored
        return ProxyHeader(None, end + 2)
    version = {"TCP4": 4, "TCP6": 6}.get(words[1])
    if version is None or len(words) != 6 or not all(map(_is_port, words[4:])):
        raise PeerError("the PROXY header is malformed")
    try:
        source, destination = map(ip_address, words[2:4])
    except ValueError:
        raise PeerError("the addresses in the PROXY header are not valid") from None
    # A zone (RFC 4007 11) means something to one machine only, and may be any text.
    zoned = isinstance(source, IPv6Address) and source.scope_id is not None
    if zoned or source.version != version or destination.version != version:
        raise PeerError("the addresses in the PROXY header are not valid")
    if isinstance(source, IPv6Address):
        source = source.ipv4_mapped or source
    return ProxyHeader(str(source), end + 2)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    command, family = data[12], data[13]
    length = proxy_length(data)
    if command not in (0x20, 0x21):
        raise PeerError("the PROXY header is not version 2")
    if length > MAX_PROXY_HEADER:
        raise PeerError("the PROXY header is too long")
    if len(data) < length:
        return None
    # Stream families only: unspecified, TCP over IPv4, TCP over IPv6, Unix.
    size = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}.get(family)
    if command == 0x20:
        return ProxyHeader(None, length)
    if size is None or length < 16 + size:
        raise PeerError("the addresses in the PROXY header are not valid")
    if family == 0x11:
        return ProxyHeader(str(IPv4Address(data[16:20])), length)
    if family == 0x21:
        address = IPv6Address(data[16:32])
        return ProxyHeader(str(address.ipv4_mapped or address), length)
    return ProxyHeader(None, length)
