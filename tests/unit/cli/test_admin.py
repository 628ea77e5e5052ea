from __future__ import annotations

import pytest

from tidegate.cli.admin import Admin
from tidegate.core.settings import AdminSettings
from tidegate.errors import UsageError


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "http://127.0.0.1:9001"),
        ("127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("10.0.0.5", "http://10.0.0.5:9001"),
        ("localhost:8001", "http://localhost:8001"),
        ("gate.example", "http://gate.example:9001"),
        ("[::1]:8001", "http://[::1]:8001"),
        ("::1", "http://[::1]:9001"),
        ("[::1]", "http://[::1]:9001"),
        ("127.0.0.1:8001/gate/", "http://127.0.0.1:8001/gate"),
        ("http://127.0.0.1:8001/", "http://127.0.0.1:8001"),
        ("https://gate.example", "https://gate.example"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
    ],
)
def test_the_scheme_and_the_port_may_be_left_out(given: str | None, url: str) -> None:
    assert Admin(AdminSettings(port=9001), given).url == url


@pytest.mark.parametrize(
    "given", ["ftp://a", "127.0.0.1:port", "127.0.0.1:99999", "http://", "://a", ":8001"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match=r"must be like 127\.0\.0\.1:8001"):
        Admin(AdminSettings(), given)
