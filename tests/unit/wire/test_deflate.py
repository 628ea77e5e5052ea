"""permessage-deflate: which offers are accepted, and what becomes of the messages."""

from __future__ import annotations

import random
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.codes import REASONS, Close
from tidegate.wire.deflate import Deflate, negotiate
from tidegate.wire.frames import ProtocolError

PMD = "permessage-deflate"
SNCT = "server_no_context_takeover"
CNCT = "client_no_context_takeover"
SMWB = "server_max_window_bits"
CMWB = "client_max_window_bits"


def code_of(error: ProtocolError) -> int:
    """The close code of the row that a violation names."""
    reason = REASONS[error.reason]
    assert isinstance(reason, Close)
    return reason.code


def stateless() -> Deflate:
    return Deflate(12, 15, send_takeover=False, receive_takeover=False, max_ratio=2000)


def inflate(data: bytes, bits: int) -> bytes:
    """Inflate as a peer with a window of so many bits does."""
    return zlib.decompressobj(-bits).decompress(data + b"\x00\x00\xff\xff")


def failure(deflate: Deflate, data: bytes, max_size: int = 1000) -> int:
    with pytest.raises(ProtocolError) as caught:
        deflate.decompress(data, max_size)
    return code_of(caught.value)


@pytest.mark.parametrize(
    ("offers", "kept", "not_kept"),
    [
        (PMD, "", f"; {SNCT}; {CNCT}"),
        (f"{PMD}; {SNCT}", f"; {SNCT}", f"; {SNCT}; {CNCT}"),
        (f"{PMD}; {CNCT}", f"; {CNCT}", f"; {SNCT}; {CNCT}"),
        (f"{PMD}; {CNCT};{SNCT}", f"; {SNCT}; {CNCT}", f"; {SNCT}; {CNCT}"),
        (f"{PMD}; {CMWB}", f"; {CMWB}=12", f"; {SNCT}; {CNCT}; {CMWB}=12"),
        (f"{PMD}; {CMWB}=15", f"; {CMWB}=12", f"; {SNCT}; {CNCT}; {CMWB}=12"),
        (f"{PMD}; {CMWB}=9", f"; {CMWB}=9", f"; {SNCT}; {CNCT}; {CMWB}=9"),
        (f"{PMD}; {CMWB}=8", f"; {CMWB}=8", f"; {SNCT}; {CNCT}; {CMWB}=8"),
        (f"{PMD}; {SMWB}=9", f"; {SMWB}=9", f"; {SNCT}; {CNCT}; {SMWB}=9"),
        (f"{PMD}; {SMWB}=15", f"; {SMWB}=12", f"; {SNCT}; {CNCT}; {SMWB}=12"),
        (f'{PMD} ;{SMWB} = "10"', f"; {SMWB}=10", f"; {SNCT}; {CNCT}; {SMWB}=10"),
        (f"{PMD};{SMWB}=10;{CMWB}", f"; {SMWB}=10; {CMWB}=12", None),
        # The first acceptable offer wins, whatever stands around it.
        (f"{PMD}; {SMWB}=8, {PMD}", "", f"; {SNCT}; {CNCT}"),
        (f"{PMD}; {SMWB}=10, {PMD}; {SMWB}=9", f"; {SMWB}=10", None),
        (f"{PMD}; unknown,{PMD}; {SMWB}=9 , {PMD}", f"; {SMWB}=9", None),
        (f'x-webkit; a="b"; c, {PMD}', "", None),
        (f"{PMD}2, x{PMD}, {PMD}; {SNCT}", f"; {SNCT}", None),
    ],
)
def test_offers_that_are_accepted(offers: str, kept: str, not_kept: str | None) -> None:
    with_takeover = negotiate(offers, context_takeover=True, window_bits=12, max_ratio=2000)
    assert with_takeover is not None
    assert with_takeover[0] == PMD + kept
    without = negotiate(offers, context_takeover=False, window_bits=12, max_ratio=2000)
    assert without is not None
    assert not_kept is None or without[0] == PMD + not_kept


