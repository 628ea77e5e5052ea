"""The difference between two versions of some bytes, in the delta format of Fossil.

A delta is made of terms; numbers are in Fossil's own base 64, the highest digit first:

    SIZE\\n           the size of the new version; it comes first
    COUNT@OFFSET,    copy so many bytes of the old version, from this offset
    COUNT:BYTES      so many new bytes
    CHECKSUM;        of the new version; it comes last

The format: https://fossil-scm.org/home/doc/tip/www/delta_format.wiki. How to find the terms is left
to who writes them. Fossil's own way rolls a hash over every byte, which is slow in Python: here a
dict finds the blocks of the old version, and the work is bounded.
"""

from __future__ import annotations

from struct import unpack
from typing import Final

__all__ = ["DeltaError", "apply", "create"]

_DIGITS: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_VALUES: Final = {digit: value for value, digit in enumerate(_DIGITS)}
_BLOCK: Final = 16
# What a delta may cost: about a millisecond. What is not found by then is sent as it is.
_MOST_MISSES: Final = 4096
_MOST_COPIES: Final = 512


class DeltaError(ValueError):
    """A delta is malformed, or belongs to another version."""


def create(old: bytes, new: bytes, *, text: bool = False) -> bytes:
    """Return the delta from one version to the next.

    Args:
        old: the version that the receiver has; empty for none.
        new: the version that it is to have.
        text: whether both are UTF-8, and the delta is to be UTF-8 too: no character is cut.
    """
    size = len(new)
    terms = [_number(size), b"\n"]
    # Most of what changes is a few bytes in the middle.
    head = _common(old, 0, new, 0)
    tail = _common(old[head:][::-1], 0, new[head:][::-1], 0)
    if text:
        head = _back(new, head)
        tail = size - _on(new, size - tail)
    if head < _BLOCK:
        head = 0
    if tail < _BLOCK:
        tail = 0
    if head:
        terms += _copy(0, head)
    _blocks(terms, old[head : len(old) - tail], new[head : size - tail], head, text)
    if tail:
        terms += _copy(len(old) - tail, tail)
    terms += (_number(_checksum(new)), b";")
    return b"".join(terms)


def apply(old: bytes, delta: bytes) -> bytes:
    """Return the new version.

    Args:
        old: the version that the delta was made from.
        delta: what `create` returned.

    Raises:
        DeltaError: the delta is malformed, or was made from another version.
    """
    size, at = _read(delta, 0)
    if delta[at : at + 1] != b"\n":
        raise DeltaError("a delta begins with a size and a line feed")
    at += 1
    parts: list[bytes] = []
    left = size
    while True:
        count, at = _read(delta, at)
        mark = delta[at : at + 1]
        at += 1
        if mark == b";":
            break
        if mark == b"@":
            start, at = _read(delta, at)
            if delta[at : at + 1] != b",":
                raise DeltaError("a copy ends with a comma")
            part = old[start : start + count]
            at += 1
        elif mark == b":":
            part = delta[at : at + count]
            at += count
        else:
            raise DeltaError("a term of a delta is @, : or ;")
        left -= count
        if len(part) != count or left < 0:
            raise DeltaError("the delta is of another version")
        parts.append(part)
    new = b"".join(parts)
    if left or at != len(delta) or _checksum(new) != count:
        raise DeltaError("the delta is of another version")
    return new


def _blocks(terms: list[bytes], old: bytes, new: bytes, offset: int, text: bool) -> None:
    """Add the terms for what is between the common beginning and the common end.

    Args:
        terms: what they are added to.
        old: that part of the old version, which begins at `offset`.
        new: that part of the new one.
        offset: as above.
        text: as in `create`.
    """
    last = len(old) // _BLOCK * _BLOCK - _BLOCK
    blocks = {old[at : at + _BLOCK]: at for at in range(last, -1, -_BLOCK)}  # the first ones count
    size = len(new)
    at = begun = shift = copies = 0
    misses = 0 if blocks else _MOST_MISSES
    while at <= size - _BLOCK and misses < _MOST_MISSES and copies < _MOST_COPIES:
        block = new[at : at + _BLOCK]
        # Where the last copy would go on, if not for what has changed: most edits keep lengths.
        start: int | None = at + shift
        if at + shift < 0 or old[at + shift : at + shift + _BLOCK] != block:
            start = blocks.get(block)
        if start is None:
            at += 1
            misses += 1
            continue
        end = at + _BLOCK + _common(old, start + _BLOCK, new, at + _BLOCK)
        shift = start - at
        while at > begun and start and old[start - 1] == new[at - 1]:
            at -= 1
            start -= 1
        if text:
            at = _on(new, at)
            end = max(at, _back(new, end))
        if at > begun:
            terms += _literal(new[begun:at])
        if end > at:
            terms += _copy(offset + at + shift, end - at)
        at = begun = end
        copies += 1
    if begun < size:
        terms += _literal(new[begun:])


def _common(one: bytes, i: int, other: bytes, j: int) -> int:
    """How many bytes are the same, from two offsets on."""
    most = min(len(one) - i, len(other) - j)
    same, step, grows = 0, _BLOCK, True
    while same < most and step:
        end = min(same + step, most)
        if one[i + same : i + end] == other[j + same : j + end]:
            same = end
            step = step * 2 if grows else step // 2
        else:
            grows = False
            step //= 2
    return same


def _back(text: bytes, at: int) -> int:
    """Where the character at an offset begins: bytes of 10xxxxxx go on with one (RFC 3629 3)."""
    while 0 < at < len(text) and text[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _on(text: bytes, at: int) -> int:
    """The offset itself if a character begins there, or else where the next one begins."""
    while at < len(text) and text[at] & 0xC0 == 0x80:
        at += 1
    return at


def _copy(offset: int, count: int) -> tuple[bytes, ...]:
    return (_number(count), b"@", _number(offset), b",")


def _literal(part: bytes) -> tuple[bytes, ...]:
    return (_number(len(part)), b":", part)


def _number(value: int) -> bytes:
    digits = bytearray()
    while True:
        digits.append(_DIGITS[value & 63])
        value >>= 6
        if not value:
            return bytes(digits[::-1])


def _read(delta: bytes, at: int) -> tuple[int, int]:
    """Read a number; return it and the offset behind it."""
    value = 0
    start = at
    for digit in delta[at : at + 6]:  # 36 bits
        found = _VALUES.get(digit)
        if found is None:
            break
        value = value * 64 + found
        at += 1
    if at == start:
        raise DeltaError("a term of a delta begins with a number")
    return value, at


def _checksum(data: bytes) -> int:
    """The sum of the 32-bit integers, big-endian; the last is filled up with zeros."""
    words = -(-len(data) // 4)
    total: int = sum(unpack(f">{words}I", data.ljust(words * 4, b"\0")))
    return total & 0xFFFFFFFF
