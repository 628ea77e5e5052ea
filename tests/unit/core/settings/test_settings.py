from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.settings import (
    AuthKey,
    Setting,
    SettingError,
    SettingErrors,
    Settings,
    Tier,
)
from tidegate.errors import ConfigError

SECRET = "a" * 32
NAN = float("nan")
INFINITY = float("inf")
FIELDS = list(Settings.fields())
NAMES = [field.name for field in FIELDS]
TIMES = ' seconds, or a time such as "500ms", "30s", "5m" or "1h"'


def refused(data: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Settings.from_mapping(data)
    return str(caught.value)


def test_defaults() -> None:
    default = Settings()
    assert (default.server.host, default.server.port, default.server.path) == (
        ("127.0.0.1",),
        8000,
        "/ws",
    )
    assert default.limits.connections == 10_000
    assert default.limits.per_ip == 100
    assert default.limits.per_user == 10
    assert (default.heartbeat.interval, default.heartbeat.timeout) == (30.0, 10.0)
    assert default.auth.algorithms == ("HS256",)
    assert Settings.from_mapping({}) == default


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            {"limits": {"per_ip": -1}},
            "limits.per_ip = -1: must be a whole number from 0 to 10,000,000",
        ),
        (
            {"limits": {"per_ip": True}},
            "limits.per_ip = true: must be a whole number from 0 to 10,000,000",
        ),
        (
            {"limits": {"per_ip": 1.0}},
            "limits.per_ip = 1.0: must be a whole number from 0 to 10,000,000",
        ),
        (
            {"limits": {"per_ip": "5"}},
            'limits.per_ip = "5": must be a whole number from 0 to 10,000,000',
        ),
        (
            {"limits": {"per_ip": None}},
            "limits.per_ip = None: must be a whole number from 0 to 10,000,000",
        ),
        (
            {"limits": {"per_ip": 10**30}},
            f"limits.per_ip = {10**30}: must be a whole number from 0 to 10,000,000",
        ),
        (
            {"server": {"port": 65536}},
            "server.port = 65536: must be a whole number from 0 to 65,535",
        ),
        (
            {"heartbeat": {"interval": 0}},
            "heartbeat.interval = 0: must be a number from 0.1 to 86,400" + TIMES,
        ),
        (
            {"heartbeat": {"interval": NAN}},
            "heartbeat.interval = nan: must be a number from 0.1 to 86,400" + TIMES,
        ),
        (
            {"heartbeat": {"interval": INFINITY}},
            "heartbeat.interval = inf: must be a number from 0.1 to 86,400" + TIMES,
        ),
        (
            {"heartbeat": {"interval": False}},
            "heartbeat.interval = false: must be a number from 0.1 to 86,400" + TIMES,
        ),
        (
            {"heartbeat": {"interval": True}},
            "heartbeat.interval = true: must be a number from 0.1 to 86,400" + TIMES,
        ),
        ({"deflate": {"enabled": 1}}, "deflate.enabled = 1: must be true or false"),
        (
            {"deflate": {"window_bits": 8}},
            "deflate.window_bits = 8: must be a whole number from 9 to 15",
        ),
        (
            {"server": {"host": ""}},
            'server.host = "": must be a host name, an address without a port, or unix:/path, '
            "or a list of these",
        ),
        ({"server": {"host": []}}, "server.host = []: must have an address"),
        ({"admin": {"host": []}}, "admin.host = []: must have an address"),
        (
            {"admin": {"host": ["127.0.0.1", "::"]}},
            'admin.token: must be set, because admin.host = "::" is not loopback',
        ),
        (
            {"admin": {"host": ["::1", "127.0.0.1"], "port": 8000}},
            "admin.port = 8000: must not be server.port as well",
        ),
        (
            {"server": {"host": ["unix:/run/t"]}, "admin": {"host": ["::1", "unix:/run/t"]}},
            'admin.host = ["::1", "unix:/run/t"]: must not be server.host as well',
        ),
        (
            {"agent_check": {"enabled": True, "port": 8001}},
            "agent_check.port = 8001: must not be admin.port as well",
        ),
        ({"agent_check": {"host": []}}, "agent_check.host = []: must have an address"),
        (
            {"server": {"path": "ws"}},
            'server.path = "ws": must be empty, or a path that begins with / and has no spaces',
        ),
        (
            {"server": {"origins": "*"}},
            'server.origins = "*": must be a list, each an origin such as '
            '"https://example.com", or "*"',
        ),
        (
            {"server": {"origins": ["https://example.com/"]}},
            'server.origins = ["https://example.com/"]: "https://example.com/" is no origin: '
            'it has something after the host and the port; leave out even the "/"',
        ),
        (
            {"proxies": {"header": "x-real-ip"}},
            'proxies.header = "x-real-ip": must be one of "x-forwarded-for", "forwarded"',
        ),
        (
            {"proxies": {"trusted": ["10.0.0.1/8"]}},
            'proxies.trusted = ["10.0.0.1/8"]: 10.0.0.1/8 has host bits set',
        ),
        (
            {"proxies": {"protocol": True}},
            "proxies.protocol = true: needs proxies.trusted, the networks of the proxies",
        ),
        (
            {"tls": {"certificate": "cert.pem"}},
            "tls.key: must be set too, because tls.certificate is set",
        ),
        (
            {"tls": {"key": "key.pem"}},
            "tls.certificate: must be set too, because tls.key is set",
        ),
        (
            {"admin": {"host": "0.0.0.0"}},
            'admin.token: must be set, because admin.host = "0.0.0.0" is not loopback',
        ),
        (
            {"server": {"port": 9000}, "admin": {"port": 9000}},
            "admin.port = 9000: must not be server.port as well",
        ),
        (
            {"tiers": {"free": {"per_user": -2}}},
            "tiers.free.per_user = -2: must be a whole number from 0 to 10,000,000",
        ),
        (
            {"tiers": {"free": {"reserved": 1.1}}},
            "tiers.free.reserved = 1.1: must be a number from 0 to 1",
        ),
        (
            {"tiers": {"free": {"reserved": 0.6}, "pro": {"reserved": 0.5}}},
            "tiers.*.reserved: must be 1 at most together, not 1.1",
        ),
        (
            {"tiers": {"a b": {}}},
            'tiers."a b": a tier\'s name must be 1 to 64 letters, digits, _ or -',
        ),
        ({"tiers": {"free": 2}}, "tiers.free = 2: must be a section with settings in it"),
        ({"tiers": 2}, "tiers = 2: must be a section of tiers"),
        ({"limits": 3}, "limits = 3: must be a section with settings in it"),
        (
            {"auth": {"algorithms": []}},
            "auth.algorithms = []: must name at least one algorithm",
        ),
        (
            {"auth": {"algorithms": ["HS256", "RS256"], "secret": SECRET}},
            'auth.algorithms = ["HS256", "RS256"]: must not mix HS algorithms with the others',
        ),
        (
            {"auth": {"algorithms": ["RS256"]}},
            'auth.algorithms = ["RS256"]: needs auth.public_key',
        ),
        (
            {"auth": {"algorithms": ["RS256"], "secret": SECRET, "public_key": "key.pem"}},
            'auth.algorithms = ["RS256"]: must be HS algorithms, because auth.secret is set',
        ),
        (
            {"auth": {"public_key": "key.pem"}},
            'auth.algorithms = ["HS256"]: must not be HS algorithms, which use no public key',
        ),
        (
            {"auth": {"anonymous": False}},
            "auth.anonymous = false: needs auth.secret, auth.public_key, auth.keys or auth.issuers"
            " to let anyone in",
        ),
    ],
)
def test_errors_name_the_setting_its_value_and_what_is_allowed(data: Any, text: str) -> None:
    assert refused(data) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            {"limits": {"per_ipp": 1}},
            "limits.per_ipp: there is no such setting; did you mean limits",
        ),
        ({"tiers": {"pro": {"reserve": 1}}}, "did you mean tiers.pro.reserved"),
        ({"lmits": {}}, "lmits: there is no such section; did you mean limits?"),
        (
            {"xyz": {}},
            "xyz: there is no such section; there are server, admin, agent_check, tls, limits",
        ),
        (
            {"drain": {"zzz": 1}},
            "drain.zzz: there is no such setting; there are drain.on_sigterm, drain.window",
        ),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(data: Any, text: str) -> None:
    assert text in refused(data)