@pytest.mark.parametrize(
    "offers",
    [
        "",
        "x-webkit-deflate-frame",
        f"{PMD}; {SMWB}=8",
        f"{PMD}; {SMWB}",
        f"{PMD}; {SMWB}=16",
        f"{PMD}; {SMWB}=7",
        f"{PMD}; {SMWB}=09",
        f"{PMD}; {SMWB}=x",
        f"{PMD}; {CMWB}=7",
        f"{PMD}; {CMWB}=150",
        f"{PMD}; {SNCT}=1",
        f"{PMD}; {CNCT}=true",
        f"{PMD}; {CNCT}; {CNCT}",
        f"{PMD}; {SMWB}=9; {SMWB}=9",
        f"{PMD}; other",
        f"{PMD}; other=1",
        # Malformed as a whole, so that not even the good offer counts.
        f"{PMD}, ;",
        f"{PMD};",
        f"{PMD}; =1",
        f'{PMD}; {SMWB}="9',
        f'{PMD}; {SMWB}=""',
        f'a; b="c d", {PMD}',
        f"{PMD} {SNCT}",
        f"{PMD}, \xe9",
    ],
)
def test_offers_that_are_declined(offers: str) -> None:
    assert negotiate(offers, context_takeover=True, window_bits=15, max_ratio=2000) is None


def test_connections_share_what_keeps_nothing() -> None:
    def accepted(offers: str, takeover: bool = False, bits: int = 12) -> Deflate:
        found = negotiate(offers, context_takeover=takeover, window_bits=bits, max_ratio=2000)
        assert found is not None
        return found[1]

    assert accepted(PMD) is accepted(f"{PMD}; {CMWB}=9")
    assert accepted(PMD) is accepted(f"{PMD}; {SNCT}; {CNCT}", takeover=True)
    assert accepted(PMD) is not accepted(PMD, bits=11)
    assert accepted(PMD, takeover=True) is not accepted(PMD, takeover=True)
    half = f"{PMD}; {SNCT}"
    assert accepted(half, takeover=True) is not accepted(half, takeover=True)


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("takeover", [False, True])
def test_the_window_is_kept_to(bits: int, takeover: bool) -> None:
    found = negotiate(
        f"{PMD}; {SMWB}={bits}", context_takeover=takeover, window_bits=15, max_ratio=2000
    )
    assert found is not None
    # Noise that comes again at every distance up to twice the window.
    noise = random.Random(bits).randbytes(2 << bits)
    payload = noise + noise[: 1 << bits] + noise
    assert inflate(found[1].compress(payload), bits) == payload


@pytest.mark.parametrize(
    "data",
    # RFC 7692, section 7.2.3.1 to 7.2.3.5: one block, not compressed, final, two blocks.
    ["f248cdc9c90700", "000500faff48656c6c6f00", "f348cdc9c9070000", "f248050000 00ffffcac9c90700"],
)
@pytest.mark.parametrize("takeover", [False, True])
def test_the_examples_of_the_rfc(data: str, takeover: bool) -> None:
    deflate = Deflate(15, 15, send_takeover=takeover, receive_takeover=takeover, max_ratio=2000)
    for _ in range(2):
        assert deflate.decompress(bytes.fromhex(data), 5) == b"Hello"


@pytest.mark.parametrize("takeover", [False, True])
def test_a_stream_may_end_with_an_empty_block(takeover: bool) -> None:
    deflate = Deflate(15, 15, send_takeover=takeover, receive_takeover=takeover, max_ratio=2000)
    ended = stateless().compress(b"Hello") + b"\x00\x00\xff\xff\x01"
    for _ in range(2):
        assert deflate.decompress(ended, 5) == b"Hello"


def test_the_context_is_taken_over() -> None:
    deflate = Deflate(15, 15, send_takeover=True, receive_takeover=True, max_ratio=2000)
    first, second = deflate.compress(b"Hello"), deflate.compress(b"Hello")
    assert len(second) < len(first)
    assert deflate.decompress(first, 5) + deflate.decompress(second, 5) == b"HelloHello"
    # RFC 7692, section 7.2.3.2: the second message as a reference to the first.
    again = Deflate(15, 15, send_takeover=True, receive_takeover=True, max_ratio=2000)
    again.decompress(bytes.fromhex("f248cdc9c90700"), 5)
    assert again.decompress(bytes.fromhex("f200110000"), 5) == b"Hello"


def test_nothing_is_taken_over() -> None:
    deflate = stateless()
    assert deflate.compress(b"Hello") == deflate.compress(b"Hello")
    assert failure(deflate, bytes.fromhex("f200110000")) == 1007


def test_empty_messages() -> None:
    for takeover in (False, True):
        deflate = Deflate(15, 15, send_takeover=takeover, receive_takeover=takeover, max_ratio=2000)
        for payload in (b"", b"a", b"", b"", b"b"):
            assert deflate.decompress(deflate.compress(payload), 1) == payload
        assert deflate.compress(b"") == b"\x00"  # RFC 7692, section 7.2.3.6


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xff", id="no such block"),
        pytest.param(stateless().compress(b"Hello")[:-3], id="cut short"),
        pytest.param(b"\x00\x05\x00\xfa\xffHel", id="stored block cut short"),
        pytest.param(b"\x03\x00" + stateless().compress(b"Hello"), id="more after the end"),
        pytest.param(b"\x03\x00", id="nothing after the end"),
    ],
)
def test_corrupt_data(data: bytes) -> None:
    assert failure(stateless(), data) == 1007


