"""Traces that leave a real server, as a collector gets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.raw import TEXT, frame

JSON = [("Sec-WebSocket-Protocol", "tidegate.v1.json")]
ON = {"telemetry": {"traces": True}}


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, dict[str, Any]]] = []
        """Service, name and attributes of each."""
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    service = plain(resource.resource.attributes)["service.name"]
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            spans.append((service, span.name, plain(span.attributes)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def of(self, name: str) -> list[dict[str, Any]]:
        return [attributes for _, own, attributes in self.spans if own == name]


def plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        thread.join()
        collector.server.server_close()


def test_serve_sends_attempts_and_publications(serve: Start, collector: Collector) -> None:
    server = serve({**ON, "limits": {"per_ip": 1}}, environment=collector.environment)
    with server.connect() as raw, server.connect() as second:
        raw.open(path="/ws?token=secret", headers=JSON)
        raw.message()
        assert second.ask().status == 429
        for message in (
            b'{"type":"join","room":"tea","id":1}',
            b'{"type":"room_message","room":"tea","data":1,"id":2}',
        ):
            raw.send(frame(TEXT, message))
            raw.message()
        wait_until(lambda: collector.of("publish"), 10)
        (publish,) = collector.of("publish")
        assert (publish["messaging.destination.name"], publish["tidegate.members"]) == ("tea", 1)
        assert {service for service, _, _ in collector.spans} == {"tidegate"}
    # The last ones are sent at the end.
    assert server.stop() == 0
    admitted, refused = collector.of("attempt")
    assert (admitted["url.path"], admitted["tidegate.decision"]) == ("/ws", "admit")
    assert (refused["tidegate.decision"], refused["tidegate.reason"]) == ("reject", "ip_limit")
    assert "secret" not in str(collector.spans)


def test_run_sends_what_the_application_refuses(program: Start, collector: Collector) -> None:
    server = program(
        "-m tidegate run tests.support.asgi_crowd:app --no-access-log",
        ON,
        environment={**collector.environment, "OTEL_SERVICE_NAME": "crowd"},
    )
    for path, status in (("/crowd/ann", 101), ("/crowd/ann/denied", 403)):
        with server.connect() as raw:
            assert raw.ask(path=path).status == status
    assert server.stop() == 0
    found = {
        each["url.path"]: (each["tidegate.decision"], each.get("tidegate.reason"))
        for each in collector.of("attempt")
    }
    assert found["/crowd/ann"] == ("admit", None)
    assert found["/crowd/ann/denied"] == ("reject", "application")
    assert {service for service, _, _ in collector.spans} == {"crowd"}


def test_library_without_a_collector_serves_and_ends(program: Start) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    server = program("-m tests.support.handlers", ON, environment=environment)
    with server.connect() as raw:
        raw.open()
    server.wait_open(0)
    assert server.stop() == 0
    assert "Traceback" not in server.log
    assert "retrying" not in server.log