def test_none_is_no_algorithm() -> None:
    assert refused({"auth": {"algorithms": ["none"]}}).startswith(
        'auth.algorithms = ["none"]: must be a list, each one of "HS256"'
    )


@pytest.mark.parametrize(
    ("algorithms", "size", "problem"),
    [
        (["HS256"], 31, "auth.secret: must be at least 32 bytes for HS256"),
        (["HS384", "HS256"], 47, "auth.secret: must be at least 48 bytes for HS384"),
        (["HS512"], 63, "auth.secret: must be at least 64 bytes for HS512"),
    ],
)
def test_a_short_secret_is_refused(algorithms: list[str], size: int, problem: str) -> None:
    auth: dict[str, Any] = {"algorithms": algorithms, "secret": "x" * size}
    assert refused({"auth": auth}) == problem
    auth["secret"] = "é" * (size // 2 + 1)  # bytes count, not characters
    assert Settings.from_mapping({"auth": auth}).auth.secret == auth["secret"]


KEY = {"kid": "new", "algorithm": "HS256", "secret": SECRET}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ([KEY, 5], "must be a list, each a section [[auth.keys]]"),
        ({"kid": "new"}, "must be a list, each a section [[auth.keys]]"),
        ([KEY, KEY], 'must not have two keys of kid "new"'),
        ([KEY, {**KEY, "kid": 5}], "number 2: kid = 5: must be a text of one line, not empty"),
        ([KEY, {"secret": SECRET}], 'number 2: algorithm = "": must be one of "HS256"'),
        ([{"algorithm": "none"}], 'number 1: algorithm = "none": must be one of "HS256"'),
        ([{"algorithm": "HS256"}], "number 1: secret: must be set for HS256"),
        ([{"algorithm": "ES256"}], "number 1: public_key: must be set for ES256"),
        ([{**KEY, "public_key": "k"}], 'number 1: public_key = "k": must not be set for HS256'),
        ([{**KEY, "algorithm": "ES256"}], "number 1: secret: must not be set for ES256"),
        ([{**KEY, "algorithm": "HS384"}], "number 1: secret: must be at least 48 bytes for HS384"),
        ([{**KEY, "secrt": "x"}], "number 1: secrt: there is no such setting; did you mean"),
    ],
)
def test_a_wrong_key_of_a_list_is_named_by_its_number(keys: object, problem: str) -> None:
    assert refused({"auth": {"keys": keys}}).startswith(f"auth.keys: {problem}")


