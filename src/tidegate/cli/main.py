"""The command `tidegate`: its subcommands, and what its exit codes mean."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, TextIO

from cyclopts import App, CycloptsError, MissingArgumentError, UnusedCliTokensError

from tidegate.cli import config, token
from tidegate.cli.capacity import capacity
from tidegate.cli.deploy import deploy
from tidegate.cli.doctor import doctor
from tidegate.cli.drain import drain
from tidegate.cli.estimate import estimate
from tidegate.cli.explain import explain
from tidegate.cli.init import init
from tidegate.cli.kick import kick
from tidegate.cli.listen import listen
from tidegate.cli.nodes import nodes
from tidegate.cli.publish import publish
from tidegate.cli.rebalance import rebalance
from tidegate.cli.rooms import rooms
from tidegate.cli.run import run as run_application
from tidegate.cli.say import say
from tidegate.cli.serve import serve
from tidegate.cli.simulate import simulate
from tidegate.cli.top import top
from tidegate.cli.users import users
from tidegate.engine.standard_streams import open_missing_streams
from tidegate.errors import ConfigError, TidegateError, UsageError

__all__ = ["app", "main", "run"]

app = App(
    name="tidegate",
    help=(
        "The connection gate for WebSockets: exact limits, honest refusals.\n\n"
        "Settings come from a TOML file (`tidegate init` writes one), the environment "
        "(TIDEGATE_LIMITS_PER_IP=5) and --set limits.per_ip=5; what comes later wins. "
        "Exit codes: 0 done, 1 failed, 2 wrong usage or a wrong setting."
    ),
    help_format="markdown",
    version=lambda: version("tidegate"),
)
app.command(serve, sort_key=0)
app.command(run_application, name="run", sort_key=1)
app.command(init, sort_key=2)
app.command(capacity)
app.command(doctor)
app.command(deploy)
app.command(drain)
app.command(estimate)
app.command(explain)
app.command(kick)
app.command(listen)
app.command(nodes)
app.command(rebalance)
app.command(publish)
app.command(rooms)
app.command(say)
app.command(simulate)
app.command(top)
app.command(users)
app.command(config.app)
app.command(token.app)

# What a write to standard output fails with when the disk behind it is full or gone.
_CANNOT_WRITE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def main() -> None:
    """Run the command line of this process, and end the process."""
    open_missing_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line, and return the exit code.

    Errors have a line for each mistake, and no traceback but that of an application.

    0 is success, 1 failure (an address in use, a token that is not valid), 2 wrong usage or a
    wrong setting.
    """
    try:
        result = app(
            list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except UnusedCliTokensError as error:
        return _failed(f"there is no argument {' '.join(error.unused_tokens or ())} here", 2)
    except MissingArgumentError as error:
        command = " ".join(("tidegate", *(error.command_chain or ())))
        said = str(error)
        if error.argument is not None and not error.argument.tokens and error.keyword is None:
            said = f"{error.argument.name.lstrip('-').upper()} is missing."
        return _failed(f"{said} See `{command} --help`.", 2)
    except (CycloptsError, ConfigError, UsageError) as error:
        return _failed(error, 2)
    except TidegateError as error:
        return _failed(error, 1)
    except BrokenPipeError:
        # What read the output has gone.
        _discard(sys.stdout)
        return 1
    except OSError as error:
        if error.errno not in _CANNOT_WRITE or error.filename is not None:
            raise
        _discard(sys.stdout)
        return _failed(f"standard output cannot be written: {error.strerror}", 1)
    return result if isinstance(result, int) else 0


def _failed(error: object, code: int) -> int:
    # What is indented belongs to the line before: the traceback of an application, say.
    lines = "".join(
        f"{line}\n" if line.startswith(" ") else f"tidegate: {line}\n"
        for line in str(error).splitlines()
    )
    try:
        sys.stderr.write(lines)
        sys.stderr.flush()
    except OSError:  # the exit code still says it
        _discard(sys.stderr)
    return code


def _discard(stream: TextIO) -> None:
    """Write what waits in a stream nowhere: Python would try again, and fail again, at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
