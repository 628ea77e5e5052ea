"""The documentation as a site: every page is in it, links lead somewhere, nothing is outside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tools import site

# What a page loads by itself; links that a reader follows may lead anywhere.
_LOADS = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=[\"']?(https?:)?//|"
    r"<link\b[^>]*rel=[\"']?(?:stylesheet|preload|icon|preconnect)[^>]*href=[\"']?(https?:)?//|"
    r"@import\s+url\(|url\([\"']?https?://"
)


@pytest.fixture(scope="module")
def built() -> Path:
    return site.build()


def test_every_page_is_in_the_navigation() -> None:
    assert site.missing() == []


def test_the_navigation_has_groups_with_pages() -> None:
    groups = dict(site.navigation())
    assert next(iter(groups)) == "Start"
    assert ("Limits", "guide/limits.md") in groups["The gate"]
    assert ("Benchmark", "benchmark.md") in groups["Reference"]
    assert len(groups["Decisions"]) >= 30


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(site.SiteError, match=r"docs/README.md links to gone.md"):
        site._with_links(site.DOCS / "README.md", "index.md", "[x](gone.md)", set())
    shown = site._with_links(
        site.DOCS / "guide" / "x.md", "guide/x.md", "[a](../../bench/README.md#one-run)", set()
    )
    assert shown == "[a](../benchmark.md#one-run)"


def test_no_page_loads_anything_from_outside(built: Path) -> None:
    pages = list(built.rglob("*.html")) + list(built.rglob("*.css"))
    assert len(pages) > 60
    for page in pages:
        found = _LOADS.search(page.read_text(encoding="utf-8"))
        assert found is None, f"{page.relative_to(built)}: {found and found[0]}"


@pytest.mark.parametrize("words", ["max connections", "Retry-After"])
def test_search_knows(built: Path, words: str) -> None:
    (index,) = built.glob("search*.json")
    assert words.lower() in json.dumps(json.loads(index.read_text(encoding="utf-8"))).lower()
