"""Runs an ASGI application on Tidegate, with the settings of TIDEGATE_CONFIG.

python -m tests.support.asgi_server MODULE:NAME
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import import_module
from pathlib import Path

from tidegate.asgi.server import AsgiServer
from tidegate.node.loop import loop_factory
from tidegate.server.config import load


async def main(name: str) -> None:
    module, _, attribute = name.partition(":")
    application = getattr(import_module(module), attribute)
    settings = load(Path(os.environ["TIDEGATE_CONFIG"])).settings
    server = AsgiServer(application, settings, access_log=False)
    async with server.running():
        await server.node.serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(sys.argv[1]))
