from __future__ import annotations

import pytest

from tidegate.deploy import rendering


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    text = [""]
    monkeypatch.setattr(rendering, "template", lambda name: text[0])
    return text


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("a @one@ b @two@.\n", "a 1 b x\ny.\n"),
        ("  @two@\n  z\n", "  x\n  y\n  z\n"),
        ("a\n  @none@\nb\n", "a\nb\n"),
        ("$x ${y} %d {{ z }} tidegate@1 @system-service\n", None),
        ("@blank@\n", "x\n\ny\n"),
    ],
)
def test_names_are_replaced_and_nothing_else(
    template: list[str], text: str, made: str | None
) -> None:
    template[0] = text
    values = {"one": 1, "two": "x\ny", "none": "", "blank": "x\n\ny"}
    assert rendering.render("any", values) == (text if made is None else made)


def test_a_value_is_not_looked_at_again(template: list[str]) -> None:
    template[0] = "a @one@\n"
    assert rendering.render("any", {"one": "b c"}) == "a b c\n"


def test_a_name_without_a_value_is_an_error(template: list[str]) -> None:
    template[0] = "@nothing@\n"
    with pytest.raises(KeyError, match="nothing"):
        rendering.render("any", {})