def test_all_mistakes_in_a_list_of_keys_are_named() -> None:
    keys = [{**KEY, "kid": 5}, KEY, {"algorithm": "ES256", "publickey": "k"}]
    assert [line.split(":")[1] for line in refused({"auth": {"keys": keys}}).splitlines()] == [
        " number 1",
        " number 3",
        " number 3",
    ]


def test_keys_of_a_list_may_be_of_several_families_and_need_no_kid() -> None:
    keys = [KEY, {**KEY, "kid": None}, {"algorithm": "ES256", "public_key": "k.pem"}, {**KEY}]
    keys[3] = {**KEY, "kid": "old", "secret": "x" * 32}
    made = Settings.from_mapping({"auth": {"keys": keys, "anonymous": False}}).auth
    assert made.has_keys
    assert [key.kid for key in made.keys] == ["new", None, None, "old"]
    assert made.keys[2] == AuthKey(algorithm="ES256", public_key="k.pem")
    # What was made is taken as it is.
    assert Settings.from_mapping({"auth": {"keys": made.keys}}).auth.keys == made.keys


@pytest.mark.parametrize(
    "data",
    [
        {"auth": {"secret": "hush\n" * 20}},
        {"auth": {"keys": "hush" * 10}},
        {"auth": {"keys": ["hush" * 10]}},
        {"auth": {"keys": [{"algorithm": "HS256", "secret": "hush"}]}},
        {"auth": {"keys": [{"algorithm": "HS256", "secret": ["hush"]}]}},
        {"auth": {"keys": [{"algorithm": "hs256", "secret": "hush" * 10}]}},
        {"auth": {"secret": "hush"}},
        {"auth": {"secret": ["hush"]}},
        {"auth": {"secret": "hush" * 10, "algorithms": ["ES256"], "public_key": "k"}},
        {"admin": {"token": "hush"}},
        {"admin": {"token": "hush hush hush hush"}},
        {"waiting_room": {"secret": "hush"}},
    ],
)
def test_secrets_are_never_shown(data: Any) -> None:
    assert "hush" not in refused(data)
    shown = Settings.from_mapping(
        {
            "auth": {
                "secret": "hush" * 10,
                "keys": [{"algorithm": "HS256", "secret": "hush" * 10}],
            },
            "admin": {"token": "hush" * 10},
        }
    )
    assert "hush" not in repr(shown)


