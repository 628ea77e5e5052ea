"""The servers that are compared: how each is started, joined, published to and refused by."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.prepare import PEER_PYTHON
from bench.process import BUILD, HERE

__all__ = ["MESSAGE", "PEERS", "PROBED", "SECRET", "Peer", "Refusal", "Start"]

MESSAGE = '{"type":"room_message","room":"bench","data":"' + "x" * 64 + '"}'
"""What is published; peers pass it on as it is, Tidegate as a message of its own protocol."""

SECRET = "a-secret-for-the-benchmarks-that-nobody-else-uses"
SERVERS = HERE / "servers"
_PROTOCOL = "Sec-WebSocket-Protocol: tidegate.v1.json"


@dataclass(frozen=True, slots=True)
class Start:
    """What a server is started with."""

    port: int
    admin_port: int
    connections: int
    heartbeat: float = 30.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Attempts that a server refuses, and the one answer that they must all get."""

    path: str
    status: int
    close: int | None = None
    heads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """One column of the table."""

    name: str
    command: Callable[[Start], list[str]]
    package: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    compared: bool = False
    """Whether a budget refers to it, so that it runs in every round."""
    collects: bool = False
    """Whether SIGUSR2 makes it collect garbage, so that garbage does not count as memory."""
    echo_path: str | None = "/echo"
    fan_path: str = "/fan"
    heads: tuple[str, ...] = ()
    tokens: bool = False
    joins: Callable[[str], str] | None = None
    """The message that joins a room; the server answers a `connected` and an `ack`."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """Text messages that a connection gets until it is in its room."""
        return 2 if self.joins else 0


def _bare(start: Start) -> list[str]:
    return [str(BUILD / "bare"), str(start.port)]


def _node(start: Start) -> list[str]:
    node = shutil.which("node") or "node"
    return [node, "--expose-gc", str(SERVERS / "ws.mjs"), str(start.port)]


def _python(script: str) -> Callable[[Start], list[str]]:
    return lambda start: [str(PEER_PYTHON), str(SERVERS / script), str(start.port)]


def _raw(start: Start) -> list[str]:
    script = str(SERVERS / "tidegate_raw.py")
    return [sys.executable, script, str(start.port), str(start.connections)]


def _asgi(start: Start) -> list[str]:
    script = str(SERVERS / "tidegate_asgi.py")
    return [sys.executable, script, str(start.port), str(start.connections)]


def _settings(start: Start) -> list[str]:
    values = {
        "server.port": start.port,
        "admin.port": start.admin_port,
        "limits.connections": start.connections,
        "limits.per_ip": start.connections,
        "limits.per_room": start.connections,
        "pacing.enabled": "false",  # what is measured is how fast it can accept
        "messages.per_second": 0,  # and how fast it can take and send messages
        "messages.bytes_per_second": 0,
        "heartbeat.interval": start.heartbeat,
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def _serve(start: Start) -> list[str]:
    return [str(Path(sys.executable).parent / "tidegate"), "serve", *_settings(start)]


def _probed(start: Start) -> list[str]:
    return [sys.executable, str(SERVERS / "tidegate_probed.py"), "serve", *_settings(start)]


def _join(room: str) -> str:
    return f'{{"type":"join","room":"{room}","id":1}}'


RAW = Peer(
    "tidegate (raw handlers)",
    _raw,
    compared=True,
    collects=True,
    refusals={"refusals": Refusal("/echo", 503)},
)
NATIVE = Peer(
    "tidegate serve",
    _serve,
    env={"TIDEGATE_AUTH_SECRET": SECRET},
    compared=True,
    echo_path=None,
    fan_path="/ws",
    heads=(_PROTOCOL,),
    tokens=True,
    joins=_join,
    refusals={
        "refusals": Refusal("/ws", 503),
        "refusals_inband": Refusal("/ws", 101, 1013, (_PROTOCOL,)),
    },
)
PROBED = replace(NATIVE, command=_probed)
"""The same server, with a probe in its loop that costs a little."""

WS = Peer(
    "ws",
    _node,
    package="ws",
    compared=True,
    collects=True,
    refusals={"refusals": Refusal("/refuse", 401)},
)
BARE = Peer("bare C epoll", _bare, compared=True)
PEERS = {
    "raw": RAW,
    "serve": NATIVE,
    "asgi": Peer(
        "tidegate (Starlette)", _asgi, env={"PYTHONPATH": str(HERE.parent)}, collects=True
    ),
    "ws": WS,
    "websockets": Peer(
        "websockets", _python("websockets_peer.py"), package="websockets", collects=True
    ),
    "picows": Peer("picows", _python("picows_peer.py"), package="picows", collects=True),
    "uvicorn": Peer("uvicorn", _python("uvicorn_peer.py"), package="uvicorn", collects=True),
    "bare": BARE,
}
