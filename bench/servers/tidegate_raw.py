"""Tidegate as a library: raw handlers, all policies on; echo on any path, broadcast on /fan.

python tidegate_raw.py PORT CONNECTIONS
"""

import gc
import signal
import sys

from tidegate import Connection, Request, Server

members: set[Connection] = set()


def on_connect(connection: Connection, _request: Request) -> None:
    if connection.path == "/fan":
        members.add(connection)


def on_message(connection: Connection, message: str | bytes) -> None:
    if connection in members:
        for member in list(members):
            member.send(message)
    else:
        connection.send(message)


def on_close(connection: Connection, _code: int, _reason: str) -> None:
    members.discard(connection)


if __name__ == "__main__":
    port, connections = map(int, sys.argv[1:])
    signal.signal(signal.SIGUSR2, lambda *_: gc.collect() and None)
    Server(
        {
            "server": {"port": port, "path": ""},
            "limits": {"connections": connections, "per_ip": connections},
            "pacing": {"enabled": False},
            "messages": {"per_second": 0, "bytes_per_second": 0},
        },
        on_connect=on_connect,
        on_message=on_message,
        on_close=on_close,
    ).run()