@pytest.mark.parametrize(
    "data",
    [
        {"server": {"path": ""}},
        {"server": {"origins": ["*"]}},
        {"server": {"origins": ["https://example.com:8443", "http://[::1]:80", "null"]}},
        {"server": {"host": ["::"]}},
        {"server": {"host": ["[::1]", "fe80::1%eth0", "gate.example", "127.0.0.1"]}},
        {"server": {"host": ["unix:/run/a b.sock"]}, "admin": {"host": ["unix:/run/b.sock"]}},
        {"server": {"host": ["unix:/run/a.sock"]}, "proxies": {"protocol": True}},
        {"admin": {"host": ["::1"]}},
        {"admin": {"host": ["[::1]", "127.8.8.8", "localhost", "unix:/run/admin.sock"]}},
        {"admin": {"host": ["0.0.0.0"], "enabled": False}},
        {"admin": {"host": ["0.0.0.0"], "token": "0123456789abcdef"}},
        {"server": {"port": 0}, "admin": {"port": 0}},
        {"limits": {"connections": 0, "per_ip": 0, "per_user": 0, "per_room": 0}},
        {
            "tiers": {
                f"t{share * 1000:.0f}": {"reserved": share} for share in (0.05, 0.55, 0.3, 0.1)
            }
        },
        {"tiers": {"a": {}}},
        {"proxies": {"trusted": ["10.0.0.0/8", "::1"], "protocol": True}},
        {"auth": {"anonymous": False, "secret": SECRET}},
        {
            "auth": {
                "algorithms": ["RS256", "ES256", "EdDSA"],
                "public_key": "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n",
                "anonymous": False,
            }
        },
        {"tls": {"certificate": "cert.pem", "key": "key.pem"}},
    ],
)
def test_what_is_allowed(data: Any) -> None:
    made = Settings.from_mapping(data)
    for section, values in data.items():
        if section != "tiers":
            for key, value in values.items():
                expected = tuple(value) if isinstance(value, list) else value
                assert getattr(getattr(made, section), key) == expected


@pytest.mark.parametrize("section", ["server", "admin"])
@pytest.mark.parametrize("host", ["localhost", "::1", "[::1]", "unix:/run/t.sock"])
def test_an_address_alone_stands_for_a_list_of_it(section: str, host: str) -> None:
    made = Settings.from_mapping({section: {"host": host}})
    assert getattr(made, section).host == (host,)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:80", "gate.example:80", "[::1]:80", "[::1", "::1]", "[127.0.0.1]", "[]"),
        *("http://127.0.0.1", "10.0.0.0/8", "a b", "a,b", "unix:", "unix:run/t.sock", "/run/t"),
        *("unix:/run/\nt", "", "::1\n", "g\u00fcnter.example"),
    ],
)
def test_what_is_no_address_of_a_listener_is_refused(host: str) -> None:
    assert "a host name, an address" in refused({"server": {"host": host}})
    assert "a host name, an address" in refused({"server": {"host": ["::1", host]}})


def test_lists_become_tuples_and_whole_numbers_fractions() -> None:
    made = Settings.from_mapping(
        {"heartbeat": {"interval": 20}, "proxies": {"trusted": ["10.0.0.0/8"]}}
    )
    assert type(made.heartbeat.interval) is float
    assert made.proxies.trusted == ("10.0.0.0/8",)


def test_tiers_are_made_by_name() -> None:
    made = Settings.from_mapping({"tiers": {"free": {"per_user": 2}, "pro": {"reserved": 0.5}}})
    assert made.tiers == {"free": Tier(per_user=2), "pro": Tier(reserved=0.5)}


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().limits.per_ip = 5  # type: ignore[misc]


def test_an_error_carries_its_parts() -> None:
    with pytest.raises(SettingError) as caught:
        Settings.from_mapping({"limits": {"per_ip": -1}})
    error = caught.value
    assert (error.key, error.value) == ("limits.per_ip", "-1")
    assert error.problem == "must be a whole number from 0 to 10,000,000"


