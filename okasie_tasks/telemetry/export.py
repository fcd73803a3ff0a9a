"""Exports this process's spans with the SDK of OpenTelemetry, configured by its variables and without secrets.

Celery and requests are instrumented. So is Redis where ``OKASIE_TRACE_REDIS`` is 1: a span for each of a part's dozens
of commands costs more than the part.
"""

from __future__ import annotations

import atexit
import importlib
import os
import platform
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, Status
from opentelemetry.util.types import Attributes

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.masking import know, know_url, mask
from okasie_tasks.telemetry.spans import Spans

REDIS: Final = "OKASIE_TRACE_REDIS"
_FLUSH_SECONDS: Final = 3.0
"""How long a process that ends waits for a receiver that does not answer."""
_TICKS: Final = ("apply_async/okasie.watchdog", "run/okasie.watchdog")
"""Beat's look every few seconds would begin a trace each time."""
_EXPORTERS: Final = {"": "otlp_proto_http", "otlp": "otlp_proto_http"}
_INSTRUMENTED: Final = ("celery.CeleryInstrumentor", "requests.RequestsInstrumentor")


def begin_export(process: str, version: str) -> Spans:
    """Return spans that are exported as the ``OTEL_*`` variables say.

    Raises `ConfigurationError` for an unknown exporter.
    """
    existing = trace.get_tracer_provider()
    if isinstance(existing, TracerProvider):  # started with `opentelemetry-instrument`, which configures it
        return Spans(existing.get_tracer("okasie_tasks", version))
    _know_secrets(os.environ)
    about = {"service.name": "okasie-tasks", "service.version": version, "okasie.process": process}
    # Names from OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go first.
    resource = Resource(about | {"host.name": platform.node()}).merge(_configured(Resource.create()))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # it would wait for half a minute
    provider.sampler = RootSampler(provider.sampler)
    provider.add_span_processor(BatchSpanProcessor(MaskedExporter(os.environ.get("OTEL_TRACES_EXPORTER", "").strip())))
    trace.set_tracer_provider(provider)
    extra = ("redis.RedisInstrumentor",) if os.environ.get(REDIS) == "1" else ()
    for name in (*_INSTRUMENTED, *extra):
        module, kind = name.split(".")
        instrumentor = getattr(importlib.import_module(f"opentelemetry.instrumentation.{module}"), kind)
        instrumentor().instrument(tracer_provider=provider)

    flushing: list[threading.Thread] = []

    def flush() -> None:
        """In a thread, because an export to a receiver that does not answer retries for longer."""
        if not any(thread.is_alive() for thread in flushing):
            thread = threading.Thread(target=provider.force_flush, name="okasie-traces", daemon=True)
            flushing[:] = [thread]
            thread.start()
            thread.join(_FLUSH_SECONDS)

    atexit.register(flush)
    return Spans(provider.get_tracer("okasie_tasks", version), flush)


def _configured(resource: Resource) -> Resource:
    """Drop the SDK's own default of the service's name."""
    named = not str(resource.attributes.get("service.name", "")).startswith("unknown_service")
    return Resource({name: value for name, value in resource.attributes.items() if named or name != "service.name"})


def _know_secrets(environ: Mapping[str, str]) -> None:
    """Register the secrets of the exporter: logins in its URLs, and the values of its headers."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        know_url(environ.get(name, ""))
    for name in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        for pair in environ.get(name, "").split(","):
            know(pair.partition("=")[2].strip())


class RootSampler(Sampler):
    """Samples as configured, but starts no trace for Beat's ticks and for requests outside of any trace.

    The latter are those of heartbeats, watchdogs and of Celery's own polling.
    """

    def __init__(self, configured: Sampler) -> None:
        self._configured = configured

    def should_sample(  # noqa: PLR0917 - the SDK's signature
        self,
        parent_context: contexts.Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        root = not trace.get_current_span(parent_context).get_span_context().is_valid
        if root and (kind is SpanKind.CLIENT or name in _TICKS):
            return SamplingResult(Decision.DROP)
        return self._configured.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"RootSampler({self._configured.get_description()})"


class MaskedExporter(SpanExporter):
    """Masks the registered secrets in each span, then exports it.

    The exporter is created in the process that uses it: a pool's child must not share its parent's connection.
    """

    def __init__(self, name: str) -> None:
        self._class = _exporter_class(_EXPORTERS.get(name, name))
        self._created: tuple[int, SpanExporter] | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._created is None or self._created[0] != os.getpid():
            self._created = os.getpid(), self._class()
        return self._created[1].export([_masked_span(span) for span in spans])

    def shutdown(self) -> None:
        if self._created is not None and self._created[0] == os.getpid():
            self._created[1].shutdown()


def _exporter_class(name: str) -> Any:
    found = entry_points(group="opentelemetry_traces_exporter", name=name)
    for point in found:
        return point.load()
    known = ", ".join(sorted({"otlp", *entry_points(group="opentelemetry_traces_exporter").names}))
    raise ConfigurationError(f"got {name!r:.40}, expected one of {known}", where="OTEL_TRACES_EXPORTER")


def _masked_span(span: ReadableSpan) -> ReadableSpan:
    status = Status(span.status.status_code, mask(span.status.description)) if span.status.description else span.status
    return ReadableSpan(
        name=mask(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_masked(span.attributes),
        events=[Event(event.name, _masked(event.attributes), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _masked(attributes: Attributes) -> dict[str, Any]:
    return {
        name: mask(value)
        if isinstance(value, str)
        else tuple(mask(one) if isinstance(one, str) else one for one in value)
        if isinstance(value, Sequence)
        else value
        for name, value in (attributes or {}).items()
    }
