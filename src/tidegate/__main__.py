"""The command `tidegate`, which is the same as `python -m tidegate`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or say what is not installed."""
    try:
        from tidegate.cli.main import main as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tidegate"):
            raise
        sys.exit(f"tidegate: the command needs {error.name}: pip install 'tidegate[serve]'")
    run()


if __name__ == "__main__":
    main()
