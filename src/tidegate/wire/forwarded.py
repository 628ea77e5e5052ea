"""The client's address behind proxies: X-Forwarded-For, Forwarded (RFC 7239) and PROXY v2.

Anyone can write anything into these headers. Only what a trusted proxy added is believed, and
proxies add on the right, so the walk goes from the right and ends at the first address that is
not a trusted proxy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Literal

from tidegate.addresses import UNIX_PEER, UNIX_PREFIX, Address, parse
from tidegate.errors import ConfigError, PeerError

__all__ = ["MAX_PROXY_HEADER", "ProxyHeader", "TrustedProxies", "parse_proxy_v2"]

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
                if element == UNIX_PREFIX:
                    continue  # what nginx writes for a peer on its own Unix socket
                found = read(element)
                if found is None:
                    break
                address = found
                if not self._trusts(address):
                    break
        return peer if address is None else str(address)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A parsed PROXY v2 header.

    `source` is the client's address, None when the proxy speaks for itself (a health check) or
    the client has no IP address: the connection's own address counts then. `length` is how many
    bytes the header took; the client's own bytes follow.
    """

    source: str | None
    length: int


def parse_proxy_v2(data: bytes) -> ProxyHeader | None:
    """Parse the PROXY protocol v2 header at the start of `data`; None while it is incomplete.

    Raises PeerError when the bytes are not such a header, or one over MAX_PROXY_HEADER.
    Source: the PROXY protocol, section 2.2 (haproxy.org/download/3.0/doc/proxy-protocol.txt).
    """
    if data[:12] != _SIGNATURE[: len(data)]:
        raise PeerError("a PROXY v2 header must come first")
    if len(data) < 16:
        return None
    command, family = data[12], data[13]
    length = 16 + int.from_bytes(data[14:16], "big")
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
