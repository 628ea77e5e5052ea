from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.settings import AuthKey, Settings, Tier
from tidegate.errors import ConfigError
from tidegate.server.config import find_file, load
from tidegate.server.environment import environment_name

SECRET = "not-for-anybody-else-to-see-at-all-0123"


def value(name: str, environment: Mapping[str, str] = {}, *assignments: str) -> Any:
    loaded = load(None, environment, [("--set", one) for one in assignments])
    section, _, key = name.partition(".")
    return getattr(getattr(loaded.settings, section), key)


def refused(*args: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*args)
    return str(caught.value)


def test_nothing_given_is_the_defaults() -> None:
    loaded = load()
    assert loaded.settings == Settings()
    assert loaded.sources == {}
    assert loaded.given == {}


def test_what_is_given_is_kept_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text("[limits]\nper_ip = 5\n[tiers.free]\nper_user = 2\n")
    loaded = load(file, {"TIDEGATE_LIMITS_PER_USER": "3"})
    assert loaded.given == {
        "limits": {"per_ip": 5, "per_user": 3},
        "tiers": {"free": {"per_user": 2}},
    }


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("limits.per_ip", "5", 5),
        ("limits.connections", "20_000", 20_000),
        ("shedding.cpu", "0.5,0.9", (0.5, 0.9)),
        ("shedding.cpu", "[0.5, 1]", (0.5, 1.0)),
        ("shedding.loop_lag", "50ms, 0.5", (0.05, 0.5)),
        ("shedding.buffered", "64MiB,1GiB", (64 << 20, 1 << 30)),
        ("zones.broadcast", "true,no,0", (True, False, False)),
        ("zones.broadcast", "[true, true, false]", (True, True, False)),
        ("zones.max_message_size", "64KB,16KB,1024", (64_000, 16_000, 1024)),
        ("heartbeat.interval", "1m", 60.0),
        ("messages.max_size", "1MiB", 1 << 20),
        ("log.level", "debug", "debug"),
        ("server.host", "::1", ("::1",)),
        ("server.host", "[::1]", ("[::1]",)),
        ("server.host", "[::1], 127.0.0.1", ("[::1]", "127.0.0.1")),
        ("server.host", '["::1", "127.0.0.1"]', ("::1", "127.0.0.1")),
        ("server.host", "localhost,unix:/run/t.sock", ("localhost", "unix:/run/t.sock")),
        ("server.close_timeout", "2.5", 2.5),
        ("server.close_timeout", "2", 2.0),
        ("server.origins", "https://a.example", ("https://a.example",)),
        (
            "server.origins",
            "https://a.example, https://b.example,",
            ("https://a.example", "https://b.example"),
        ),
        (
            "server.origins",
            '["https://a.example", "https://b.example"]',
            ("https://a.example", "https://b.example"),
        ),
        ("server.origins", "[]", ()),
        ("admin.enabled", "false", False),
        ("admin.enabled", "OFF", False),
        ("admin.enabled", "0", False),
        ("deflate.enabled", "true", True),
        ("deflate.enabled", "Yes", True),
        ("deflate.enabled", "1", True),
        ("auth.issuer", "me", "me"),
        ("auth.secret", SECRET, SECRET),
        (
            "auth.keys",
            f'[{{"algorithm": "HS256", "secret": "{SECRET}"}}]',
            (AuthKey(algorithm="HS256", secret=SECRET),),
        ),
    ],
)
def test_texts_become_values_of_the_setting_s_type(name: str, text: str, expected: Any) -> None:
    for found in (value(name, {environment_name(name): text}), value(name, {}, f"{name}={text}")):
        assert found == expected
        assert type(found) is type(expected)


@pytest.mark.parametrize("known", list(Settings.fields()), ids=lambda known: known.name)
def test_every_setting_has_a_variable(known: Any) -> None:
    name = known.name.replace("*", "free")
    with pytest.raises(ConfigError) as caught:
        load(None, {environment_name(name): "\x00"})
    assert str(caught.value).startswith(name)
    assert f"({environment_name(name)})" in str(caught.value)


