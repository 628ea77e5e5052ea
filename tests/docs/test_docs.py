"""What the pages show is run, and what they link to is there.

Of README.md, docs/guide/*.md and docs/protocol.md, every block of Python, shell, JavaScript, TOML
and JSON is run or read, in the order of its page, in a folder of the page's own. So:

- A block that is not run says why in a comment just before it: `<!-- not run: reason -->`. Only
  plain text needs none.
- A block of `output` is what the block before it prints; `…` stands for anything.
- A Python block that ends with `server.run()`, or a shell block that is `tidegate serve` or
  `tidegate run`, is a server and stays until the next one. Where a page has none yet,
  `tidegate serve` with the defaults runs.
- A Python block that begins with `# name.py` is saved under that name, and a later block runs it.
- A TOML block that begins with `# name.toml` is saved under that name, and so is HTML that begins
  with `<!-- name.html -->`. One with `[[clients]]` in it is a scenario of `tidegate simulate`.
- The ports 8000, 8001 and 9000 become free ones.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, sync_playwright

from tests.docs.pages import Block, anchors, blocks, links, pages
from tests.support.net import free_port, wait_until
from tests.support.process import ROOT, Process
from tidegate.server.config import load
from tidegate.sim.scenario import load as load_scenario

RUN = [ROOT / "README.md", ROOT / "docs" / "protocol.md", *sorted(ROOT.glob("docs/guide/*.md"))]
RUNNABLE = {"python", "sh", "js", "toml", "json", "html"}
PLAIN = {"", "text"}
BIN = Path(sys.executable).parent
SECONDS = 30
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]+")


class Stage:
    """Where the blocks of one page are run."""

    def __init__(self, folder: Path) -> None:
        self.ports = {number: free_port() for number in (8000, 8001, 9000)}
        self.folder = folder
        self.server: Process | None = None
        self._environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "TIDEGATE_SERVER_PORT": str(self.ports[8000]),
            "TIDEGATE_ADMIN_PORT": str(self.ports[8001]),
        }

    def run(self, block: Block) -> None:
        text = self.localised(block.text)
        match block.language:
            case "python":
                name = re.match(r"# (\w+\.py)\n", text)
                script = self.folder / (name[1] if name else "example.py")
                script.write_text(text)
                if name:
                    compile(text, name[1], "exec")  # a later block runs it
                elif text.endswith("server.run()\n"):
                    self.serve(block, [sys.executable, script], 9000)
                else:
                    self.execute(block, [sys.executable, script])
            case "sh" if re.match(r"tidegate (serve|run)\b", text) and not set(text) & set("|&;"):
                _, *arguments = shlex.split(text)
                port = 9000 if str(self.ports[9000]) in arguments else 8000
                self.serve(block, [BIN / "tidegate", *arguments], port)
            case "sh":
                self.execute(block, ["bash", "-euo", "pipefail", "-c", text])
            case "toml":
                name = re.match(r"# (\S+\.toml)\n", block.text)
                path = self.folder / (name[1] if name else "example.toml")
                path.write_text(block.text)
                tomllib.loads(block.text)
                if "[[clients]]" in block.text:
                    load_scenario(str(path))
                else:
                    load(path)
            case "html":
                named = re.match(r"<!-- (\w+\.html) -->\n", text)
                assert named, f"{block.place}: name the file in a first line, <!-- name.html -->"
                (self.folder / named[1]).write_text(text)
            case "json":
                json.loads(block.text)

    def serve(self, block: Block | None, command: list[Any], port: int) -> None:
        """Put a server on the stage, in place of the one that is there."""
        self.clear()
        self.server = Process(
            command,
            self.folder,
            admin=False,
            port=self.ports[port],
            environment=self._environment,
            prepare=partial(os.chdir, self.folder),
        ).wait_ready()
        if block is not None and block.output is not None:
            # The log may go on: with a warning about this machine, say.
            shown, server = self.pattern(block.output), self.server
            wait_until(lambda: shown.match(server.log), 30, f"the log begins as in {block.place}")

    def serve_by_default(self) -> None:
        if self.server is None:
            self.serve(None, [BIN / "tidegate", "serve"], 8000)

    def execute(self, block: Block, command: list[Any]) -> None:
        if "127.0.0.1:" in block.text:
            self.serve_by_default()
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        said = done.stdout.strip()
        if done.returncode or (block.output and not self.pattern(block.output).fullmatch(said)):
            pytest.fail(f"{block.place}: exit code {done.returncode}, and it prints\n{said}")

    def clear(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            assert server.stop() == 0, server.log
            assert "Traceback" not in server.log, server.log

    def localised(self, text: str) -> str:
        return re.sub(r"\b(8000|8001|9000)\b", lambda match: str(self.ports[int(match[1])]), text)

    def pattern(self, output: str) -> re.Pattern[str]:
        """What matches the output that a page shows: connections have other ids each time."""
        literal = re.escape(_ID.sub("<id>", self.localised(output)).replace("\r", ""))
        return re.compile(literal.replace("<id>", _ID.pattern).replace("…", ".*"), re.DOTALL)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    try:
        yield stage
        stage.clear()
    finally:
        if stage.server is not None:
            stage.server.kill()


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_do_what_it_says(page: Path, stage: Stage) -> None:
    for block in blocks(page):
        if not block.opted_out:
            try:
                stage.run(block)
            except Exception as error:
                error.add_note(f"in the block at {block.place}")
                raise


def test_what_is_pasted_into_a_browser_does_what_the_page_says(chromium: str, stage: Stage) -> None:
    scripts = [block for page in RUN for block in blocks(page) if block.language == "js"]
    scripts = [block for block in scripts if not block.opted_out]
    assert scripts
    stage.serve_by_default()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for block in scripts:
            assert block.output is not None, block.place
            page = browser.new_page()
            said: list[str] = []
            page.on("console", partial(_note_logged, said))
            page.goto(stage.localised("http://127.0.0.1:8000/health"))
            page.evaluate(f"{stage.localised(block.text)}; undefined")
            for _ in range(100):
                if stage.pattern(block.output).fullmatch("\n".join(said)):
                    break
                page.wait_for_timeout(50)
            else:
                pytest.fail(f"{block.place}: the console shows {said}")
        browser.close()


def _note_logged(said: list[str], message: ConsoleMessage) -> None:
    if message.type == "log":  # what a browser asks for by itself, such as an icon, is not there
        said.append(message.text)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_is_linked_to() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve() for page in pages() for link in links(page)
    }
    assert {page for page in pages() if page.is_relative_to(ROOT / "docs")} <= linked


def test_what_is_neither_run_nor_plain_text_says_why() -> None:
    found = [block for page in RUN for block in blocks(page) if not block.opted_out]
    assert [block.place for block in found if block.language not in RUNNABLE | PLAIN] == []


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    names = {re.split(r"[^\w-]", requirement)[0] for group in groups for requirement in group}
    text = (ROOT / "docs" / "adr" / "0003-dependencies.md").read_text()
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def test_every_path_of_the_admin_api_is_in_its_table() -> None:
    page = (ROOT / "docs" / "guide" / "operations.md").read_text()
    table = page.partition("## Admin API")[2].partition("\n## ")[0]
    source = (ROOT / "src" / "tidegate" / "server" / "admin.py").read_text()
    paths = set(re.findall(r'Route\("(/[^"]+)"', source)) - {"/health", "/ready"}  # above it
    assert len(paths) > 15
    assert {path for path in paths if f"`{path}`" not in table} == set()