def test_a_long_value_is_cut() -> None:
    text = refused({"server": {"host": "h " * 500}})
    assert "..." in text
    assert len(text) < 200


ISSUER = {"issuer": "https://a.example", "algorithms": ["RS256"], "jwks": "https://a.example/keys"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"issuer": ""}, "must be given"),
        ({"algorithms": []}, "at least one algorithm"),
        ({"algorithms": ["none"]}, "one of"),
        ({"algorithms": ["RS256", "HS256"]}, "must not mix"),
        ({"algorithms": ["HS256"]}, "needs secret"),
        ({"jwks": None}, "needs jwks or public_key"),
        ({"public_key": "key.pem"}, "nothing else beside it"),
        ({"secret": "s" * 32}, "nothing else beside it"),
        ({"algorithms": ["HS256"], "jwks": None, "secret": "short"}, "at least 32 bytes"),
        ({"jwks": "http://a.example/keys"}, "a URL of https, or of http on this machine"),
        ({"jwks": "ftp://a.example/keys"}, "a URL of https"),
        ({"jwks": "https:///keys"}, "a URL of https"),
        ({"jwks": "https://a.example:99999/keys"}, "a URL of https"),
        ({"jwks": "https://me:pass@a.example/keys"}, "must not hold a name or a password"),
        ({"jwks": "https://a.example/keys#one"}, 'behind "#"'),
    ],
)
def test_an_issuer_that_is_wrong_is_refused(changes: dict[str, Any], problem: str) -> None:
    text = refused({"auth": {"issuers": [{**ISSUER, **changes}]}})
    assert text.startswith("auth.issuers: number 1: ")
    assert problem in text


def test_issuers_have_names_of_their_own() -> None:
    assert "must not have two of issuer" in refused({"auth": {"issuers": [ISSUER, ISSUER]}})
    own = {"secret": "s" * 32, "issuer": ISSUER["issuer"], "issuers": [ISSUER]}
    assert "must not have two of issuer" in refused({"auth": own})


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:80"])
def test_an_issuer_on_this_machine_needs_no_tls(host: str) -> None:
    made = Settings.from_mapping({"auth": {"issuers": [{**ISSUER, "jwks": f"http://{host}/k"}]}})
    assert made.auth.issuers[0].jwks_url == f"http://{host}/k"
    assert made.auth.has_keys


HOOKS = {"url": "http://app:3000/hooks", "secret": "s" * 32, "questions": ["connect"]}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": None}, 'webhooks.questions = ["connect"]: needs webhooks.url'),
        ({"url": None, "questions": [], "facts": ["left"]}, "webhooks.facts"),
        ({"secret": None}, "webhooks.secret: must be set, because webhooks.url is"),
        ({"secret": "s" * 31}, "webhooks.secret: must be at least 32 bytes"),
        ({"questions": []}, "needs webhooks.questions or webhooks.facts"),
        ({"questions": ["leave"]}, 'one of "connect", "join", "publish"'),
        ({"facts": ["connect"]}, 'one of "connected"'),
        ({"url": "file:///etc/passwd"}, "must be a URL of http or https"),
        ({"url": "http://me@app/hooks"}, "must not hold a name or a password"),
        ({"url": "app:3000"}, "must be a URL of http or https"),
        ({"on_failure": "retry"}, 'one of "refuse", "allow"'),
    ],
)
def test_webhooks_that_are_wrong_are_refused(changes: dict[str, Any], problem: str) -> None:
    text = refused({"webhooks": {**HOOKS, **changes}})
    assert problem in text
    assert "s" * 31 not in text


def test_webhooks_may_be_in_the_network_of_the_server() -> None:
    assert Settings.from_mapping({"webhooks": HOOKS}).webhooks.url == HOOKS["url"]


def test_control_characters_are_escaped() -> None:
    assert "\x1b" not in refused({"server": {"host": "\x1b[31m"}})


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
class TestEveryField:
    def test_is_documented(self, field: Setting) -> None:
        assert field.doc.endswith(".")
        assert field.allowed
        assert field.kind in (bool, int, float, str) or field.sections
        assert (field.unit in ("s", "bytes", "bytes/s", "bits")) or not field.unit

    def test_has_a_default_that_it_allows(self, field: Setting) -> None:
        assert field.check(field.default) == field.default

    def test_refuses_what_is_of_no_type(self, field: Setting) -> None:
        with pytest.raises(SettingError, match="must be"):
            field.check(object())

    def test_has_ends_that_are_allowed(self, field: Setting) -> None:
        if field.kind in (int, float):
            one = (lambda value: (value,) * field.length) if field.many else (lambda value: value)
            for end in (field.low, field.high):
                assert field.check(one(field.kind(end))) == one(end)
            for beyond in (field.low - 1, field.high + 1):
                with pytest.raises(SettingError):
                    field.check(one(field.kind(beyond)))


