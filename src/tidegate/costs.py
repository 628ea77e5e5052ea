"""What things cost this build: processor time and memory, as they were measured.

The one table of it: the doctor judges a machine with these figures, and `tidegate estimate`
calculates with them. They are rounded figures of several runs of `python -m bench.costs` and of
`make bench`, on two cores of an Intel Xeon, Linux 6.18, Python 3.11; a test compares them with
recorded runs. Processor time is that of the server, the kernel's part included; both ends were on
one machine, so a send has the work of the receiving socket in it too. Other machines differ by a
factor of two and more: `tidegate capacity` measures them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

__all__ = ["MEASURED", "Costs"]

_Bytes: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=60)]


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """The costs of one machine, as `tidegate capacity --costs` and `bench.costs` write them."""

    schema: Literal[1]
    bytes_per_connection: Annotated[float, msgspec.Meta(gt=0, le=1e9)]
    """Bytes of an idle connection with a user and a room, in the process (610 to 870)."""
    cpu_per_connect: _Seconds
    """Seconds of an attempt with a token that is admitted and joins a room; without TLS."""
    cpu_per_message: _Seconds
    """Seconds to read, check and publish one message, without its deliveries."""
    cpu_per_delivery: _Seconds
    """Seconds to write one message to one member."""
    cpu_per_tls_handshake: _Seconds | None = None
    """Seconds that TLS adds to a connect (TLS 1.3, ECDSA P-256); None where it is not known."""
    process_bytes: _Bytes = 64_000_000
    """Bytes of a server without connections (49 to 62 MB)."""
    kernel_bytes_per_connection: _Bytes = 4_200
    """Bytes of an idle TCP socket in the kernel, outside the process (3,900 to 4,220)."""
    tls_bytes_per_connection: _Bytes = 15_500
    """Bytes that OpenSSL adds to an idle connection, in the process (11,700 to 15,300)."""
    cpu_per_heartbeat: _Seconds = 20e-6
    """Seconds of a ping and its pong."""
    cpu_per_byte_in: _Seconds = 1.5e-9
    """Seconds for each byte of a message, to unmask and decode it."""
    cpu_per_byte_out: _Seconds = 0.13e-9
    """Seconds for each byte of a delivery."""
    cpu_per_tls_record: _Seconds = 4e-6
    """Seconds that TLS adds to a message or a delivery."""
    cpu_per_tls_byte: _Seconds = 2e-9
    """Seconds that TLS adds to each of their bytes."""
    measured: dict[str, object] = {}
    """Where and when: machine, date, command."""


MEASURED: Final = Costs(
    schema=1,
    bytes_per_connection=800,
    cpu_per_connect=145e-6,
    cpu_per_message=12e-6,
    cpu_per_delivery=5.5e-6,
    cpu_per_tls_handshake=1.1e-3,
    measured={
        "by": "python -m bench.costs",
        "date": "2026-11-27",
        "cpu": "Intel Xeon",
        "cores": 2,
        "kernel": "6.18",
        "python": "3.11",
    },
)
"""The costs of this build."""
