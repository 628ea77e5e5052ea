from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.unit.server.admin_world import TOKEN, node_of
from tidegate.core.settings import Settings
from tidegate.server.admin import admin_app
from tidegate.server.admin_requests import AdminRequests, Counted
from tidegate.server.timeline import Timeline


def samples(text: str) -> dict[tuple[str, ...], float]:
    """The samples of the admin listener, by name and values of labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("tidegate_admin_request")
    }


def asked(*requests: tuple[str, str], **options: Any) -> dict[tuple[str, ...], float]:
    """Send requests to the API of a node, and return what it has counted."""
    node = node_of()
    settings = Settings.from_mapping({"admin": {"token": TOKEN}})
    app = admin_app(node.control, settings, lambda: (0,) * 7, Timeline(node.control.sample))
    token = {"Authorization": f"Bearer {TOKEN}"}

    async def ask() -> str:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for method, path in requests:
                await client.request(method, path, **options)
            return (await client.get("/metrics", headers=token)).text

    try:
        return samples(asyncio.run(ask()))
    finally:
        node.engine.shared.poller.close()


TOKENS = {"headers": {"Authorization": f"Bearer {TOKEN}"}}


def test_requests_are_counted_by_route_and_status() -> None:
    found = asked(
        ("GET", "/stats"),
        ("GET", "/stats?scope=fleet"),
        ("POST", "/stats"),
        ("GET", "/connections?limit=none"),
        ("PATCH", "/settings"),
        **TOKENS,
    )
    counted = {key[1:]: value for key, value in found.items() if key[0].endswith("requests_total")}
    assert counted == {
        ("/stats", "200"): 2,
        ("/stats", "405"): 1,
        ("/connections", "400"): 1,
        ("/settings", "415"): 1,
    }


def test_requests_without_the_token_are_counted_too() -> None:
    found = asked(("POST", "/publish"), ("GET", "/secret"), ("GET", "/health"))
    assert found["tidegate_admin_requests_total", "/publish", "401"] == 1
    assert found["tidegate_admin_requests_total", "other", "401"] == 1
    assert found["tidegate_admin_requests_total", "/health", "200"] == 1


@pytest.mark.parametrize("path", ["/nothing", "/stats/x", "/%00", "/static/nothing.js"])
def test_a_path_that_a_peer_makes_up_is_no_value_of_a_label(path: str) -> None:
    found = asked(("GET", path), **TOKENS)
    routes = {key[1] for key in found if key[0].endswith("requests_total")}
    assert routes == {"/static/{name:path}" if path.startswith("/static") else "other"}


def test_durations_are_counted_by_route() -> None:
    found = asked(("GET", "/stats"), ("GET", "/stats"), ("GET", "/rooms"), **TOKENS)
    name = "tidegate_admin_request_duration_seconds"
    assert found[f"{name}_count", "/stats"] == 2
    assert found[f"{name}_count", "/rooms"] == 1
    assert found[f"{name}_bucket", "+Inf", "/stats"] == 2
    assert 0 < found[f"{name}_sum", "/stats"] < 60


def test_a_route_that_fails_is_counted_as_500() -> None:
    async def fails(_request: Request) -> Response:
        raise ZeroDivisionError

    requests = AdminRequests()
    routes = [Route("/fails", fails)]
    app = Counted(Starlette(routes=routes), routes, requests)

    async def ask() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            assert (await client.get("/fails")).status_code == 500

    asyncio.run(ask())
    counted, _ = requests.collect()
    assert [(one.labels, one.value) for one in counted.samples] == [
        ({"route": "/fails", "status": "500"}, 1)
    ]
