"""Spans, and how they leave the process. Nothing else in Tidegate imports OpenTelemetry."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Span

__all__ = ["Traces", "sampler"]

_log = logging.getLogger("tidegate")

_FLUSH_SECONDS: Final = 3.0  # a deployment gives 5 s more than the drain takes
_PARENT: Final = ("traceparent", "tracestate")  # W3C Trace Context, sections 3.2 and 3.3


class Traces:
    """Makes the spans of one node.

    Args:
        provider: takes the spans.
        shutdown: sends what is not sent yet and ends the provider; it may block. None where the
            provider is the application's own.
    """

    def __init__(
        self, provider: trace.TracerProvider, shutdown: Callable[[], None] | None = None
    ) -> None:
        self._tracer = provider.get_tracer("tidegate", version("tidegate"))
        self._shutdown = shutdown
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def start(cls, sample: float) -> Traces:
        """Use the tracer provider of this process if it has one, or make one.

        Ours sends by OTLP over HTTP, in a thread of the SDK, from a queue that is bounded. The
        environment variables of OpenTelemetry say where to, and as what.
        """
        found = trace.get_tracer_provider()
        if isinstance(found, TracerProvider):
            return cls(found)
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "tidegate"}))
        # It warns of each try that fails; what is lost in the end is an error.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.ERROR)
        provider = TracerProvider(sampler(sample), resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider, provider.shutdown)

    def attempt(self, headers: Mapping[str, str] | None, since: float) -> Span:
        """Begin the span of an attempt that came at `since` (Unix seconds)."""
        context: Context | None = None
        if headers is not None and _PARENT[0] in headers:
            context = self._propagator.extract(
                {name: headers[name] for name in _PARENT if name in headers}
            )
        return self._tracer.start_span(
            "attempt",
            # What runs around the server is no parent of its clients' attempts.
            trace.set_span_in_context(trace.INVALID_SPAN) if context is None else context,
            SpanKind.SERVER,
            start_time=int(since * 1e9),
        )

    def message(self, name: str) -> Span:
        """Begin the span of a message; the span that is current is its parent."""
        return self._tracer.start_span(name, kind=SpanKind.PRODUCER)

    def end(self, span: Span, attributes: Mapping[str, Any], error: str | None = None) -> None:
        """End a span; attributes that are None are left out. `error` is a failure of ours."""
        span.set_attributes({key: value for key, value in attributes.items() if value is not None})
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        span.end()

    async def close(self) -> None:
        """Send what is not sent yet, for a few seconds at most. No span may begin any more."""
        shutdown, self._shutdown = self._shutdown, None
        if shutdown is None:
            return
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def work() -> None:
            try:
                shutdown()
            finally:
                with suppress(RuntimeError):  # nobody waited, and the loop is closed
                    loop.call_soon_threadsafe(done.set)

        # A thread of the loop's executor would hold up the end of the process.
        threading.Thread(target=work, name="tidegate-traces", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), _FLUSH_SECONDS)
        except TimeoutError:
            _log.warning("the last traces were not sent within %g s and are lost", _FLUSH_SECONDS)


def sampler(share: float) -> Sampler:
    """Return what chooses the traces: a share of all, and none that the client's did not choose.

    The share is taken of the clients' own traces too: anybody can send a `traceparent`.
    """
    ratio = TraceIdRatioBased(share)
    return ParentBased(ratio, remote_parent_sampled=ratio, remote_parent_not_sampled=ALWAYS_OFF)
