"""What a client may send, and what is kept for one that reads slowly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting

__all__ = ["BuffersSettings", "DeflateSettings", "MessagesSettings", "OutboxSettings"]

_MOST: Final = 10_000_000
_FASTEST: Final = 1_000_000
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class MessagesSettings(Section):
    """What a client may send. A rate of 0 is no limit."""

    section: ClassVar[str] = "messages"
    max_size: int = setting(
        _MIB, "Size of a message, after decompression.", unit="bytes", low=1, high=_GIB
    )
    max_fragments: int = setting(1024, "Frames of one message.", low=1, high=1_000_000)
    fragment_timeout: float = setting(
        60.0, "Time from the first to the last frame of a message.", unit="s", low=0.1, high=3600
    )
    per_second: float = setting(
        100.0,
        "Messages per second from one connection; 100 is more than a person sends.",
        low=0,
        high=_FASTEST,
        live=True,
    )
    burst: int = setting(
        200, "Messages that may come at once; two seconds' worth.", low=1, high=_MOST, live=True
    )
    bytes_per_second: int = setting(
        0,
        "Bytes per second from one connection; off, because TCP slows down a fast sender.",
        unit="bytes/s",
        low=0,
        high=_GIB,
        live=True,
    )
    bytes_burst: int = setting(
        2 * _MIB,
        "Bytes that may come at once; one message of max_size always may.",
        unit="bytes",
        low=1,
        high=_GIB,
        live=True,
    )
    joins_per_second: float = setting(
        20.0,
        "Joins and requests for history per second; a client that is back may join all at once.",
        low=0,
        high=_FASTEST,
        live=True,
    )
    control_per_second: float = setting(
        20.0,
        "Pings and pongs per second; a heartbeat needs far fewer than one.",
        low=0,
        high=_FASTEST,
        live=True,
    )
    abuse_after: int = setting(
        20,
        "Messages refused within 10 s that close a connection; a client that heeds delays has few.",
        low=1,
        high=_MOST,
        live=True,
    )

    @property
    def bytes_at_once(self) -> int:
        """The burst of bytes that is in force: room for one message of `max_size` at least."""
        return max(self.bytes_burst, self.max_size)


@dataclass(frozen=True, slots=True)
class OutboxSettings(Section):
    """What is kept for a slow connection, and what happens when it is too much."""

    section: ClassVar[str] = "outbox"
    max_bytes: int = setting(
        _MIB,
        "Bytes kept for a connection that does not read them.",
        unit="bytes",
        low=1024,
        high=_GIB,
        live=True,
    )
    max_age: float = setting(
        10.0,
        "Time for which bytes are kept; what is older is no news, and the peer is likely gone.",
        unit="s",
        low=0.1,
        high=3600,
        live=True,
    )
    kernel_bytes: int = setting(
        65536,
        "Bytes that the kernel may hold unsent for a connection; more wait in its outbox.",
        unit="bytes",
        low=4096,
        high=_GIB,
        live=True,
    )
    policy: str = setting(
        "disconnect",
        "What happens beyond these bounds; a client sees a disconnect, but not a gap in a room.",
        choices=("disconnect", "drop_oldest", "drop_newest"),
        live=True,
    )


@dataclass(frozen=True, slots=True)
class BuffersSettings(Section):
    """What is kept for all connections together."""

    section: ClassVar[str] = "buffers"
    max_bytes: int = setting(
        128 * _MIB,
        "Unfinished messages and outboxes in all; beyond it, those who use the most are closed.",
        unit="bytes",
        low=_MIB,
        high=1024 * _GIB,
        live=True,
    )


@dataclass(frozen=True, slots=True)
class DeflateSettings(Section):
    """Compression of messages (permessage-deflate, RFC 7692)."""

    section: ClassVar[str] = "deflate"
    enabled: bool = setting(False, "Whether messages may be compressed.")
    context_takeover: bool = setting(
        False, "Whether each connection keeps a window: smaller messages, but far more memory."
    )
    # RFC 7692 7.1.2.1 allows 8 too, but zlib has no raw deflate with a window of 8 bits.
    window_bits: int = setting(12, "Window of the compressor.", unit="bits", low=9, high=15)
    min_size: int = setting(
        256, "Size below which a message is not compressed.", unit="bytes", low=0, high=_GIB
    )
    max_ratio: int = setting(
        200,
        "How many times as large as it came a message may inflate, above 64 KiB; text is below 20.",
        low=2,
        high=2000,
    )