def test_the_rising_order(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text("[limits]\nper_ip = 1\nper_user = 1\nper_room = 1\n")
    loaded = load(
        file,
        {"TIDEGATE_LIMITS_PER_USER": "2", "TIDEGATE_LIMITS_PER_ROOM": "2"},
        [("--set", "limits.per_room=3"), ("--set", "limits.per_room=4")],
    )
    limits = loaded.settings.limits
    assert (limits.per_ip, limits.per_user, limits.per_room) == (1, 2, 4)
    assert loaded.sources == {
        "limits.per_ip": f"{file}:2",
        "limits.per_user": "TIDEGATE_LIMITS_PER_USER",
        "limits.per_room": "--set",
    }


@pytest.mark.parametrize(
    ("file", "environment", "port"),
    [
        ("", {"PORT": "9000"}, 9000),
        ("", {"PORT": ""}, 8000),
        ("[server]\nport = 8100\n", {"PORT": "9000"}, 9000),
        ("", {"PORT": "9000", "TIDEGATE_SERVER_PORT": "9001"}, 9001),
    ],
)
def test_port_goes_between_the_file_and_our_own_variable(
    tmp_path: Path, file: str, environment: dict[str, str], port: int
) -> None:
    (tmp_path / "tidegate.toml").write_text(file)
    loaded = load(tmp_path / "tidegate.toml", environment)
    assert loaded.settings.server.port == port


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    named, given = tmp_path / "named.toml", tmp_path / "given.toml"
    named.write_text("limits.per_ip = 1\n")
    given.write_text("limits.per_ip = 2\n")
    environment = {"TIDEGATE_CONFIG": str(named)}
    assert find_file(None, environment) == named
    assert find_file(given, environment) == given
    loaded = load(find_file(None, environment), environment)
    assert loaded.settings.limits.per_ip == 1
    assert loaded.file == named


def test_a_file_in_the_working_directory_is_read_when_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file(None, {}) is None
    (tmp_path / "tidegate.toml").mkdir()
    assert find_file(None, {}) is None
    (tmp_path / "tidegate.toml").rmdir()
    (tmp_path / "tidegate.toml").symlink_to("nowhere")
    assert refused(find_file(None, {})) == (
        "tidegate.toml: the file cannot be read: No such file or directory"
    )
    (tmp_path / "tidegate.toml").unlink()
    (tmp_path / "tidegate.toml").write_text("")
    assert find_file(None, {}) == Path("tidegate.toml")
    assert find_file(None, {"TIDEGATE_CONFIG": ""}) == Path("tidegate.toml")
    assert find_file(None, {"TIDEGATE_CONFIG": "/dev/null"}) == Path("/dev/null")
    assert load("/dev/null").settings == Settings()


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbflimits.per_ip = 5\r\n")
    assert load(tmp_path / "a.toml").settings.limits.per_ip == 5


@pytest.mark.parametrize("known", list(Settings.fields()), ids=lambda known: known.name)
@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_variable_is_not_set(tmp_path: Path, known: Any, text: str) -> None:
    variable = environment_name(known.name.replace("*", "free"))
    (tmp_path / "a.toml").write_text('limits.per_ip = 5\nauth.issuer = "me"\n')
    loaded = load(tmp_path / "a.toml", {variable: text})
    assert loaded.settings == load(tmp_path / "a.toml").settings
    assert variable not in loaded.sources.values()


def test_an_empty_value_of_an_option_is_a_value() -> None:
    environment = {"TIDEGATE_AUTH_ISSUER": "me", "TIDEGATE_SERVER_ORIGINS": "https://a.example"}
    assert value("auth.issuer", environment, "auth.issuer=") is None
    assert value("server.origins", environment, "server.origins=") == ()
    assert value("server.path", {}, "server.path=") == ""


def test_a_later_source_wins_before_an_earlier_value_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[limits]\nper_ip = "many"\nper_user = -1\n')
    loaded = load(
        file,
        {"TIDEGATE_LIMITS_PER_IP": "some", "TIDEGATE_LIMITS_PER_USER": "2", "PORT": "http"},
        [("--set", "limits.per_ip=few"), ("--set", "limits.per_ip=3"), ("--port", "server.port=1")],
    )
    limits = loaded.settings.limits
    assert (limits.per_ip, limits.per_user) == (3, 2)
    assert loaded.settings.server.port == 1


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[limits]\nper_ip = -1\nperuser = 1\n[limit]\n")
    lines = refused(
        file,
        {"TIDEGATE_LIMIT_PER_IP": "1", "TIDEGATE_SERVER_PORT": "http"},
        [("--set", "per_ip"), ("--set", "limits.perip=1"), ("--set", "drain.window=-5m")],
    ).splitlines()
    assert [
        line.partition(":")[0] if "(" not in line else line.partition(" (")[0] for line in lines
    ] == [
        "TIDEGATE_LIMIT_PER_IP",
        "--set per_ip",
        "--set limits.perip",
        "limits.peruser",
        "limits.per_ip = -1",
        "limit",
        'server.port = "http"',
        'drain.window = "-5m"',
    ]


def test_tiers_from_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text("[tiers.free]\nper_user = 2\nreserved = 0.25\n")
    environment = {"TIDEGATE_TIERS_FREE_PER_USER": "3", "TIDEGATE_TIERS_PRO_MAX_CONNECTIONS": "9"}
    loaded = load(file, environment, [("--set", "tiers.free.connections=4")])
    assert loaded.settings.tiers == {
        "free": Tier(per_user=3, connections=4, reserved=0.25),
        "pro_max": Tier(connections=9),
    }
    assert loaded.sources["tiers.free.reserved"] == f"{file}:3"


def test_other_variables_are_left_alone() -> None:
    assert load(None, {"HOME": "/", "TIDE": "high", "tidegate_limits_per_ip": "x"}).sources == {}


@pytest.mark.parametrize(
    ("environment", "assignment", "expected"),
    [
        (
            {"TIDEGATE_LIMITS_PER_IP": "-1"},
            "",
            "limits.per_ip = -1 (TIDEGATE_LIMITS_PER_IP): must be a whole number from 0 to",
        ),
        (
            {"TIDEGATE_LIMITS_PER_IP": "many"},
            "",
            'limits.per_ip = "many" (TIDEGATE_LIMITS_PER_IP): must be a whole number from 0 to',
        ),
        ({"PORT": "http"}, "", 'server.port = "http" (PORT): must be a whole number'),
        ({}, "deflate.enabled=maybe", 'deflate.enabled = "maybe" (--set): must be true or false'),
        ({}, "server.close_timeout=nan", "server.close_timeout = nan (--set): must be a number"),
        (
            {},
            'server.origins=["https://a.example"',
            'server.origins = ["[\\"https://a.example\\""] (--set): must be a list',
        ),
        ({}, 'server.origins=["x", 1]', 'server.origins = ["x", 1] (--set): must be a list'),
        ({}, "limits.per_ip", "--set limits.per_ip: must be section.key=value"),
        ({}, "=1", "--set =1: must be section.key=value"),
        (
            {},
            "limits.perip=1",
            "--set limits.perip: there is no such setting; did you mean limits.per_ip or",
        ),
        ({}, "per_ip=1", "--set per_ip: there is no such setting; did you mean limits.per_ip?"),
        ({}, "tiers.per_user=1", "--set tiers.per_user: there is no such setting; did you mean ti"),
        ({}, "tiers.*.per_user=1", 'tiers."*": a tier\'s name must be'),
        ({}, "zzz=1", "--set zzz: there is no such setting; `tidegate config default` lists all"),
        (
            {"TIDEGATE_LIMIT_PER_IP": "1"},
            "",
            "TIDEGATE_LIMIT_PER_IP: there is no such setting; did you mean TIDEGATE_LIMITS_PER_IP",
        ),
        (
            {"TIDEGATE_PORT": "1"},
            "",
            "TIDEGATE_PORT: there is no such setting; did you mean TIDEGATE_SERVER_PORT or TIDEG",
        ),
        ({"TIDEGATE_TIERS__PER_USER": "1"}, "", "TIDEGATE_TIERS__PER_USER: there is no such"),
        ({"TIDEGATE_": "1"}, "", "TIDEGATE_: there is no such setting"),
        (
            {"TIDEGATE_ADMIN_HOST": "0.0.0.0"},
            "",
            'admin.token: must be set, because admin.host = "0.0.0.0" is not loopback; '
            "admin.host is from TIDEGATE_ADMIN_HOST",
        ),
        (
            {"TIDEGATE_TIERS_A_RESERVED": "0.7"},
            "tiers.b.reserved=0.7",
            "tiers.*.reserved (TIDEGATE_TIERS_A_RESERVED, --set): must be 1 at most together",
        ),
    ],
)
def test_errors_name_setting_value_source_and_what_is_allowed(
    environment: dict[str, str], assignment: str, expected: str
) -> None:
    options = [("--set", assignment)] if assignment else []
    assert refused(None, environment, options).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[limits]\n\nper_ip = -1\n", "limits.per_ip = -1 ({file}:3): must be a whole number"),
        ('[limits]\n"per_ip" = true # no\n', "limits.per_ip = true ({file}:2): must be"),
        ("limits.per_ip = 'x'\n", 'limits.per_ip = "x" ({file}:1): must be'),
        ("limits = {{ per_ip = -1 }}\n", "limits.per_ip = -1 ({file}): must be"),
        ("[limits]\nperip = 1\n", "limits.perip ({file}:2): there is no such setting; did you"),
        (
            "[limit]\nper_ip = 1\n",
            "limit ({file}:2): there is no such section; did you mean limits",
        ),
        ("limits = 5\n", "limits = 5 ({file}:1): must be a section"),
        ("[tiers.free]\nper_user = -2\n", "tiers.free.per_user = -2 ({file}:2): must be"),
        ("[limits\n", "{file}: this is not TOML: "),
    ],
)
def test_errors_in_a_file_name_its_line(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text(text.replace("{{", "{").replace("}}", "}"))
    assert refused(file).startswith(expected.format(file=file))


def test_a_section_that_is_none_cannot_be_added_to(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text("limits = 5\n")
    said = refused(file, {"TIDEGATE_LIMITS_PER_IP": "1"})
    assert said == f"limits = 5 ({file}:1): must be a section with settings in it"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing, binary = tmp_path / "missing.toml", tmp_path / "binary.toml"
    binary.write_bytes(b"\xff")
    assert refused(missing) == f"{missing}: the file cannot be read: No such file or directory"
    assert refused(tmp_path).startswith(f"{tmp_path}: the file cannot be read: ")
    assert refused("/dev/zero") == "/dev/zero: the file is larger than 1 MiB"
    assert refused(binary) == f"{binary}: the file is not UTF-8"


@pytest.mark.parametrize("name", ["auth.secret", "admin.token", "auth.keys"])
def test_a_secret_is_never_shown(tmp_path: Path, name: str) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text(f'{name} = ["{SECRET}"]\n')
    short = SECRET[:9]
    sources: list[tuple[Any, ...]] = [
        (file,),
        (None, {environment_name(name): short}),
        (None, {}, [("--set", f"{name}={short}")]),
    ]
    for args in sources:
        said = refused(*args)
        assert said.startswith(name)
        assert short not in said
    if name != "auth.keys":
        assert SECRET not in repr(load(None, {environment_name(name): SECRET}))


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *(f"TIDEGATE_{x}" for x in ("A", "TIERS_X_RESERVED")),
                *(
                    environment_name(known.name)
                    for known in Settings.fields()
                    if "*" not in known.name
                ),
            ]
        ),
        st.text(max_size=12),
        max_size=4,
    )
)
def test_any_environment_gives_settings_or_a_config_error(environment: dict[str, str]) -> None:
    try:
        loaded = load(None, environment)
    except ConfigError:
        return
    given = {variable for variable, text in environment.items() if text.strip()}
    assert set(loaded.sources.values()) | set(loaded.injected) == given
