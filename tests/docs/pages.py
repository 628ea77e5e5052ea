"""Markdown pages: their code blocks, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from tests.support.process import ROOT

__all__ = ["Block", "anchors", "blocks", "links", "pages"]

_FENCE = re.compile(r"```(.*)")
_NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
_HEADING = re.compile(r"#{1,6} (.+)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass
class Block:
    """One code block of a page."""

    place: str
    """The page and the line, as an editor takes them."""
    language: str
    text: str
    opted_out: bool
    output: str | None = None
    """What the page says that the block prints."""


def pages() -> list[Path]:
    """Every page for readers."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "bench" / "README.md"]
    return sorted(found)


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page; a block in the language `output` belongs to the one before."""
    found: list[Block] = []
    before = ""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    number = 0
    for line in lines:
        number += 1
        fence = _FENCE.fullmatch(line)
        if fence is None:
            before = line or before
            continue
        text = list(takewhile(lambda inner: inner != "```", lines))
        if fence[1] == "output":
            found[-1].output = "\n".join(text)
        else:
            place = f"{page.relative_to(ROOT)}:{number}"
            opted_out = _NOT_RUN.fullmatch(before) is not None
            found.append(Block(place, fence[1], "\n".join([*text, ""]), opted_out))
        number += len(text) + 1
        before = ""
    return found


def anchors(page: Path) -> set[str]:
    """What `#` may be followed by in a link to this page, by GitHub's rules."""
    found: set[str] = set()
    for line in _prose(page):
        if heading := _HEADING.fullmatch(line):
            name = re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            again = 0
            while (anchor := f"{name}-{again}" if again else name) in found:
                again += 1
            found.add(anchor)
    return found


def links(page: Path) -> list[str]:
    """The targets of the links of a page that point into this repository."""
    targets = [target for line in _prose(page) for target in _LINK.findall(line)]
    return [target for target in targets if "://" not in target]


def _prose(page: Path) -> Iterator[str]:
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            yield line
