"""Addresses: how they are written, shown and counted, and which are this machine's.

A listener takes a name, an IPv4 or IPv6 address (brackets are allowed), or `unix:` and a path.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Final

__all__ = [
    "UNIX_PEER",
    "UNIX_PREFIX",
    "Address",
    "Network",
    "authority",
    "counted",
    "is_local",
    "is_loopback",
    "matcher",
    "network",
    "parse",
    "range_of",
    "unbracketed",
    "unix_path",
]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNIX_PREFIX: Final = "unix:"
"""Begins the address of a Unix socket; its path follows."""

UNIX_PEER: Final = "unix"
"""Stands for the address of a peer on a Unix socket, which has no IP address."""

_BITS: Final = 128
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
# A translator in front of a server that speaks IPv6 only gives every IPv4 client of the internet an
# address in this network (RFC 6052 2.1, RFC 7755): it is nobody's own.
_TRANSLATED: Final = inet_pton(AF_INET6, "64:ff9b::")[:12]


def parse(text: str) -> Address | None:
    """Return the address, an IPv4-mapped one as IPv4; None if it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def counted(address: str) -> str:
    """Return the one spelling of an IP address.

    IPv6 is compressed and in lower case, and IPv4-mapped IPv6 becomes IPv4. What is no IP
    address is returned as it is.
    """
    parsed = parse(address)
    return address if parsed is None else str(parsed)


def network(address: str, prefix: int) -> str:
    """Return what an address is counted under, together with all others of the same. HOT.

    An IPv4 address is counted by itself. An IPv6 address is counted under its network, because one
    client has a whole network of them: a /64 as a rule (RFC 6177).

    Args:
        address: in the spelling of `counted`.
        prefix: the bits of an IPv6 network, 1 to 128; 128 for each address by itself.
    """
    if ":" not in address or prefix == _BITS:
        return address
    try:
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except OSError:
        return address  # no IP address
    if packed.startswith(_TRANSLATED):
        return address
    rest = _BITS - prefix
    first = int.from_bytes(packed) >> rest << rest
    return f"{inet_ntop(AF_INET6, first.to_bytes(16))}/{prefix}"


def range_of(text: str) -> Network | None:
    """Return a network in CIDR form, or the network of one address; None if it is neither."""
    if "/" not in text:
        address = parse(text)
        return None if address is None else ip_network(address)
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return ip_network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
    return found


def matcher(wanted: Network) -> Callable[[str], bool]:
    """Return a function that says whether an address, as `counted` spells it, is in a network."""
    if wanted.num_addresses == 1:
        return str(wanted.network_address).__eq__

    def matches(address: str) -> bool:
        parsed = parse(address)
        return parsed is not None and parsed in wanted

    return matches


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is this machine and cannot be reached from another."""
    if host.lower() == "localhost":
        return True
    address = parse(host)
    return address is not None and address.is_loopback


def is_local(host: str) -> bool:
    """Whether a listener's address cannot be reached from another machine."""
    return unix_path(host) is not None or is_loopback(unbracketed(host))


def unix_path(host: str) -> str | None:
    """Return the path in the address of a Unix socket, `unix:/run/t.sock`; None if it is none."""
    return host[len(UNIX_PREFIX) :] if host.startswith(UNIX_PREFIX) else None


def unbracketed(host: str) -> str:
    """Return a host without the brackets in which URLs have IPv6 addresses."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def authority(host: str, port: int) -> str:
    """Return host and port as URLs have them; a Unix socket as it is, for it has no port."""
    if unix_path(host) is not None:
        return host
    host = unbracketed(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
