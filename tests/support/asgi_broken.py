"""An application whose module cannot be imported."""

from __future__ import annotations

raise RuntimeError("of the module")
