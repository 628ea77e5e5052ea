"""Templates: text with `@name@` in it.

nginx, systemd, Prometheus and Helm all have their own meaning for `$`, `%` and `{}`, so that none
of these is free. A line with nothing but a name is replaced by all lines of its value, indented as
it was; an empty value leaves no line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

__all__ = ["comment", "render", "template"]

_NAME: Final = re.compile(r"@([a-z_]+)@")
_LINE: Final = re.compile(r"^([ \t]*)@([a-z_]+)@\n", re.MULTILINE)


def template(name: str) -> str:
    """The text of a template of this package."""
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def render(name: str, values: Mapping[str, object]) -> str:
    """The text of a template with all its names replaced.

    Raises:
        KeyError: it has a name without a value.
    """

    def lines(match: re.Match[str]) -> str:
        value = str(values[match[2]])
        return "".join(f"{match[1]}{line}".rstrip() + "\n" for line in value.splitlines())

    def word(match: re.Match[str]) -> str:
        return str(values[match[1]])

    return _NAME.sub(word, _LINE.sub(lines, template(name)))


def comment(text: str) -> str:
    """Lines of text as comments that begin with `#`."""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())
