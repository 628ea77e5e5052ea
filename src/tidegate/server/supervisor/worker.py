"""One worker: a process that a supervisor starts as `python -m` this module.

Its standard input is the link to the supervisor, which says what it is.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

from tidegate.core.settings import Settings
from tidegate.engine.endpoints import adopt
from tidegate.engine.standard_streams import open_missing_streams
from tidegate.errors import ConfigError, TidegateError, UsageError
from tidegate.server import runtime
from tidegate.server.supervisor.orders import Link

if TYPE_CHECKING:
    from tidegate.engine.endpoints import Endpoint
    from tidegate.server.supervisor.values import Program

__all__ = ["main"]


def main() -> int:
    """Run the worker until it is drained or stopped; returns the exit code."""
    open_missing_streams()
    link = Link(_take_link())
    try:
        settings = Settings.from_mapping(link.spec.settings)
        passed = [adopt(_inherited(number)) for number in link.spec.sockets]
        if link.spec.program is None:
            node, hooks = runtime.native(settings, passed, worker=link.number)
            runtime.run(node, webhooks=hooks, supervised=link)
        else:
            _run_program(link.spec.program, settings, passed, link)
    except (ConfigError, UsageError) as error:
        link.failed(str(error), wrong=True)
        return 2
    except TidegateError as error:
        link.failed(str(error), wrong=False)
        return 1
    return 0


def _run_program(program: Program, settings: Settings, passed: list[Endpoint], link: Link) -> None:
    from tidegate.server.asgi import Options, run_supervised

    run_supervised(program.app, settings, Options(**program.options), passed, link)


def _take_link() -> socket.socket:
    """The link, which is then no standard input any more: an application may read that."""
    link = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return link


def _inherited(number: int) -> socket.socket:
    os.set_inheritable(number, False)
    return socket.socket(fileno=number)


if __name__ == "__main__":
    sys.exit(main())
