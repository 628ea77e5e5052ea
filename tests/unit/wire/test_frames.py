"""Frames and messages: every rule of RFC 6455, section 5 to 7, however the bytes arrive."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.codes import REASONS, Close
from tidegate.wire.deflate import Deflate
from tidegate.wire.frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    ProtocolError,
    encode,
    encode_masked,
)
from tidegate.wire.reader import HEAVY, Reader

MASK = b"\x37\xfa\x21\x3d"
Outcome = tuple[list[tuple[int, Any]], int | None]


def code_of(error: ProtocolError) -> int:
    """The close code of the row that a violation names."""
    reason = REASONS[error.reason]
    assert isinstance(reason, Close)
    return reason.code


def frame(first: int, payload: bytes = b"", mask: bytes = MASK, size: int | None = None) -> bytes:
    """Return a masked frame with any first byte, and any claim of its size."""
    whole = encode_masked(0, payload if size is None else b"\0" * size, mask)
    head = whole[: len(whole) - len(payload if size is None else b"\0" * size)]
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes((first,)) + head[1:] + masked


def read(
    *pieces: bytes, max_message: int = 1000, max_fragments: int = 10, **options: Any
) -> Outcome:
    """Return the messages in the pieces, and the close code if they break the protocol."""
    reader = Reader(max_message, max_fragments, **options)
    messages = []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (message := reader.next()) is not None:
                if message is not HEAVY:
                    messages.append(message)
        except ProtocolError as error:
            return messages, code_of(error)
    return messages, None


def deflate() -> Deflate:
    return Deflate(15, 15, send_takeover=False, receive_takeover=False, max_ratio=2000)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 999, 1000])
def test_messages_of_all_sizes(size: int) -> None:
    payload = bytes(range(256)) * 4
    text = "\xe9" * (size // 2) + "a" * (size % 2)
    assert read(encode_masked(BINARY, payload[:size], MASK)) == ([(BINARY, payload[:size])], None)
    assert read(encode_masked(TEXT, text.encode(), MASK)) == ([(TEXT, text)], None)


def test_a_client_reads_frames_that_are_not_masked() -> None:
    stream = encode(TEXT, b"Hello") + encode(PING, b"x") + encode(BINARY, b"\0" * 300)
    expected = [(TEXT, "Hello"), (PING, b"x"), (BINARY, b"\0" * 300)]
    assert read(stream, masked=False) == (expected, None)
    assert read(stream[:4], stream[4:20], stream[20:], masked=False) == (expected, None)
    assert read(encode_masked(TEXT, b"Hello", MASK), masked=False) == ([], 1002)


def test_control_frames_come_between_fragments() -> None:
    stream = (
        frame(TEXT, b"a")
        + frame(0x80 | PING, b"1")
        + frame(CONT)
        + frame(0x80 | PONG)
        + frame(0x80 | CONT, b"b")
        + frame(0x80 | BINARY, b"c")
    )
    expected = [(PING, b"1"), (PONG, b""), (TEXT, "ab"), (BINARY, b"c")]
    assert read(stream) == (expected, None)


def test_a_character_may_be_cut_between_fragments() -> None:
    euro = "\u20ac".encode()
    stream = frame(TEXT, euro[:1]) + frame(CONT, euro[1:2]) + frame(0x80, euro[2:])
    assert read(stream) == ([(TEXT, "\u20ac")], None)


BEFORE = frame(0x80 | TEXT, b"before")


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        pytest.param(encode(TEXT, b"Hello"), 1002, id="not masked"),
        *(
            pytest.param(frame(bits | opcode), 1002, id=f"reserved bits {bits:x} on {opcode}")
            for bits in (0xC0, 0xA0, 0x90, 0xF0)
            for opcode in (TEXT, CLOSE, PING)
        ),
        *(
            pytest.param(frame(0x80 | opcode), 1002, id=f"reserved opcode {opcode}")
            for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
        ),
        *(
            pytest.param(frame(opcode), 1002, id=f"control frame {opcode} fragmented")
            for opcode in (CLOSE, PING, PONG)
        ),
        *(
            pytest.param(frame(0x80 | opcode, size=126), 1002, id=f"control frame {opcode} long")
            for opcode in (CLOSE, PING, PONG)
        ),
        pytest.param(b"\x82\xfe\x00\x7d", 1002, id="16-bit length not minimal"),
        pytest.param(b"\x82\xff" + (65535).to_bytes(8, "big"), 1002, id="64-bit not minimal"),
        pytest.param(b"\x82\xff\x80" + b"\0" * 7, 1002, id="64-bit length with the top bit"),
        pytest.param(b"\x82\xff" + b"\xff" * 8, 1002, id="64-bit length all ones"),
        pytest.param(b"\x82\xff\x7f" + b"\xff" * 7, 1009, id="greatest 64-bit length"),
        pytest.param(frame(0x80), 1002, id="nothing to continue"),
        pytest.param(frame(CONT), 1002, id="nothing to continue, not final"),
        pytest.param(frame(TEXT, b"a") + frame(0x80 | TEXT), 1002, id="text within a message"),
        pytest.param(frame(TEXT) + frame(BINARY), 1002, id="binary within a message"),
        pytest.param(frame(TEXT) + frame(0xC0), 1002, id="reserved bit on a continuation"),
        pytest.param(b"\x82\xfe\x03\xe9", 1009, id="too big"),
        pytest.param(frame(BINARY, b"a" * 999) + b"\x80\x82", 1009, id="too big in two"),
        pytest.param(frame(BINARY) + frame(CONT) * 10, 1009, id="too many fragments"),
        pytest.param(frame(0x88, b"\x03"), 1002, id="close payload of one byte"),
        pytest.param(frame(0x88, b"\x03\xe8\xff"), 1007, id="close reason not UTF-8"),
        *(
            pytest.param(frame(0x88, code.to_bytes(2, "big")), 1002, id=f"close code {code}")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
        ),
    ],
)
def test_offences(stream: bytes, code: int) -> None:
    messages, error = read(BEFORE + stream)
    assert messages[0] == (TEXT, "before")
    assert error == code
    assert read(*(bytes((byte,)) for byte in BEFORE + stream)) == (messages, error)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4999])
def test_closes(code: int) -> None:
    assert read(frame(0x88, code.to_bytes(2, "big"))) == ([(CLOSE, (code, ""))], None)


def test_nothing_is_read_after_a_close() -> None:
    reader = Reader(1000, 10)
    reader.feed(frame(TEXT) + frame(0x88, b"\x03\xe8bye \xe2\x82\xac") + frame(0xFF))
    assert reader.next() == (CLOSE, (1000, "bye \u20ac"))
    reader.feed(frame(0x81, b"Hello"))
    assert reader.next() is None
    assert reader.idle
    assert read(frame(0x88)) == ([(CLOSE, (1005, ""))], None)


@pytest.mark.parametrize(
    "text",
    # Autobahn's 6.*: overlong forms, surrogates, beyond U+10FFFF, stray and missing bytes.
    [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xf4\x90\x80\x80",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"\xff",
        b"a\xe2\x82b",
        b"a\xe2\x82",
        b"\xf0\x9f\x98",
    ],
)
def test_text_that_is_not_utf8(text: bytes) -> None:
    whole = frame(0x81, text)
    assert read(whole) == ([], 1007)
    assert read(whole[:7], whole[7:]) == ([], 1007)
    assert read(frame(TEXT, text[:1]) + frame(0x80, text[1:])) == ([], 1007)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"abc", b"\xff"),
        (b"abc\xf4", b"\x90"),
        # Python's decoder waits for the third byte of a surrogate.
        (b"\xed\xa0", b"\x80"),
        (b"\xe2\x82", b"a"),
        (b"", b"\xc0"),
    ],
)
def test_bad_text_fails_at_its_first_bad_byte(good: bytes, bad: bytes) -> None:
    for start in (frame(0x81, good, size=100), frame(TEXT, good, size=100)):
        assert read(start) == ([], None)
        size = len(good)
        assert read(start, bytes((bad[0] ^ MASK[size % 4],))) == ([], 1007)


def test_limits_are_reached_and_not_passed() -> None:
    pieces = frame(BINARY, b"a" * 500) + frame(CONT) * 8 + frame(0x80, b"b" * 500)
    whole = (BINARY, b"a" * 500 + b"b" * 500)
    assert read(pieces * 2) == ([whole, whole], None)


def test_too_big_is_known_from_the_header() -> None:
    header = b"\x82\xff" + (2**40).to_bytes(8, "big")
    assert read(header) == ([], 1009)
    assert read(header[:-1]) == ([], None)


def test_compressed_messages() -> None:
    shared = deflate()
    hello = shared.compress(b"Hello \xe2\x82\xac")
    stream = (
        frame(0xC1, hello)
        + frame(0x81, b"plain")
        + frame(0x42, hello[:3])
        + frame(0x89)
        + frame(0x80, hello[3:])
        + frame(0xC2, shared.compress(b""))
    )
    expected = [
        (TEXT, "Hello \u20ac"),
        (TEXT, "plain"),
        (PING, b""),
        (BINARY, b"Hello \xe2\x82\xac"),
        (BINARY, b""),
    ]
    assert read(stream, deflate=shared) == (expected, None)
    assert read(*(bytes((byte,)) for byte in stream), deflate=shared) == (expected, None)


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        pytest.param(frame(0xC9), 1002, id="compressed ping"),
        pytest.param(frame(0x41) + frame(0xC0), 1002, id="compressed continuation"),
        pytest.param(frame(0xE1), 1002, id="second reserved bit"),
        pytest.param(frame(0xC1, deflate().compress(b"\xff")), 1007, id="inflates to no UTF-8"),
        pytest.param(frame(0xC2, b"\xff\xff"), 1007, id="corrupt"),
        pytest.param(frame(0xC2, deflate().compress(b"a" * 1001)), 1009, id="inflates to too much"),
        pytest.param(frame(0xC2, size=1127), 1009, id="too big before it is inflated"),
    ],
)
def test_offences_of_compressed_messages(stream: bytes, code: int) -> None:
    assert read(BEFORE + stream, deflate=deflate()) == ([(TEXT, "before")], code)


def test_data_that_does_not_compress_may_be_as_long_as_the_limit() -> None:
    noise = random.Random(1).randbytes(1000)
    compressed = deflate().compress(noise)
    assert len(compressed) > 1000
    assert read(frame(0xC2, compressed), deflate=deflate()) == ([(BINARY, noise)], None)
    fragments = frame(0x42, compressed[:500]) + frame(0x80, compressed[500:])
    assert read(fragments, deflate=deflate()) == ([(BINARY, noise)], None)


def test_idle_and_pending() -> None:
    reader = Reader(1000, 10)
    assert reader.idle
    stream = frame(TEXT, b"ab") + frame(0x80, b"cd")
    for size, byte in enumerate(stream[:-1], 1):
        reader.feed(bytes((byte,)))
        assert not reader.idle
        assert reader.pending > 0
        assert reader.next() is None
        assert not reader.idle, f"after {size} bytes"
    assert reader.pending == 0
    reader.feed(stream[-1:] + b"\x81")
    assert reader.next() == (TEXT, "abcd")
    assert reader.pending == 1
    assert not reader.idle
    reader.feed(frame(0x81)[1:])
    assert reader.next() == (TEXT, "")
    assert reader.idle


def test_a_large_message_in_small_reads() -> None:
    payload = random.Random(2).randbytes(1 << 20)
    stream = encode_masked(BINARY, payload, MASK)
    pieces = [stream[at : at + 4099] for at in range(0, len(stream), 4099)]
    assert read(*pieces, max_message=1 << 20) == ([(BINARY, payload)], None)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, Any]]]:
    """Return the bytes of some messages, cut into fragments, and the messages."""
    stream = b""
    expected: list[tuple[int, Any]] = []
    compressor = deflate()
    for content in draw(st.lists(st.one_of(st.text(max_size=40), st.binary(max_size=200)))):
        text = isinstance(content, str)
        payload = content.encode() if isinstance(content, str) else content
        opcode = TEXT if text else BINARY
        compressed = draw(st.booleans())
        if compressed:
            payload = compressor.compress(payload)
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        edges = [0, *cuts, len(payload)]
        for number, (start, end) in enumerate(pairwise(edges)):
            first = (opcode | compressed << 6) if number == 0 else CONT
            if number == len(cuts):
                first |= 0x80
            stream += frame(first, payload[start:end], draw(st.binary(min_size=4, max_size=4)))
            if number < len(cuts) and draw(st.booleans()):
                ping = draw(st.binary(max_size=5))
                stream += frame(0x80 | PING, ping)
                expected.append((PING, ping))
        expected.append((opcode, content))
    return stream, expected


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(at for at in cuts if at < len(stream)), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


CUTS = st.lists(st.integers(0, 600), max_size=12)


@settings(max_examples=60)
@given(conversations(), CUTS)
def test_any_split_gives_the_same_messages(
    conversation: tuple[bytes, list[tuple[int, Any]]], cuts: list[int]
) -> None:
    stream, expected = conversation
    assert read(stream, deflate=deflate()) == (expected, None)
    assert read(*cut(stream, cuts), deflate=deflate()) == (expected, None)


@settings(max_examples=60)
@given(conversations(), st.integers(0, 300), st.binary(min_size=1, max_size=3), CUTS)
def test_any_split_of_a_spoilt_stream_gives_the_same_outcome(
    conversation: tuple[bytes, list[tuple[int, Any]]], at: int, put: bytes, cuts: list[int]
) -> None:
    stream = conversation[0][:at] + put + conversation[0][at + len(put) :]
    options = {"max_message": 300, "max_fragments": 3}
    whole = read(stream, deflate=deflate(), **options)
    assert read(*cut(stream, cuts), deflate=deflate(), **options) == whole


@settings(max_examples=150)
@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, masked: bool, compressed: bool) -> None:
    _, error = read(data, masked=masked, deflate=deflate() if compressed else None)
    assert error in (None, 1002, 1007, 1009)


@settings(max_examples=60)
@given(
    st.sampled_from([TEXT, BINARY, PING, PONG]),
    st.text(max_size=31),
    st.binary(min_size=4, max_size=4),
)
def test_what_is_encoded_is_read(opcode: int, text: str, mask: bytes) -> None:
    payload = text.encode()
    expected = [(opcode, text if opcode == TEXT else payload)]
    assert read(encode_masked(opcode, payload, mask)) == (expected, None)
    assert read(encode(opcode, payload), masked=False) == (expected, None)


@given(conversations(), st.lists(st.integers(1, 1500)), st.randoms())
def test_control_frames_taken_early_change_no_message(
    conversation: tuple[bytes, list[tuple[int, Any]]], cuts: list[int], chance: random.Random
) -> None:
    stream, expected = conversation
    reader = Reader(1 << 20, 1000, deflate())
    messages: list[tuple[int, Any]] = []
    controls: list[tuple[int, Any]] = []
    for piece in cut(stream, cuts):
        reader.feed(piece)
        for _ in range(chance.randrange(3)):
            controls += reader.controls()
            for _ in range(chance.randrange(3)):
                if (item := reader.next()) is not None:
                    (messages if item[0] in (TEXT, BINARY) else controls).append(item)
    while (item := reader.next()) is not None:
        (messages if item[0] in (TEXT, BINARY) else controls).append(item)
    assert messages == [item for item in expected if item[0] != PING]
    assert controls == [item for item in expected if item[0] == PING]
    assert reader.idle


@pytest.mark.parametrize("at_once", [True, False])
def test_a_close_frame_taken_early_leaves_the_messages_before_it(at_once: bool) -> None:
    stream = frame(0x81, b"one") + frame(0x82, bytes(300)) + frame(0x88, b"\x03\xe8bye")
    reader = Reader(1000, 10)
    found = []
    for piece in [stream] if at_once else [bytes((byte,)) for byte in stream]:
        reader.feed(piece)
        found += reader.controls()
    assert found == [(CLOSE, (1000, "bye"))]
    reader.feed(frame(0x81, b"ignored"))
    assert reader.controls() == []
    assert [reader.next(), reader.next(), reader.next()] == [(TEXT, "one"), (BINARY, ANY), None]
    assert reader.idle


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        pytest.param(encode(CLOSE, b""), 1002, id="not masked"),
        pytest.param(frame(CLOSE), 1002, id="fragmented"),
        pytest.param(frame(0x98), 1002, id="reserved bit"),
        pytest.param(frame(0x8B), 1002, id="reserved opcode"),
        pytest.param(frame(0x88, size=126), 1002, id="too long"),
        pytest.param(encode(TEXT, b"x"), 1002, id="message not masked"),
    ],
)
def test_what_breaks_a_rule_is_not_taken_early(wrong: bytes, code: int) -> None:
    reader = Reader(1000, 10)
    reader.feed(BEFORE + wrong + frame(0x88))
    assert reader.controls() == []
    assert reader.next() == (TEXT, "before")
    with pytest.raises(ProtocolError) as caught:
        reader.next()
    assert code_of(caught.value) == code


@pytest.mark.parametrize(
    ("content", "code"), [(b"\x03", 1002), (b"\x03\xed", 1002), (b"\x03\xe8\xff", 1007)]
)
def test_a_wrong_close_frame_taken_early_says_so(content: bytes, code: int) -> None:
    reader = Reader(1000, 10)
    reader.feed(BEFORE + frame(0x88, content))
    with pytest.raises(ProtocolError) as caught:
        reader.controls()
    assert code_of(caught.value) == code


def heavy(reader: Reader, light: int) -> list[Any]:
    """What a reader says one call after the other; after HEAVY it may make whatever it has."""
    said: list[Any] = []
    bound = light
    while (item := reader.next(bound)) is not None:
        bound = light
        if item is HEAVY:
            said.append("heavy")
            bound = 1 << 63
        else:
            said.append(len(item[1]))
    return said


@pytest.mark.parametrize("cut", [1 << 20, 777])
def test_large_messages_are_heavy_before_they_are_made(cut: int) -> None:
    packer = deflate()
    stream = (
        frame(0x82, bytes(100))
        + frame(0x82, bytes(101))
        + frame(0xC2, packer.compress(bytes(100)))
        + frame(0xC2, packer.compress(bytes(5000)))
        + frame(BINARY, bytes(60))
        + frame(0x80 | CONT, bytes(60))
        + frame(0x81, b"end")
    )
    reader = Reader(10_000, 10, deflate())
    said: list[Any] = []
    for at in range(0, len(stream), cut):
        reader.feed(stream[at : at + cut])
        said += heavy(reader, 100)
    assert said == [100, "heavy", 101, 100, "heavy", 5000, "heavy", 120, 3]
    assert reader.idle


def test_many_fragments_are_heavy() -> None:
    reader = Reader(10_000, 1000)
    reader.feed(frame(BINARY) + frame(CONT, b"x") * 200 + frame(0x80 | CONT))
    said = heavy(reader, 1 << 20)
    assert said[-1] == 200
    assert said.count("heavy") >= 3


def test_a_heavy_message_that_is_too_big_is_refused() -> None:
    reader = Reader(4000, 10, deflate())
    reader.feed(frame(0xC2, deflate().compress(bytes(5000))))
    assert reader.next(100) is HEAVY
    with pytest.raises(ProtocolError, match="message too big"):
        reader.next()
