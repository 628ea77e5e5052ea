"""Web origins: what is listed and what browsers send are read as one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.origins import Origins, normal_origin


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("*", "*"),
        ("null", "null"),
        ("file://", "file://"),
        ("https://a.example", "https://a.example"),
        ("https://A.Example", "https://a.example"),
        ("HTTPS://a.example", "https://a.example"),
        ("https://b.example:443", "https://b.example"),
        ("http://b.example:80", "http://b.example"),
        ("https://b.example:80", "https://b.example:80"),
        ("https://b.example:0443", "https://b.example"),
        ("https://b.example:", "https://b.example"),
        ("https://b.example:0", "https://b.example:0"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("https://a_b.example", "https://a_b.example"),
        ("https://a.example.", "https://a.example."),
        # As `new URL(…).origin` says in Chromium.
        ("https://Bücher.example", "https://xn--bcher-kva.example"),
        ("https://BÜCHER.example:443", "https://xn--bcher-kva.example"),
        ("https://xn--BCHER-kva.example", "https://xn--bcher-kva.example"),
        ("https://faß.example", "https://xn--fa-hia.example"),
        ("https://ΒΌΛΟΣ.example", "https://xn--nxasmq6b.example"),
        ("https://例え.テスト", "https://xn--r8jz45g.xn--zckzah"),
        ("https://例え。テスト", "https://xn--r8jz45g.xn--zckzah"),
        ("https://Ａ．example", "https://a.example"),
        ("https://☃.example", "https://xn--n3h.example"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://[2001:DB8:0:0::7]:80", "http://[2001:db8::7]"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://127.1", "http://127.0.0.1"),
        ("http://0x7F.0.0.010", "http://127.0.0.8"),
        ("http://2130706433", "http://127.0.0.1"),
        ("https://*.c.example", "https://*.c.example"),
        ("https://*.C.example:443", "https://*.c.example"),
        ("https://*.*.c.example", "https://*.*.c.example"),
        ("https://a.example:*", "https://a.example:*"),
        ("http://[::1]:*", "http://[::1]:*"),
        ("chrome-extension://ABCdefgh", "chrome-extension://abcdefgh"),
        ("moz-extension://*", "moz-extension://*"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("app://obsidian.md", "app://obsidian.md"),
    ],
)
def test_normal_origin_is_what_browsers_write(written: str, normal: str) -> None:
    assert normal_origin(written) == normal
    assert normal_origin(normal) == normal


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "scheme"),
        ("a.example", "scheme"),
        ("NULL", "scheme"),
        ("//a.example", "scheme"),
        ("1http://a.example", "scheme"),
        ("a.example://x y", "character"),
        ("https://a.example/", 'leave out even the "/"'),
        ("https://a.example/app", "something after"),
        ("https://a.example?x", "something after"),
        ("https://a.example#x", "something after"),
        ("https://ann@a.example", "user name"),
        ("https://ann:secret@a.example", "user name"),
        ("https://", "no host"),
        ("https://:443", "no host"),
        ("ws://a.example", '"http://"'),
        ("WSS://a.example", '"https://"'),
        ("file:///home/ann/page.html", '"file://"'),
        ("file://a.example", '"file://"'),
        ("https://a.example:https", "65535"),
        ("https://a.example:65536", "65535"),
        ("https://a.example:-1", "65535"),
        ("https://a.example:٤٤٣", "65535"),
        ("https://a b.example", "character"),
        ("https://a%20b.example", "character"),
        ("https://a..example", "empty label"),
        ("https://.", "empty label"),
        ("https://a.example..", "empty label"),
        ("https://ä\u200e.example", "character"),
        ("https://xn--\x7f.example", "character"),
        ("https://xn--999999999.example", "Punycode"),
        ("https://" + "a" * 64 + ".example", "63"),
        ("https://" + "ü" * 60 + ".example", "63"),
        ("https://" + "abcdefg." * 32 + "example", "253"),
        ("https://*", "last label"),
        ("https://a.*", "last label"),
        ("https://*.", "last label"),
        ("https://a*.example", "whole label"),
        ("https://**.example", "whole label"),
        ("https://10.0.0.*", "last label"),
        ("https://10.*.0.1", '"*"'),
        ("https://256.0.0.1", "IPv4"),
        ("https://1.2.3.4.5", "IPv4"),
        ("https://a.example.1", "IPv4"),
        ("https://0x100000000", "IPv4"),
        ("https://09", "IPv4"),
        ("http://[::1", "character"),
        ("http://[a.example]", "IPv6"),
        ("http://[fe80::1%eth0]", "IPv6"),
        ("http://[::1]x", "something after"),
        ("app://a*", "character"),
        ("*://a.example", "scheme"),
    ],
)
def test_normal_origin_of_what_is_none_says_why(written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("*", r"\*")):
        normal_origin(written)
    with pytest.raises(ValueError, match=why.replace("*", r"\*")):
        Origins([written])


@given(st.text(max_size=60) | st.from_regex(r"https?://[^/]{0,40}"))
def test_normal_origin_of_any_text_is_stable_or_refused(text: str) -> None:
    normal = None
    with suppress(ValueError):
        normal = normal_origin(text)
    if normal is not None:
        assert normal.isascii()
        assert normal_origin(normal) == normal


@given(st.text(max_size=500), st.text(max_size=80), st.booleans())
def test_allows_whatever_a_peer_sends_raises_nothing(origin: str, host: str, secure: bool) -> None:
    for listed in ([], ["https://a.example"], ["https://*.a.example:*"]):
        assert Origins(listed).allows(origin, host, secure) in (True, False)


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "secure", "expected"),
    [
        ("https://evil.org", "a.org", ("*",), True, True),
        ("nonsense", "a.org", ("*",), True, True),
        ("null", "a.org", (), False, False),
        ("null", "a.org", ("null",), False, True),
        ("file://", "a.org", ("null",), False, False),
        ("file://", "a.org", ("file://",), False, True),
        ("file://", "a.org", (), False, False),
        ("http://a.org", "a.org", (), False, True),
        ("http://a.org", "a.org", (), True, False),
        ("https://a.org", "a.org", (), True, True),
        ("https://a.org", "a.org", (), False, True),
        ("https://a.org", "A.org", (), True, True),
        ("https://a.org", "a.org:443", (), True, True),
        ("http://a.org", "a.org:80", (), False, True),
        ("http://a.org:8000", "a.org:8000", (), False, True),
        ("http://a.org:8001", "a.org:8000", (), False, False),
        ("http://a.org.evil.org", "a.org", (), False, False),
        # What other programs than browsers send for the same page.
        ("HTTPS://A.org:443", "a.org", (), True, True),
        ("http://A.org:80", "a.org", (), False, True),
        ("http://A.org:80", "a.org", (), True, False),
        ("http://[0:0::1]:8000", "[::1]:8000", (), False, True),
        ("", "", (), False, False),
        ("https://b.org", "a.org", ("https://b.org", "https://c.org"), True, True),
        ("http://b.org", "a.org", ("https://b.org",), True, False),
        ("https://x.b.org", "a.org", ("https://b.org",), True, False),
        ("https://a.org", "a.org", ("https://b.org",), True, False),
        ("", "a.org", (), False, False),
        # One list entry in any spelling, one Origin in any spelling.
        ("https://b.org", "a.org", ("https://B.org:443",), True, True),
        ("https://B.org:443", "a.org", ("https://b.org",), True, True),
        ("https://b.org:8443", "a.org", ("https://b.org",), True, False),
        ("https://xn--bcher-kva.org", "a.org", ("https://bücher.org",), True, True),
        ("https://bücher.org", "a.org", ("https://bücher.org",), True, False),
        # One label.
        ("https://x.b.org", "a.org", ("https://*.b.org",), True, True),
        ("https://X.b.org:443", "a.org", ("https://*.b.org",), True, True),
        ("https://xn--bcher-kva.b.org", "a.org", ("https://*.b.org",), True, True),
        ("https://b.org", "a.org", ("https://*.b.org",), True, False),
        ("https://y.x.b.org", "a.org", ("https://*.b.org",), True, False),
        ("https://y.x.b.org", "a.org", ("https://*.*.b.org",), True, True),
        ("https://xb.org", "a.org", ("https://*.b.org",), True, False),
        ("https://x.b.org.evil.org", "a.org", ("https://*.b.org",), True, False),
        ("https://x.bxorg", "a.org", ("https://*.b.org",), True, False),
        ("https://x.b.org:8443", "a.org", ("https://*.b.org",), True, False),
        ("http://x.b.org", "a.org", ("https://*.b.org",), True, False),
        ("https://evil/x.b.org", "a.org", ("https://*.b.org",), True, False),
        ("https://evil@x.b.org", "a.org", ("https://*.b.org",), True, False),
        ("https://*.b.org", "a.org", ("https://*.b.org",), True, False),
        # The port.
        ("http://localhost:5173", "a.org", ("http://localhost:*",), True, True),
        ("http://localhost", "a.org", ("http://localhost:*",), True, True),
        ("https://localhost:5173", "a.org", ("http://localhost:*",), True, False),
        ("http://localhost.evil.org:1", "a.org", ("http://localhost:*",), True, False),
        ("http://localhost:x", "a.org", ("http://localhost:*",), True, False),
        ("http://[::1]:9", "a.org", ("http://[::1]:*",), True, True),
        ("http://x.localhost:1", "a.org", ("http://*.localhost:*", "null"), True, True),
        ("null", "a.org", ("http://*.localhost:*", "null"), True, True),
        ("moz-extension://6c2e-11", "a.org", ("moz-extension://*",), True, True),
    ],
)
def test_allows(
    origin: str, host: str, allowed: tuple[str, ...], secure: bool, expected: bool
) -> None:
    assert Origins(allowed).allows(origin, host, secure) is expected
