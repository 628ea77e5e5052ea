"""Builds the documentation as a site, offline: `python tools/site.py [build | serve]`.

The pages are those of docs/, which also work as they are on a code host. The navigation is
docs/README.md: its bold groups and their lists. What the pages link to outside docs/ (the
benchmark, the changelog, the examples) becomes a page too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILD = ROOT / "build" / "site"

# Pages that are not in docs/, and where they are in the site.
_OTHERS = {"bench/README.md": "benchmark.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
_GROUP = re.compile(r"^\*\*(.+?)\*\*")
_ITEM = re.compile(r"^- \[(.+?)\]\(([^)#]+)\)")

_CONFIG = """\
site_name: Tidegate
site_description: The connection gate for WebSockets in Python
docs_dir: pages
site_dir: html
theme:
  name: material
  font: false
  features:
    - navigation.sections
    - navigation.footer
    - navigation.top
    - content.code.copy
    - search.highlight
    - toc.follow
  palette:
    - media: "(prefers-color-scheme: light)"
      scheme: default
      primary: teal
      toggle:
        icon: lucide/sun
        name: Switch to dark
    - media: "(prefers-color-scheme: dark)"
      scheme: slate
      primary: teal
      toggle:
        icon: lucide/moon
        name: Switch to light
markdown_extensions:
  - admonition
  - attr_list
  - tables
  - toc:
      permalink: true
  - pymdownx.highlight
  - pymdownx.superfences
nav:
"""


class SiteError(Exception):
    """The pages cannot become a site."""


def pages() -> dict[Path, str]:
    """Every page of the site: its file, and its place."""
    found = {path: place_of(path) for path in sorted(DOCS.rglob("*.md"))}
    return found | {ROOT / name: place for name, place in _OTHERS.items()}


def place_of(path: Path) -> str:
    """Where a file is in the site."""
    name = path.relative_to(ROOT).as_posix()
    if name in _OTHERS:
        return _OTHERS[name]
    if path.parent == ROOT / "examples" and path.suffix == ".py":
        return f"examples/{path.stem}.md"
    if name in ("README.md", "docs/README.md"):
        return "index.md"
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    raise SiteError(f"{name} is linked to, and is no page of the site")


def navigation() -> list[tuple[str, list[tuple[str, str]]]]:
    """The groups of the navigation, each with titles and places."""
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    for line in (DOCS / "README.md").read_text(encoding="utf-8").splitlines():
        if match := _GROUP.match(line):
            groups.append((match[1], []))
        elif groups and (match := _ITEM.match(line)):
            groups[-1][1].append((match[1], place_of((DOCS / match[2]).resolve())))
    decisions = sorted((DOCS / "adr").glob("0*.md"))
    records = [(_title(path), f"adr/{path.name}") for path in decisions]
    return [*groups, ("Decisions", records)]


def missing() -> list[str]:
    """The pages that nothing in the navigation leads to."""
    known = {place for _, items in navigation() for _, place in items} | {"index.md"}
    return sorted(place for place in pages().values() if place not in known)


def stage() -> None:
    """Write the pages, and what the generator of the site reads."""
    shutil.rmtree(BUILD, ignore_errors=True)
    target = BUILD / "pages"
    for path in DOCS.rglob("*"):
        if path.is_file() and path.suffix != ".md":
            copy = target / path.relative_to(DOCS)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    examples: set[Path] = set()
    for path, place in pages().items():
        text = _with_links(path, place, path.read_text(encoding="utf-8"), examples)
        _write(target / place, text)
    for path in sorted(examples):
        code = path.read_text(encoding="utf-8")
        _write(target / place_of(path), f"# {path.name}\n\n```python\n{code}```\n")
    lines = ["  - Home: index.md"]
    for group, items in navigation():
        lines.append(f'  - "{group}":')
        lines += [f'      - "{title}": {place}' for title, place in items]
    _write(BUILD / "mkdocs.yml", _CONFIG + "\n".join(lines) + "\n")


def build() -> Path:
    """Build the site; return its folder.

    Raises:
        SiteError: a page is not in the navigation, or a link leads nowhere.
    """
    if lost := missing():
        raise SiteError(f"not in the lists of docs/README.md: {', '.join(lost)}")
    stage()
    done = subprocess.run(
        [_program(), "build", "--clean", "--strict", "-f", "mkdocs.yml"],
        cwd=BUILD,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    if done.returncode:
        raise SiteError(done.stdout + done.stderr)
    return BUILD / "html"


def serve() -> None:
    """Serve the site on this machine until Ctrl-C; it is built anew for each start."""
    build()
    command = [sys.executable, "-m", "http.server", "8080", "--bind", "127.0.0.1"]
    print("http://127.0.0.1:8080/")
    subprocess.run([*command, "--directory", str(BUILD / "html")], check=False)


def _with_links(path: Path, place: str, text: str, examples: set[Path]) -> str:
    """The text of a page with its links as they are in the site."""

    def moved(match: re.Match[str]) -> str:
        linked = (path.parent / match[1]).resolve()
        if not linked.exists():
            raise SiteError(f"{path.relative_to(ROOT)} links to {match[1]}, which is not there")
        if linked.suffix == ".py":
            examples.add(linked)
        to = PurePosixPath(place_of(linked)).as_posix()
        own = os.path.relpath(to, PurePosixPath(place).parent.as_posix())
        return own + (match[2] or "")

    return "".join(part if is_code else _LINK.sub(moved, part) for is_code, part in _parts(text))


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """The text in parts: blocks of code, in which nothing is a link, and the rest."""
    for index, part in enumerate(re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)):
        yield index % 2 == 1, part


def _title(path: Path) -> str:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("# ").replace('"', "'")


def _program() -> str:
    beside = Path(sys.executable).with_name("zensical")
    return str(beside if beside.exists() else "zensical")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Build or serve."""
    try:
        if sys.argv[1:] == ["serve"]:
            serve()
        else:
            print(build() / "index.html")
    except SiteError as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
