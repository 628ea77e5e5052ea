"""Send every message back as it came, on any path.

python examples/echo.py --port 9001
"""

from __future__ import annotations

import argparse

from tidegate import Connection, Server


def echo(connection: Connection, message: str | bytes) -> None:
    connection.send(message)


def main() -> None:
    parser = argparse.ArgumentParser(description="Send every message back as it came.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--deflate", action="store_true", help="compress messages (RFC 7692)")
    options = parser.parse_args()

    settings = {
        "server": {"host": options.host, "port": options.port, "path": ""},
        "limits": {"per_ip": 1000},
        "pacing": {"enabled": False},
        # An echo comes back as large as the message, so both ways need room for it.
        "messages": {
            "max_size": 32 << 20,
            "max_fragments": 100_000,
            # As fast as the client likes: 0 is no limit.
            "per_second": 0,
            "bytes_per_second": 0,
            "control_per_second": 0,
        },
        "outbox": {"max_bytes": 64 << 20},
        "deflate": {"enabled": options.deflate, "max_ratio": 2000},
    }
    server = Server(settings, on_message=echo)
    print(f"echo on ws://{options.host}:{options.port}", flush=True)
    server.run()


if __name__ == "__main__":
    main()
