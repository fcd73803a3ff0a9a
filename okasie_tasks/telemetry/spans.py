"""Spans with the API of OpenTelemetry. `okasie_tasks.telemetry.tracing` imports this only where traces are on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from okasie_tasks.errors import OkasieError, RetryLater, Unavailable
from okasie_tasks.masking import mask
from okasie_tasks.telemetry.span import Attributes, Kind, Span

_W3C: Final = TraceContextTextMapPropagator()
_KINDS: Final = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "producer": SpanKind.PRODUCER}
_NS_PER_MS: Final = 1_000_000


class _Active(Span):
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, **attributes: object) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(f"okasie.{name}", value)  # type: ignore[arg-type]  # a str or a number

    def answered(self, status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)
        if status >= 400:
            self._span.set_status(Status(StatusCode.ERROR, f"HTTP {status}"))


class Spans:
    """Creates spans with one tracer. ``flush`` exports those that have ended."""

    def __init__(self, tracer: trace.Tracer, flush: Callable[[], object] = lambda: None) -> None:
        self._tracer, self.flush = tracer, flush

    @contextlib.contextmanager
    def span(
        self, name: str, attributes: Attributes, *, kind: Kind = "internal", parent: str = "", links: Sequence[str] = ()
    ) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name,
            context=_context(parent) if parent else None,
            kind=_KINDS[kind],
            attributes=attributes,
            links=[Link(_span_context(link)) for link in links],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield _Active(span)
            except Exception as error:
                _fail(span, error)
                raise

    @contextlib.contextmanager
    def shared(self, name: str, traces: Sequence[str], attributes: Attributes) -> Iterator[Span]:
        known = [one for one in dict.fromkeys(traces) if _span_context(one).is_valid]
        mine = next((one for one in known if self.same_trace(one)), None)
        others = [one for one in known if one != mine]
        parent = others.pop(0) if mine is None and others else ""
        with self.span(name, attributes, parent=parent, links=others) as span:
            context = self.traceparent()
            try:
                yield span
            finally:
                for other in others:
                    link = [Link(_span_context(context))]
                    self._tracer.start_span(name, context=_context(other), attributes=attributes, links=link).end()

    def record(self, name: str, attributes: Attributes, *, parent: str, began_ms: int, ended_ms: int) -> None:
        context, began = _context(parent), began_ms * _NS_PER_MS
        span = self._tracer.start_span(name, context=context, attributes=attributes, start_time=began)
        span.end(max(began, ended_ms * _NS_PER_MS))

    @contextlib.contextmanager
    def within(self, parent: str) -> Iterator[None]:
        token = contexts.attach(_context(parent))
        try:
            yield
        finally:
            contexts.detach(token)

    @staticmethod
    def same_trace(parent: str) -> bool:
        return bool(parent) and trace.get_current_span().get_span_context().trace_id == _span_context(parent).trace_id

    @staticmethod
    def traceparent() -> str:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent", "")


def of_application() -> Spans | None:
    """Return spans in the traces that the application has configured, if it has."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return Spans(trace.get_tracer("okasie_tasks"))


def _context(parent: str) -> contexts.Context:
    """The context that a record carries; an invalid one, as another program may write it, starts a new trace."""
    return _W3C.extract({"traceparent": parent}, contexts.Context())


def _span_context(parent: str) -> trace.SpanContext:
    return trace.get_current_span(_context(parent)).get_span_context()


def _fail(span: trace.Span, error: Exception) -> None:
    """Record an error. The text of an unexpected one may contain content of a listing, so only its type is kept."""
    span.set_attribute("error.type", type(error).__name__)
    if not isinstance(error, RetryLater) or isinstance(error, Unavailable):
        reason = mask(str(error)) if isinstance(error, OkasieError) else type(error).__name__
        span.set_status(Status(StatusCode.ERROR, reason))
