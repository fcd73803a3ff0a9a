"""Traces: spans, and the trace context that the project's own records carry.

A message is only a hint: a part may be executed for another message, and a request is re-sent from its outbox. So the
context of a trace is stored where the work is: in the outbox, in the record of a run, and in the record of a push. It
is a text, the value of a W3C ``traceparent`` header; "" stands for none.

Traces are off until `start` finds the variables of OpenTelemetry in the environment. Until then OpenTelemetry is not
imported, and each function returns at once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from okasie_tasks.telemetry.span import Attributes, Kind, Span

if TYPE_CHECKING:
    from okasie_tasks.telemetry.spans import Spans

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PACKAGE: Final = "opentelemetry.sdk"

_spans: Spans | None = None


_NOTHING: Final = Span()
_OFF: Final = contextlib.nullcontext(_NOTHING)


# -- on and off ----------------------------------------------------------------------------------------------------


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for traces: ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_TRACES_EXPORTER`` is set."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().casefold() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    return exporter != "none" and bool(exporter or any(environ.get(name) for name in _ENDPOINTS))


def installed() -> bool:
    """Whether the extra ``okasie-tasks[otel]`` is installed."""
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec(_PACKAGE) is not None
    return False


def start(process: str, version: str) -> bool:
    """Export this process's traces if the environment asks for it; returns whether they are on.

    ``process``: the kind of process, an attribute of all its spans. A second call does nothing.
    """
    global _spans  # noqa: PLW0603 - one exporter a process
    if _spans is None and wanted() and installed():
        from okasie_tasks.telemetry.export import begin_export  # noqa: PLC0415 - imports OpenTelemetry

        _spans = begin_export(process, version)
    return on()


def join_application() -> None:
    """Use the traces of the application that calls this library, if it has configured any."""
    global _spans  # noqa: PLW0603
    if _spans is None and "opentelemetry.trace" in sys.modules:  # redis-py imports it too, where it is installed
        from okasie_tasks.telemetry.spans import of_application  # noqa: PLC0415

        _spans = of_application()


def stop() -> None:
    """Export the spans that have ended, for at most a few seconds."""
    if _spans is not None:
        _spans.flush()


def on() -> bool:
    return _spans is not None


# -- spans ---------------------------------------------------------------------------------------------------------


def span(
    name: str, attributes: Attributes | None = None, *, kind: Kind = "internal", parent: str = ""
) -> AbstractContextManager[Span]:
    """A span that lasts as long as the block. ``parent``: a trace context; "" for the span that is active.

    An error that leaves the block marks the span as failed, except for `RetryLater`, which only waits.
    """
    return _OFF if _spans is None else _spans.span(name, attributes or {}, kind=kind, parent=parent)


def shared(name: str, traces: Sequence[str], attributes: Attributes | None = None) -> AbstractContextManager[Span]:
    """A span for work that several traces share. It is in one of them, with links to the others.

    Each of the others receives a short span of the same name, which links to the shared one.
    """
    return _OFF if _spans is None else _spans.shared(name, traces, attributes or {})


def record(name: str, attributes: Attributes, *, parent: str, began_ms: int, ended_ms: int) -> None:
    """Record a span of the past, in ms since the epoch."""
    if _spans is not None and parent:
        _spans.record(name, attributes, parent=parent, began_ms=began_ms, ended_ms=ended_ms)


@contextlib.contextmanager
def within(parent: str) -> Iterator[None]:
    """Let the spans and messages of the block belong to this trace context. "": no change."""
    if _spans is None or not parent:
        yield
    else:
        with _spans.within(parent):
            yield


@contextlib.contextmanager
def of_trace(parent: str) -> Iterator[None]:
    """As `within`, unless the active span is in the same trace already: then it stays the parent."""
    with within("" if _spans is not None and _spans.same_trace(parent) else parent):
        yield


def traceparent() -> str:
    """The context of the active span; "" for none."""
    return "" if _spans is None else _spans.traceparent()


def headers() -> dict[str, str]:
    """The headers of a message that carry the context of the active span."""
    context = traceparent()
    return {"traceparent": context} if context else {}
