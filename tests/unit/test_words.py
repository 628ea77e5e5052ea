"""One word for one thing: words that are retired are found, and the ones to use are named.

docs/glossary.md has the words. Decisions (docs/adr) and the changelog are not looked at: they are
about the past.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

RETIRED = {
    r"verdicts?": "decision",
    r"newcomers?": "attempt (before it is admitted), new connection or new member (after)",
    r"who(?:m|so)?ever": "the noun: the client that ..., a connection that ...",
    r"lest": "so that ... not",
    r"mend(?:s|ed|ing)?": "fix",
    r"lots?": "batch (of things done together); many, much",
    r"places": "capacity, leases (of connections), positions (of the waiting room)",
    r"depart(?:s|ed|ing|ures?)?": "drain (gracefully), stop (at once), close (a connection)",
    r"slices?": "batch",
}
"""What is said no more, as whole words in any case, and what to say instead."""

RETIRED_NAMES = {r"Line|WaitingLine": "WaitingRoom, WaitingClients"}
"""Names that code has no more, in this case only."""

TABLE = [
    *((re.compile(rf"\b(?:{word})\b", re.IGNORECASE), say) for word, say in RETIRED.items()),
    *((re.compile(rf"\b(?:{name})\b"), say) for name, say in RETIRED_NAMES.items()),
]

SOURCES = sorted(ROOT.glob("src/**/*.py"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in ROOT.glob("docs/**/*.md") if "adr" not in page.parts),
]


def retired(text: str) -> Iterator[tuple[int, str, str]]:
    """The line, the word, and what to say instead, for every retired word of a text."""
    for number, line in enumerate(text.splitlines(), 1):
        # Names in snake_case and CamelCase have words in them too.
        words = re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", line)
        found = {
            match[0]: say
            for pattern, say in TABLE
            for within in (line, words)
            for match in pattern.finditer(within)
        }
        for word, say in found.items():
            yield number, word, say


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_words_that_are_retired_are_not_used(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word!r}: say {say}"
        for number, word, say in retired(path.read_text(encoding="utf-8"))
    ]
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_retired_words_are_found_in_prose_and_in_names() -> None:
    text = "Whoever is late\nclass WaitingLine:\n    too_many_lots = 3\nreplaces, slots, GitHub"
    assert [(number, word) for number, word, _ in retired(text)] == [
        (1, "Whoever"),
        (2, "WaitingLine"),
        (2, "Line"),
        (3, "lots"),
    ]
