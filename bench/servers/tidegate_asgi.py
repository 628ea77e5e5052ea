"""An application of the peers on Tidegate, with all policies on: Starlette's, or one that is named.

python tidegate_asgi.py PORT CONNECTIONS [MODULE:APP]
"""

import asyncio
import gc
import signal
import sys
from importlib import import_module

from tidegate import Settings
from tidegate.asgi.server import AsgiServer
from tidegate.node.loop import loop_factory


async def main(port: int, connections: int, where: str = "uvicorn_peer:app") -> None:
    module, _, name = where.partition(":")
    app = getattr(import_module(f"bench.servers.{module}"), name)
    settings: dict[str, dict[str, object]] = {
        "server": {"port": port, "path": ""},
        "limits": {"connections": connections, "per_ip": connections},
        "pacing": {"enabled": False},
        "messages": {"per_second": 0, "bytes_per_second": 0},
    }
    server = AsgiServer(app, Settings.from_mapping(settings), lifespan="off", access_log=False)
    async with server.running():
        await server.node.serve()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, lambda *_: gc.collect() and None)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
