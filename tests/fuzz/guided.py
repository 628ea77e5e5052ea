"""Bytes that coverage chooses: `python -m tests.fuzz.guided TARGET [-runs=N | -max_total_time=S]`.

Atheris changes the bytes of valid messages, and keeps what reaches new code. The target is `json`,
`msgpack` or `proto`, for the protocol's handler in that format, or `wire`, for what reads requests,
frames and deltas. Other options are libFuzzer's. `make fuzz-guided` installs it and runs all four.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

__all__ = ["main"]

TARGETS: Final = ("json", "msgpack", "proto", "wire")
_SEEDS: Final = 200
_KEY: Final = b"k" * 32


def handler(form: str) -> Callable[[bytes], None]:
    """The protocol's handler; it fails when an answer is none of the tables."""
    from tests.fuzz.answers import check_close
    from tests.fuzz.test_handler import FuzzWorld

    world = FuzzWorld(form)

    def one(data: bytes) -> None:
        peer: Any = world.open("ann")
        world.app.message(peer, data)
        if form == "json":
            world.app.message(peer, data.decode("utf-8", "replace"))
        for code, text, _ in peer.ends:
            check_close(code, text)
        world.leave(peer)
        world.peers.clear()
        assert (world.tracker.open, len(world.rooms), len(world.users)) == (0, 0, 0)

    return one


def wire(data: bytes) -> None:
    """What reads bytes of peers: it may refuse them in its own way only."""
    from tidegate.core.messaging.sessions import read_session
    from tidegate.errors import PeerError
    from tidegate.wire.deltas import DeltaError, apply, create
    from tidegate.wire.forwarded import parse_proxy
    from tidegate.wire.frames import ProtocolError
    from tidegate.wire.handshake import check_upgrade, parse_request
    from tidegate.wire.reader import Reader

    with suppress(PeerError):
        request = parse_request(data)
        if request is not None:
            check_upgrade(request)
    with suppress(PeerError):
        parse_proxy(data)
    reader = Reader(1000, 10)
    with suppress(ProtocolError):
        reader.feed(data)
        while reader.next() is not None:
            pass
    old, new = data[: len(data) // 2], data[len(data) // 2 :]
    assert apply(old, create(old, new)) == new
    with suppress(DeltaError):
        apply(old, new)
    read_session(_KEY, data.decode("latin-1"))


def write_seeds(folder: Path, target: str) -> None:
    """Write the messages and requests to begin with."""
    from tests.fuzz.messages import encode, message
    from tests.support.raw import TEXT, frame, upgrade

    random = Random(1)
    if target == "wire":
        seeds = [
            upgrade(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n!\x11\0\f",
        ]
        seeds += [frame(TEXT, random.randbytes(n)) for n in (0, 5, 130)]
    else:
        seeds = [encode(target, message(random)) for _ in range(_SEEDS)]
    for number, seed in enumerate(seeds):
        (folder / str(number)).write_bytes(seed)


def main() -> None:
    """Run it; libFuzzer ends the process."""
    target = sys.argv[1] if len(sys.argv) > 1 else ""
    if target not in TARGETS:
        sys.exit(f"the target is one of {', '.join(TARGETS)}")
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["tidegate"]):
        one = wire if target == "wire" else handler(target)
        if target == "wire":
            wire(b"")
    with TemporaryDirectory(prefix="tidegate-fuzz-") as folder:
        write_seeds(Path(folder), target)
        atheris.Setup([sys.argv[0], folder, "-max_len=4096", *sys.argv[2:]], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
