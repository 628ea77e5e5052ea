"""Addresses: the one form in which they are counted, and which of them are this machine's."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["Address", "counted", "is_loopback", "parse"]

Address = IPv4Address | IPv6Address


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
    """Return the one spelling of an IP address under which it is counted.

    IPv6 is compressed and in lower case, and IPv4-mapped IPv6 becomes IPv4. What is no IP
    address is returned as it is.
    """
    parsed = parse(address)
    return address if parsed is None else str(parsed)


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is this machine and cannot be reached from another."""
    if host.lower() == "localhost":
        return True
    address = parse(host)
    return address is not None and address.is_loopback
