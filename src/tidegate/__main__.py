"""`python -m tidegate` is the same as `tidegate`."""

from __future__ import annotations

from tidegate.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
