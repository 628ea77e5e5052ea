"""The command `tidegate`: its subcommands, and what its exit codes mean."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from tidegate.engine.standard_streams import open_missing_streams
from tidegate.errors import ConfigError, TidegateError, UsageError

__all__ = ["app", "main", "run"]

# Commands are imported when they are called: --help and --version answer at once.
app = App(
    name="tidegate",
    help=(
        "The connection gate for WebSockets: exact limits, honest refusals.\n\n"
        "Settings come from a TOML file, the environment (TIDEGATE_LIMITS_PER_IP=5) and "
        "--set limits.per_ip=5; what comes later wins. "
        "Exit codes: 0 done, 1 failed, 2 wrong usage or a wrong setting."
    ),
    help_format="markdown",
    version=lambda: version("tidegate"),
)
app.command("tidegate.cli.serve:serve", name="serve", help="Run the server.", sort_key=0)
app.command("tidegate.cli.drain:drain", name="drain", help="Drain a running server.")
app.command(
    "tidegate.cli.explain:explain",
    name="explain",
    help="Ask a running server what it would decide about an attempt.",
)
app.command("tidegate.cli.config:app", name="config", help="Show, check and apply settings.")
app.command("tidegate.cli.token:app", name="token", help="Create and check tokens of users.")


def main() -> None:
    """Run the command line of this process, and end the process."""
    open_missing_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line, and return the exit code. Errors are one line, without a traceback.

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
    except (CycloptsError, ConfigError, UsageError) as error:
        return _failed(error, 2)
    except TidegateError as error:
        return _failed(error, 1)
    except BrokenPipeError:
        # What read the output has gone. Python would flush again, and fail again, at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0


def _failed(error: Exception, code: int) -> int:
    print(f"tidegate: {error}", file=sys.stderr)
    return code