def test_every_field_is_listed_once() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert "limits.per_ip" in NAMES
    assert "tiers.*.reserved" in NAMES
    assert [field.name for field in FIELDS if field.secret] == [
        "admin.token",
        "tls.key_password",
        "waiting_room.secret",
        "backplane.url",
        "auth.secret",
        "auth.keys",
        "auth.issuers",
        "webhooks.secret",
        "ingest.sources",
    ]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@given(st.sampled_from(FIELDS), plain)
@settings(max_examples=300)
def test_any_value_is_taken_or_refused_with_the_name_of_a_setting(
    field: Setting, value: Any
) -> None:
    section, _, tier = field.section.partition(".")
    data = {field.key: value}
    error: SettingError | None = None
    try:
        Settings.from_mapping({section: {"x": data} if tier else data})
    except SettingError as caught:
        error = caught
    assert error is None or error.key.replace("tiers.x.", "tiers.*.") in NAMES


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("heartbeat.interval", "30s", 30.0),
        ("heartbeat.interval", "1.5 h", 5400.0),
        ("heartbeat.interval", "500ms", 0.5),
        ("heartbeat.interval", "5M", 300.0),
        ("heartbeat.idle_timeout", "1d", 86_400.0),
        ("heartbeat.interval", "45", 45.0),
        ("messages.max_size", "1MiB", 1 << 20),
        ("messages.max_size", "64KB", 64_000),
        ("messages.max_size", "1.5kib", 1536),
        ("messages.max_size", "512B", 512),
        ("messages.bytes_per_second", "2MB", 2_000_000),
    ],
)
def test_times_and_sizes_may_be_texts(name: str, text: str, value: float) -> None:
    section, _, key = name.partition(".")
    found = getattr(getattr(Settings.from_mapping({section: {key: text}}), section), key)
    assert found == value
    assert type(found) is type(value)


def test_times_and_sizes_in_lists_may_be_texts() -> None:
    made = Settings.from_mapping(
        {
            "shedding": {"loop_lag": ["50ms", 0.5], "buffered": ["64MiB", "1GiB"]},
            "zones": {"ping_interval": ["45s", "1m", "2m"]},
        }
    )
    assert made.shedding.loop_lag == (0.05, 0.5)
    assert made.shedding.buffered == (64 << 20, 1 << 30)
    assert made.zones.ping_interval == (45.0, 60.0, 120.0)


@pytest.mark.parametrize(
    "data",
    [
        {"heartbeat": {"interval": "-5m"}},
        {"heartbeat": {"interval": "1MiB"}},
        {"heartbeat": {"interval": "soon"}},
        {"heartbeat": {"interval": "1h30m"}},
        {"heartbeat": {"interval": "2d"}},
        {"messages": {"max_size": "0.5B"}},
        {"messages": {"max_size": "30s"}},
        {"messages": {"max_size": "-1MiB"}},
        {"limits": {"per_ip": "30s"}},
        {"deflate": {"window_bits": "12"}},
    ],
)
def test_texts_that_are_no_time_or_size_are_refused(data: Any) -> None:
    (text,) = (value for section in data.values() for value in section.values())
    assert f' = "{text}": must be ' in refused(data)


def test_all_mistakes_are_told_at_once() -> None:
    data: dict[str, Any] = {
        "limits": {"per_ip": -1, "peruser": 2, "per_room": "x"},
        "tiers": {"a": {"reserved": 2}, "b": 5},
        "limit": {},
        "admin": {"host": "0.0.0.0"},
    }
    with pytest.raises(SettingErrors) as caught:
        Settings.from_mapping(data)
    assert [one.key for one in caught.value.errors] == [
        "limits.peruser",
        "limits.per_ip",
        "limits.per_room",
        "tiers.a.reserved",
        "tiers.b",
        "limit",
        "admin.token",
    ]
    assert str(caught.value).count("\n") == 6
