"""The chat of the guide: its files are those of examples/chat, and two browsers use it."""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.conftest import Start
from tests.docs.pages import blocks
from tests.support.net import free_port
from tests.support.process import ROOT, Process

EXAMPLE = ROOT / "examples" / "chat"
FILES = ("chat.toml", "client.py", "index.html", "web.py")
SECONDS = 20_000  # milliseconds that a busy machine may take


def test_the_files_of_the_guide_are_those_of_the_example() -> None:
    shown = {block.text for block in blocks(ROOT / "docs" / "guide" / "chat.md")}
    assert [name for name in FILES if (EXAMPLE / name).read_text() not in shown] == []


def test_two_browsers_chat_and_miss_nothing_after_a_cut(
    serve: Start, tmp_path: Path, chromium: str
) -> None:
    ports = {name: free_port() for name in ("8000", "9000")}
    for name in FILES:
        text = (EXAMPLE / name).read_text()
        text = re.sub(r"\b(8000|9000)\b", lambda match: str(ports[match[1]]), text)
        (tmp_path / name).write_text(text)
    server = serve(
        arguments=["--config", str(tmp_path / "chat.toml"), "--port", str(ports["8000"])],
        port=ports["8000"],
        admin=False,
        environment={"TIDEGATE_ADMIN_ENABLED": "false"},
    )
    web = Process(
        [sys.executable, "web.py"],
        tmp_path,
        port=ports["9000"],
        admin=False,
        prepare=partial(os.chdir, tmp_path),
    ).wait_ready()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            ann, bob = (browser.new_page() for _ in range(2))
            for page, user in ((ann, "ann"), (bob, "bob")):
                page.goto(f"http://127.0.0.1:{ports['9000']}/?user={user}")
                expect(page.locator("#people")).to_contain_text("Ann", timeout=SECONDS)
            expect(ann.locator("#people")).to_contain_text("Bob", timeout=SECONDS)
            say(ann, "<b>Hello</b> Bob")
            expect(bob.locator("#messages li")).to_contain_text(
                ["<b>Hello</b> Bob"], timeout=SECONDS
            )

            bob.get_by_role("button", name="Cut the line").click()
            expect(bob.locator("#people")).to_have_text("The line is cut")
            for text in ("one", "two", "three"):
                say(ann, text)
            wanted = ["<b>Hello</b> Bob", "one", "two", "three"]
            expect(bob.locator("#messages li")).to_contain_text(wanted, timeout=SECONDS)

            ann.reload()  # and the history is there
            expect(ann.locator("#messages li")).to_contain_text(wanted, timeout=SECONDS)
            browser.close()
    finally:
        web.kill()
    assert server.stop() == 0


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#messages li").last).to_contain_text(text, timeout=SECONDS)
