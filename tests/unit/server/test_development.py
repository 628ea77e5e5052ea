"""The settings of `make run`."""

from __future__ import annotations

import re

from tests.support.process import ROOT
from tidegate.addresses import is_local
from tidegate.core.origins import Origins
from tidegate.server.config import load

FILE = ROOT / "examples" / "development.toml"


def test_development_settings_serve_this_machine_only() -> None:
    server = load(FILE).settings.server
    assert all(map(is_local, server.host))
    origins = Origins(server.origins)
    for name in ("127.0.0.1", "localhost", "[::1]"):
        assert origins.allows(f"http://{name}:8001", "127.0.0.1:8000", secure=False)
    for name in ("evil.example", "localhost.evil.example", "10.0.0.1"):
        assert not origins.allows(f"http://{name}:8001", "127.0.0.1:8000", secure=False)


def test_page_to_try_it_signs_with_the_secret_of_development() -> None:
    page = (ROOT / "src/tidegate/server/dashboard/static/try.js").read_text()
    found = re.search(r'const DEVELOPMENT = "(.*)";', page)
    assert found
    assert load(FILE).settings.auth.secret == found[1]
