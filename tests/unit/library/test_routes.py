"""Paths with parameters: which match, and what is checked when they are given."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest

from tidegate import Connection, Request, Server, UsageError
from tidegate.library.routes import Route, Routes


async def of_none(connection: Connection) -> None: ...


async def of_room(connection: Connection, room: str) -> None: ...


async def of_number(connection: Connection, number: int) -> None: ...


async def of_two(connection: Connection, room: str, number: int) -> None: ...


async def without_annotations(connection, room): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("template", "handler", "path", "parameters"),
    [
        ("/", of_none, "/", {}),
        ("/chat", of_none, "/chat", {}),
        ("/chat", of_none, "/chat/", None),
        ("/chat", of_none, "/chats", None),
        ("/a.b", of_none, "/axb", None),
        ("/café", of_none, "/caf%C3%A9", {}),
        ("/a%20b", of_none, "/a%20b", {}),
        ("/chat/{room}", of_room, "/chat/lobby", {"room": "lobby"}),
        ("/chat/{room}", without_annotations, "/chat/7", {"room": "7"}),
        ("/chat/{room}", of_room, "/chat/a%20b%2Fc", {"room": "a b/c"}),
        ("/chat/{room}", of_room, "/chat/caf%C3%A9", {"room": "café"}),
        ("/chat/{room}", of_room, "/chat/%FF", None),
        ("/chat/{room}", of_room, "/chat/", None),
        ("/chat/{room}", of_room, "/chat/a/b", None),
        ("/chat/{room}/ws", of_room, "/chat/a/ws", {"room": "a"}),
        ("/{room}.json", of_room, "/a.b.json", {"room": "a.b"}),
        ("/n/{number}", of_number, "/n/42", {"number": 42}),
        ("/n/{number}", of_number, "/n/-7", {"number": -7}),
        ("/n/{number}", of_number, "/n/x", None),
        ("/n/{number}", of_number, "/n/1.5", None),
        ("/n/{number}", of_number, "/n/" + "9" * 19, None),
        ("/n/{number}", of_number, "/n/٣", None),
        ("/{room}/{number}", of_two, "/a/1", {"room": "a", "number": 1}),
    ],
)
def test_route_matches_paths_of_its_form(
    template: str, handler: Any, path: str, parameters: dict[str, Any] | None
) -> None:
    routes = Routes()
    routes.add(Route(template, handler))
    found = routes.find(path)
    assert (None if found is None else found.parameters) == parameters


def test_routes_without_parameters_come_first_and_then_the_order_counts() -> None:
    routes = Routes()
    assert not routes
    for template, handler in (
        ("/{number}", of_number),
        ("/{room}", of_room),
        ("/admin", of_none),
    ):
        routes.add(Route(template, handler))
    assert routes
    for path, template in (("/admin", "/admin"), ("/5", "/{number}"), ("/five", "/{room}")):
        found = routes.find(path)
        assert found is not None
        assert found.route.path == template
    assert routes.find("/a/b") is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("/chat", of_none), ("/chat", of_none)),
        (("/café", of_none), ("/caf%C3%A9", of_none)),
        (("/{room}", of_room), ("/{room}", of_room)),
        (("/{room}", of_room), ("/{name}", functools.partial(of_none))),
    ],
)
def test_second_route_for_the_same_paths_is_refused(first: Any, second: Any) -> None:
    async def of_name(connection: Connection, name: str) -> None: ...

    server = Server()
    server.route(first[0])(first[1])
    with pytest.raises(UsageError, match="there is a route at "):
        server.route(second[0])(of_name if "name" in second[0] else second[1])


@pytest.mark.parametrize(
    "path", ["", "chat", "/a?b", "/a#b", "/a b", "/a\n", "/{a", "/a}", "/{{a}}"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(path))):
        Server().route(path)(of_none)


@pytest.mark.parametrize(
    "path", ["/{}", "/{a-b}", "/{1}", "/{request}", "/{room}/{room}", "/{room}-{number}"]
)
def test_what_is_no_parameter_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="parameter"):
        Server().route(path)(of_room)


def plain(connection: Connection) -> None: ...


async def generates(connection: Connection) -> Any:
    yield


async def of_float(connection: Connection, room: float) -> None: ...


async def of_keyword(connection: Connection, *, room: str, more: int = 0) -> None: ...


async def of_more(connection: Connection, room: str, more: str) -> None: ...


@pytest.mark.parametrize(
    ("path", "handler", "problem"),
    [
        (5, of_none, "a path must be str"),
        ("/a", 5, "the handler of /a must be an async function, not int"),
        ("/a", plain, "the handler of /a must be an async function (async def)"),
        ("/a", generates, "the handler of /a must be an async function (async def)"),
        ("/{room}", of_none, "is called with (connection, room), but takes (connection: "),
        ("/a", of_room, "is called with (connection), but takes (connection: "),
        ("/{room}", of_more, "missing a required argument: 'more'"),
        ("/{connection}", of_none, "multiple values for argument 'connection'"),
        ("/{room}", of_float, "room of /{room} must be annotated with str or int"),
    ],
)
def test_handler_that_could_not_be_called_is_refused(path: Any, handler: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=re.escape(problem)):
        Server().route(path)(handler)


class Caller:
    async def __call__(self, connection: Connection, room: str) -> None: ...

    async def method(self, connection: Connection, request: Request, room: str) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [of_room, of_keyword, Caller(), Caller().method, functools.partial(of_two, number=1)],
)
def test_handler_of_any_form_is_returned_as_it_is(handler: Any) -> None:
    assert Server().route("/{room}")(handler) is handler


def test_annotations_that_cannot_be_resolved_count_as_they_are_written() -> None:
    async def handler(connection: Nothing, number: int, room: str) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    route = Route("/{number}/{room}", handler)
    assert route.match("/5/6") == {"number": 5, "room": "6"}
    assert route.match("/x/6") is None
