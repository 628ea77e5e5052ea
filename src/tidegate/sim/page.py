"""Outcomes as one page of HTML with a time slider. It needs no server, and loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import msgspec

from tidegate.sim.outcome import Outcome
from tidegate.sim.rendering import rows

__all__ = ["page"]


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the page."""
    data = [{"outcome": each, "rows": list(rows([each]))} for each in outcomes]
    # Within a script element, only "</" could end it, and "<!--" begin a comment.
    text = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("/*DATA*/", text)
