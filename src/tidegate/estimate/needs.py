"""The arithmetic: a line for each thing that costs something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod
from typing import Final

from tidegate.estimate.workload import Table, Workload
from tidegate.text import duration, number, size

__all__ = ["Term", "bandwidth", "memory", "processor"]

# A message of the native protocol in JSON, without its data: `{"type":"room_message","room":…`.
# What members get has the sender, its connection and the position as well.
_ENVELOPE_IN: Final = 50
_ENVELOPE_OUT: Final = 120
_FRAME: Final = 8
"""RFC 6455, section 5.2: 2 bytes, 2 more from 126 bytes on, and 4 of a client's mask."""
_TLS_RECORD: Final = 22
"""RFC 8446, section 5.2: a header of 5, a type of 1, a tag of 16."""
_SEGMENT: Final = 1448
"""Bytes in one packet: an MTU of 1,500 without the headers of IPv4 and TCP."""
_PACKET: Final = 90
"""Ethernet 38 (with preamble and gap), IPv4 20, TCP 32 (with timestamps)."""


@dataclass(frozen=True, slots=True)
class Term:
    """One line: what, the numbers that are multiplied, their product, and their source."""

    name: str
    formula: str
    value: float
    source: str


Factor = tuple[float, str]


def memory(load: Workload, table: Table, processes: int) -> Iterator[Term]:
    """Bytes on one machine, with so many processes."""
    connections = (load.connections, f"{load.connections:,}")
    each = [(processes, f"{processes} processes")] if processes > 1 else []

    def cost(key: str) -> Factor:
        return table.cost(key), size(table.cost(key))

    yield _term(
        "server without connections",
        table.source("process_bytes"),
        *each,
        cost("process_bytes"),
    )
    yield _term(
        "connections",
        table.source("bytes_per_connection"),
        connections,
        cost("bytes_per_connection"),
    )
    yield _term(
        "TLS state",
        table.source("tls_bytes_per_connection"),
        connections,
        _tls(load),
        cost("tls_bytes_per_connection"),
    )
    yield _term(
        "sockets, in the kernel",
        table.source("kernel_bytes_per_connection"),
        connections,
        cost("kernel_bytes_per_connection"),
    )
    buffers = (load.buffers, size(load.buffers))
    yield _term("slow clients, at most", "buffers.max_bytes", *each, buffers)


def processor(load: Workload, table: Table) -> Iterator[Term]:
    """Cores: seconds of processor time a second."""
    messages = (load.messages, f"{number(load.messages)} messages/s")
    deliveries = (load.deliveries, f"{number(load.deliveries)} deliveries/s")

    def line(name: str, key: str, *factors: Factor) -> Term:
        return _term(name, table.source(key), *factors, _time(table.cost(key)))

    def per_byte(key: str) -> Factor:
        cost = table.cost(key) * load.size
        return cost, f"{size(load.size)} x {table.cost(key) * 1e9:.3g} ns"

    beats = load.connections / load.heartbeat
    yield line(
        "heartbeats",
        "cpu_per_heartbeat",
        (beats, f"{load.connections:,} / {duration(load.heartbeat)}"),
    )
    yield line("messages", "cpu_per_message", messages)
    yield _term(
        "their bytes", table.source("cpu_per_byte_in"), messages, per_byte("cpu_per_byte_in")
    )
    yield line("deliveries", "cpu_per_delivery", deliveries)
    yield _term(
        "their bytes", table.source("cpu_per_byte_out"), deliveries, per_byte("cpu_per_byte_out")
    )
    records = load.messages + load.deliveries
    both = (records, f"{number(records)} messages and deliveries/s")
    yield line("TLS of both", "cpu_per_tls_record", both, _tls(load))
    yield _term(
        "TLS of their bytes",
        table.source("cpu_per_tls_byte"),
        both,
        _tls(load),
        per_byte("cpu_per_tls_byte"),
    )
    connects = (load.connects, f"{number(load.connects)} connects/s")
    yield line("connects", "cpu_per_connect", connects)
    yield line("TLS handshakes", "cpu_per_tls_handshake", connects, _tls(load))
    if load.storm is not None:
        back = (
            load.connections / load.storm,
            f"{load.connections:,} connections in {duration(load.storm)}",
        )
        yield line("storm: connects", "cpu_per_connect", back)
        yield line("storm: TLS handshakes", "cpu_per_tls_handshake", back, _tls(load))


def bandwidth(load: Workload, *, out: bool) -> Iterator[Term]:
    """Bits a second of one direction, headers of Ethernet included; handshakes are not in it."""
    inward = (load.messages, f"{number(load.messages)} messages/s")
    outward = (load.deliveries, f"{number(load.deliveries)} deliveries/s")
    envelope, sent, answered = (
        (_ENVELOPE_OUT, outward, inward) if out else (_ENVELOPE_IN, inward, outward)
    )
    name, other = ("deliveries", "messages") if out else ("messages", "deliveries")
    yield _term(name, "protocol", sent, *_wire(load, envelope))
    packets = ceil((load.size + (_ENVELOPE_IN if out else _ENVELOPE_OUT)) / _SEGMENT)
    yield _term(
        f"acknowledgements of {other}",
        "protocol",
        answered,
        (packets * _PACKET * 8, _bits(packets)),
    )
    beats = (
        load.connections / load.heartbeat,
        f"{load.connections:,} / {duration(load.heartbeat)}",
    )
    # A ping or a pong, and the acknowledgement of the other one.
    yield _term("heartbeats", "protocol", beats, (2 * _PACKET * 8, _bits(2)))


def _wire(load: Workload, envelope: int) -> tuple[Factor, ...]:
    """The bits of one message in its packets."""
    record = _TLS_RECORD * load.tls
    payload = load.size + envelope + _FRAME + record
    packets = ceil(payload / _SEGMENT)
    parts = f"{size(load.size)} + {envelope} + {_FRAME}{f' + {record:.0f} TLS' if record else ''}"
    return (((payload + packets * _PACKET) * 8, f"({parts} + {packets} x {_PACKET}) x 8"),)


def _bits(packets: int) -> str:
    return f"{packets} x {_PACKET} x 8" if packets > 1 else f"{_PACKET} x 8"


def _term(name: str, source: str, *factors: Factor) -> Term:
    value = prod(factor for factor, _ in factors)
    return Term(name, " x ".join(text for _, text in factors), value, source)


def _tls(load: Workload) -> Factor:
    return load.tls, f"{load.tls:.0%}"


def _time(seconds: float) -> Factor:
    text = f"{seconds * 1e6:.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"
    return seconds, text