@pytest.mark.parametrize("takeover", [False, True])
def test_the_limit_is_reached_and_not_passed(takeover: bool) -> None:
    def deflate() -> Deflate:
        return Deflate(15, 15, send_takeover=takeover, receive_takeover=takeover, max_ratio=2000)

    data = deflate().compress(b"a" * 1000)
    assert len(deflate().decompress(data, 1000)) == 1000
    assert failure(deflate(), data, 999) == 1009
    assert failure(deflate(), data, 0) == 1009
    assert deflate().decompress(b"\x00", 0) == b""


def test_a_bomb_does_not_go_off() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(b"\0" * (32 << 20)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    deflate = stateless()
    tracemalloc.start()
    try:
        assert failure(deflate, bomb[:-4], 10_000) == 1009
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize("end", ["", ";", "=", '"', "\x00"])
@pytest.mark.alone
@pytest.mark.parametrize(
    "part", [" ", "a", "a;", "a; ", "a,", f"{PMD}; a,", '; a="b"', ";   a = b"]
)
def test_a_long_header_is_parsed_at_once(part: str, end: str) -> None:
    offers = PMD + part * (16_000 // len(part)) + end
    start = time.process_time()
    negotiate(offers, context_takeover=False, window_bits=15, max_ratio=2000)
    assert time.process_time() - start < 0.25


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            [PMD, SNCT, CNCT, SMWB, CMWB, ";", ",", "=", '"', " ", "8", "9", "15", "x", "\xe9"]
        ),
        max_size=20,
    ).map("".join),
    st.booleans(),
    st.integers(9, 15),
)
def test_any_offer_is_accepted_or_declined(offers: str, takeover: bool, bits: int) -> None:
    found = negotiate(offers, context_takeover=takeover, window_bits=bits, max_ratio=2000)
    assert found is None or found[0].startswith(PMD)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(9, 15), st.booleans())
def test_what_is_compressed_is_inflated(messages: list[bytes], bits: int, takeover: bool) -> None:
    deflate = Deflate(bits, bits, send_takeover=takeover, receive_takeover=takeover, max_ratio=2000)
    for message in messages:
        assert deflate.decompress(deflate.compress(message), len(message)) == message


@settings(max_examples=150)
@given(st.binary(max_size=100), st.booleans())
def test_any_data_is_inflated_or_refused(data: bytes, takeover: bool) -> None:
    deflate = Deflate(15, 15, send_takeover=takeover, receive_takeover=takeover, max_ratio=2000)
    try:
        assert len(deflate.decompress(data, 50)) <= 50
    except ProtocolError as refused:
        code = code_of(refused)
    else:
        return
    assert code in (1007, 1009)


def test_empty_elements_of_the_header_are_skipped() -> None:
    for offers in (f", {PMD}", f"{PMD}, ,", f" ,,{PMD} , x"):
        assert negotiate(offers, context_takeover=False, window_bits=15, max_ratio=2000), offers


@pytest.mark.parametrize("takeover", [False, True])
def test_a_message_is_inflated_as_far_as_somebody_asks(takeover: bool) -> None:
    sender = Deflate(15, 15, takeover, takeover, max_ratio=2000)
    receiver = Deflate(15, 15, takeover, takeover, max_ratio=2000)
    for size in (100_000, 3, 1_000_000):
        payload = random.Random(size).randbytes(100) * (size // 100)
        inflating = receiver.begin(sender.compress(payload))
        made = inflating.more(1000)
        assert made == (payload if len(payload) <= 1000 else None)
        assert inflating.more(1 << 20) == payload


def test_a_message_that_inflates_too_much_is_an_error() -> None:
    deflate = Deflate(15, 15, False, False, max_ratio=200)
    assert deflate.decompress(deflate.compress(bytes(65536)), 1 << 20) == bytes(65536)
    bomb = deflate.compress(bytes(1 << 20))
    assert len(bomb) * 200 < 1 << 20
    inflating = deflate.begin(bomb)
    assert inflating.more(65536) is None
    with pytest.raises(ProtocolError, match="inflates too much") as caught:
        inflating.more(1 << 20)
    assert caught.value.reason == "compression_ratio"
