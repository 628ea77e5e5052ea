"""Control frames among bytes that are not read yet."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["CLOSE", "PING", "PONG", "Control", "take_controls"]

CLOSE, PING, PONG = 8, 9, 10
_WHOLE: Final = frozenset(0x80 | opcode for opcode in (CLOSE, PING, PONG))
_MOST: Final = 125  # RFC 6455 5.5


class Control(NamedTuple):
    """One control frame; its payload is as it came, masked unless `mask` is empty."""

    opcode: int
    mask: bytes
    payload: bytes


def take_controls(buffer: bytearray, at: int, masked: bool) -> tuple[list[Control], int]:
    """Cut whole control frames out of `buffer`, from the frame that begins at `at`.

    RFC 6455 5.4 lets control frames come between all others, so this changes no message. A close
    frame is the last one: what follows it is cut off. What breaks a rule stays where it is.

    Returns:
        The frames, and where the first frame begins that was not looked at.
    """
    found: list[Control] = []
    kept: list[bytearray] = []
    keep_from = 0
    while len(buffer) - at >= 2:
        first, second = buffer[at], buffer[at + 1]
        if (second >= 0x80) != masked:
            break
        size = second & 0x7F
        body = at + 2
        if size > _MOST:
            body += 2 if size == 126 else 8
            size = int.from_bytes(buffer[at + 2 : body], "big")
        start = body + 4 if masked else body
        end = start + size
        if first & 0x08:
            if first not in _WHOLE or second & 0x7F > _MOST or len(buffer) < end:
                break
            kept.append(buffer[keep_from:at])
            keep_from = end
            found.append(Control(first & 0x0F, bytes(buffer[body:start]), bytes(buffer[start:end])))
            if found[-1].opcode == CLOSE:
                keep_from = at = len(buffer)
                break
        elif len(buffer) < start:
            break
        at = end
    if kept:
        kept.append(buffer[keep_from:])
        before = len(buffer)
        buffer[:] = b"".join(kept)
        at -= before - len(buffer)
    return found, at
