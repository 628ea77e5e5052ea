"""What things cost `tidegate serve`: `python -m bench.costs [--out FILE]`, two minutes.

Processor time and memory of a connection, a TLS handshake, a message, a delivery, a heartbeat, and
of each byte. `tidegate estimate` calculates with these figures: its defaults are a run of this file
(src/tidegate/costs.py), and `--costs` takes what is written here.

The clients are plain sockets in this process, which is slow; what is counted is the time for which
the server ran. It runs with its limits, rates and heartbeats on, on a core of its own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import select
import selectors
import socket
import ssl
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import jwt
from tests.support.certificates import make_certificate

from bench import prepare
from bench.load import Load
from bench.measure import Sizes, join, started, write_tokens
from bench.peers import MESSAGE, SECRET
from bench.process import LOAD_CORE, BenchError, Process, descriptors
from bench.report import machine
from bench.scenario import tidegate

RATES = {"messages.per_second": 1_000_000, "messages.bytes_per_second": 0}
"""Counted for each message, and never reached."""

OTHERS, MEMBERS = 2_000, 10_000
SPEAKERS, SMALL, LARGE = 200, 64, 16_384
ROUNDS, SECURE, IDLE = 12, 300, 1_000
HEARTBEAT = 1.0
MIXED_ROOM, MIXED_RATE, MIXED_SIZE, MIXED_SECONDS = 20, 3_000, 200, 5.0
_SETTLING = 0.7

Costs = dict[str, float]


class Wire:
    """One connection of the native protocol, over TCP or TLS."""

    def __init__(self, port: int, user: str, context: ssl.SSLContext | None = None) -> None:
        """Connect and wait for `connected`."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._buffer = b""
        token = jwt.encode({"sub": user}, SECRET, "HS256")
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: tidegate.v1.json\r\nAuthorization: Bearer {token}\r\n\r\n"
            "".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._read()
        self._buffer = self._buffer.partition(b"\r\n\r\n")[2]
        self.take(1)

    def send(self, text: str) -> None:
        """Send one message. The mask is of zeros, so it leaves the text as it is."""
        data = text.encode()
        length = (
            bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 254, len(data))
        )
        self.socket.sendall(b"\x81" + length + bytes(4) + data)

    def take(self, texts: int) -> None:
        """Wait for so many messages of the server; pings are left alone."""
        while texts:
            while len(self._buffer) < 4 or len(self._buffer) < self._frame():
                self._read()
            texts -= self._buffer[0] == 0x81
            self._buffer = self._buffer[self._frame() :]

    def pong(self) -> None:
        """Answer what is there of pings."""
        while select.select([self.socket], [], [], 0)[0]:
            self._read()
            while len(self._buffer) >= 2 and len(self._buffer) >= self._frame():
                payload = self._buffer[2 : self._frame()]
                if self._buffer[0] == 0x89:
                    self.socket.sendall(bytes([0x8A, 0x80 | len(payload)]) + bytes(4) + payload)
                self._buffer = self._buffer[self._frame() :]

    def _frame(self) -> int:
        size = self._buffer[1]
        return size + 2 if size < 126 else 4 + struct.unpack("!H", self._buffer[2:4])[0]

    def _read(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise BenchError("the server closed a connection")
        self._buffer += data


def crowd(load: Load, server: Process) -> Costs:
    """Connections by the thousand, and one message to all of them."""
    peer = tidegate(RATES)
    costs = {"process_bytes": float(server.memory())}
    join(load, peer, OTHERS, members=False)
    time.sleep(_SETTLING)
    memory, kernel, cpu = server.memory(), _kernel(), server.cpu()
    group = join(load, peer, MEMBERS, members=True)["group"]
    costs["cpu_per_connect"] = (server.cpu() - cpu) / MEMBERS
    time.sleep(_SETTLING)
    costs["bytes_per_connection"] = (server.memory() - memory) / MEMBERS
    # Both ends are sockets of this machine.
    costs["kernel_bytes_per_connection"] = (_kernel() - kernel) / MEMBERS / 2
    each: dict[int, list[float]] = {SMALL: [], LARGE: []}
    for _ in range(ROUNDS):
        for size, taken in each.items():
            before = server.cpu()
            load.fan(group, MESSAGE.replace("x" * SMALL, "x" * size), 1)
            taken.append((server.cpu() - before) / MEMBERS)
    costs["small"], costs["large"] = (statistics.median(taken) for taken in each.values())
    return costs


def speakers(server: Process, port: int, context: ssl.SSLContext | None = None) -> Costs:
    """Messages to rooms of one member, then of ten, of which one speaks."""
    costs: Costs = {}
    cpu = server.cpu()
    wires = [Wire(port, f"speaker-{i}", context) for i in range(SPEAKERS)]
    costs["connect"] = (server.cpu() - cpu) / SPEAKERS
    for name, size, members in (("small", SMALL, 1), ("large", LARGE, 1), ("ten", SMALL, 10)):
        rooms = [f"{name}-{i // members}" for i in range(SPEAKERS)]
        for wire, room in zip(wires, rooms, strict=True):
            wire.send(f'{{"type":"join","room":"{room}","id":1}}')
            wire.take(1)
        each = []
        speaking = list(zip(wires, rooms, strict=True))[::members]
        for _ in range(ROUNDS):
            before = server.cpu()
            for wire, room in speaking:
                wire.send(f'{{"type":"room_message","room":"{room}","data":"{"x" * size}"}}')
            for wire in wires:
                wire.take(1)
            each.append((server.cpu() - before) / len(speaking))
        costs[name] = statistics.median(each)
    for wire in wires:
        wire.socket.close()
    return costs


def mixed(server: Process, port: int) -> float:
    """Messages to rooms of twenty by the clock; returns the cores that the server used."""
    wires = [Wire(port, f"mixed-{i}") for i in range(2 * SPEAKERS)]
    rooms = [f"mixed-{i // MIXED_ROOM}" for i in range(len(wires))]
    with selectors.DefaultSelector() as reading:
        for wire, room in zip(wires, rooms, strict=True):
            wire.send(f'{{"type":"join","room":"{room}","id":1}}')
            wire.take(1)
            reading.register(wire.socket, selectors.EVENT_READ)
        began, before, sent = time.monotonic(), server.cpu(), 0
        while (passed := time.monotonic() - began) < MIXED_SECONDS:
            while sent < passed * MIXED_RATE:
                at = sent * 37 % len(wires)
                data = "x" * MIXED_SIZE
                wires[at].send(f'{{"type":"room_message","room":"{rooms[at]}","data":"{data}"}}')
                sent += 1
            for key, _ in reading.select(0.002):
                os.read(key.fd, 1 << 16)
        used = (server.cpu() - before) / passed
    for wire in wires:
        wire.socket.close()
    return used


def secure(server: Process, port: int, context: ssl.SSLContext) -> Costs:
    """Memory of connections over TLS."""
    first = [Wire(port, f"first-{i}", context) for i in range(SECURE)]
    time.sleep(_SETTLING)
    memory = server.memory()
    second = [Wire(port, f"second-{i}", context) for i in range(2 * SECURE)]
    time.sleep(_SETTLING)
    each = (server.memory() - memory) / len(second)
    for wire in (*first, *second):
        wire.socket.close()
    return {"bytes": each}


def heartbeats(server: Process, port: int) -> float:
    """Processor time of a ping and its pong."""
    wires = [Wire(port, f"idle-{i}") for i in range(IDLE)]
    seconds = 6 * HEARTBEAT

    def hold() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for wire in wires:
                wire.pong()

    hold()
    before = server.cpu()
    hold()
    used = server.cpu() - before
    for wire in wires:
        wire.socket.close()
    return used / (IDLE * seconds / HEARTBEAT)


def measure(folder: Path) -> tuple[Costs, Costs]:
    """Take all costs; returns them, and figures to check an estimate with."""
    write_tokens(Sizes(OTHERS, MEMBERS))
    with _serve(RATES) as (server, port):
        with Load(port) as load:
            many = crowd(load, server)
        time.sleep(_SETTLING)
        plain = speakers(server, port)
        together = mixed(server, port)
    certificate, key = make_certificate(folder)
    context = ssl.create_default_context(cafile=certificate)
    files = {"tls.certificate": certificate, "tls.key": key}
    with _serve({**RATES, **files}) as (server, port):
        encrypted = speakers(server, port, context)
        tls = secure(server, port, context)
    with _serve(RATES, HEARTBEAT) as (server, port):
        heartbeat = heartbeats(server, port)
    # A member of a large room is not in the processor's caches. One of a small room is.
    delivery = ((plain["ten"] - plain["small"]) / 9 + many["small"]) / 2
    out = max(0.0, many["large"] - many["small"])
    # A room of one: a message and its delivery. The same over TLS: one record in and one out.
    costs = {
        "process_bytes": many["process_bytes"],
        "bytes_per_connection": many["bytes_per_connection"],
        "kernel_bytes_per_connection": many["kernel_bytes_per_connection"],
        "tls_bytes_per_connection": tls["bytes"] - many["bytes_per_connection"],
        "cpu_per_connect": many["cpu_per_connect"],
        "cpu_per_tls_handshake": encrypted["connect"] - plain["connect"],
        "cpu_per_message": plain["small"] - delivery,
        "cpu_per_delivery": delivery,
        "cpu_per_heartbeat": heartbeat,
        "cpu_per_tls_record": (encrypted["small"] - plain["small"]) / 2,
        "cpu_per_tls_byte": max(
            0.0, encrypted["large"] - encrypted["small"] - plain["large"] + plain["small"]
        )
        / 2
        / (LARGE - SMALL),
        "cpu_per_byte_in": max(0.0, plain["large"] - plain["small"] - out) / (LARGE - SMALL),
        "cpu_per_byte_out": out / (LARGE - SMALL),
    }
    checks = {
        "room_of_10000": many["small"],
        "room_of_10000_large": many["large"],
        "room_of_ten": plain["ten"],
        "room_of_ten_tls": encrypted["ten"],
        "room_of_one_large": plain["large"],
        "room_of_one_large_tls": encrypted["large"],
        "mixed": together,
        "connect": plain["connect"],
        "connect_tls": encrypted["connect"],
    }
    return costs, checks


@contextmanager
def _serve(
    settings: Mapping[str, object], heartbeat: float = 30.0
) -> Iterator[tuple[Process, int]]:
    with started(tidegate(settings), OTHERS + MEMBERS, heartbeat) as found:
        yield found


def _kernel() -> int:
    """Return what the kernel keeps: its slabs, and the buffers of sockets."""
    slabs = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            slabs = int(line.split()[1]) * 1024
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            slabs += int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE")
    return slabs


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the file if one is named."""
    parser = argparse.ArgumentParser(prog="python -m bench.costs")
    parser.add_argument("--out", type=Path, help="write the costs there, for --costs")
    options = parser.parse_args(arguments)
    if descriptors() < OTHERS + MEMBERS + 1000:
        print(f"costs: needs {OTHERS + MEMBERS + 1000} file descriptors", file=sys.stderr)
        return 2
    try:
        prepare.compile_c()
        os.sched_setaffinity(0, {LOAD_CORE})
        with tempfile.TemporaryDirectory() as folder:
            costs, checks = measure(Path(folder))
    except BenchError as error:
        print(f"costs: {error}", file=sys.stderr)
        return 1
    print(f"{'mixed':30} {checks['mixed']:.3f} cores")
    for name, value in {**costs, **checks}.items():
        print(f"{name:30} {value:,.0f}" if value > 1 else f"{name:30} {value * 1e6:,.4f} µs")
    if options.out:
        measured = {
            **machine(),
            "by": "python -m bench.costs",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
        told = {"schema": 1, **costs, "measured": measured, "checks": checks}
        options.out.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
