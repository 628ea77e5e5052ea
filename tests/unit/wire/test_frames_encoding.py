"""Frames as they are written: lengths, masks, and the reasons of closes."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tidegate.errors import UsageError
from tidegate.wire.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    apply_mask,
    encode,
    encode_close,
    encode_masked,
)

MASK = b"\x37\xfa\x21\x3d"


@pytest.mark.parametrize(
    ("expected", "opcode", "payload"),
    [
        # RFC 6455, section 5.7.
        ("810548656c6c6f", TEXT, b"Hello"),
        ("890548656c6c6f", PING, b"Hello"),
        ("827e0100" + "00" * 256, BINARY, b"\0" * 256),
        ("827f0000000000010000" + "00" * 65536, BINARY, b"\0" * 65536),
        ("8200", BINARY, b""),
        ("827d" + "00" * 125, BINARY, b"\0" * 125),
        ("827e007e" + "00" * 126, BINARY, b"\0" * 126),
        ("827effff" + "00" * 65535, BINARY, b"\0" * 65535),
    ],
)
def test_encode(expected: str, opcode: int, payload: bytes) -> None:
    assert encode(opcode, payload) == bytes.fromhex(expected)


def test_encode_compressed() -> None:
    assert encode(TEXT, b"Hello", rsv1=True)[0] == 0xC1


def test_encode_masked() -> None:
    assert encode_masked(TEXT, b"Hello", MASK) == bytes.fromhex("818537fa213d7f9f4d5158")
    assert encode_masked(PONG, b"", MASK) == b"\x8a\x80" + MASK


def test_masks_without_the_compiled_speedup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    spec = importlib.util.find_spec("tidegate.wire.frames")
    assert spec is not None
    assert spec.loader is not None
    pure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pure)
    assert pure.apply_mask is not apply_mask
    data = bytes(range(256))
    for size in (0, 1, 3, 4, 5, 256):
        assert pure.apply_mask(bytearray(data[:size]), MASK) == apply_mask(data[:size], MASK)


@pytest.mark.parametrize(
    ("code", "reason", "payload"),
    [
        (1000, "", b"\x03\xe8"),
        (1013, "full", b"\x03\xf5full"),
        (4999, "\u20ac", b"\x13\x87\xe2\x82\xac"),
        (1005, "", b""),
        (1000, "a" * 123, b"\x03\xe8" + b"a" * 123),
        (1000, "a" * 124, b"\x03\xe8" + b"a" * 123),
        (1000, "a" * 122 + "\xe9", b"\x03\xe8" + b"a" * 122),
        (1000, "a" * 121 + "\xe9", b"\x03\xe8" + b"a" * 121 + b"\xc3\xa9"),
        (1000, "\U0001f600" * 40, b"\x03\xe8" + "\U0001f600".encode() * 30),
        (1000, "\ud800", b"\x03\xe8?"),
    ],
)
def test_encode_close(code: int, reason: str, payload: bytes) -> None:
    assert encode_close(code, reason) == encode(CLOSE, payload)


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000, 65536])
def test_encode_close_refuses_codes_that_may_not_be_sent(code: int) -> None:
    with pytest.raises(UsageError):
        encode_close(code)
