"""When traces are on, what they cost when they are off, and what is removed before a span is exported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from okasie_tasks import masking
from okasie_tasks.errors import ConfigurationError, ItemRejected, NoPermit, Unavailable
from okasie_tasks.telemetry import tracing
from okasie_tasks.telemetry.export import MaskedExporter, RootSampler
from okasie_tasks.telemetry.spans import Spans

SECRET = "SECRET-span-90aa"


class Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


class Traced:
    """Spans as a process exports them, kept here instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept = Kept()
        exporter = MaskedExporter("otlp_proto_http")
        monkeypatch.setattr(exporter, "_class", lambda: self.kept)
        provider = TracerProvider()
        provider.sampler = RootSampler(provider.sampler)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        self.tracer = provider.get_tracer("tests")
        monkeypatch.setattr(tracing, "_spans", Spans(self.tracer))
        monkeypatch.setattr(masking, "_known", ())
        masking.know(SECRET)

    def names(self) -> list[str]:
        return [span.name for span in self.kept.spans]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Traced:
    return Traced(monkeypatch)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_the_environment_decides(environ: Mapping[str, str], wanted: bool) -> None:
    assert tracing.wanted(environ) is wanted


def test_a_process_without_these_variables_imports_neither_opentelemetry_nor_sentry() -> None:
    """redis-py 8 imports OpenTelemetry where it is installed, for metrics of its own."""
    code = (
        "import sys, celery, kombu.transport.redis, redis\n"
        "before = set(sys.modules)\n"
        "import okasie_tasks.client, okasie_tasks.tasks, okasie_tasks.cli.push_client\n"
        "from okasie_tasks.telemetry import tracing\n"
        "assert not tracing.start('worker', '1') and not tracing.on()\n"
        "print([name for name in set(sys.modules) - before if name.split('.')[0] in ('opentelemetry', 'sentry_sdk')])"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_process_without_opentelemetry_works() -> None:
    code = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "import okasie_tasks.client, okasie_tasks.tasks\n"
        "from okasie_tasks.telemetry import tracing\n"
        "print(tracing.installed(), tracing.start('worker', '1'))"
    )
    env = {**os.environ, "OTEL_TRACES_EXPORTER": "otlp"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False False", done.stderr


def test_a_library_joins_the_traces_that_its_application_has_configured() -> None:
    code = (
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from okasie_tasks.telemetry import tracing\n"
        "tracing.join_application()\n"
        "before = tracing.on()\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "tracing.join_application()\n"
        "with trace.get_tracer('shop').start_as_current_span('sale') as sale, tracing.span('publish', kind='producer'):\n"
        "    same = format(sale.get_span_context().trace_id, '032x') in tracing.headers()['traceparent']\n"
        "print(before, tracing.on(), same)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False True True", done.stderr


def test_nothing_is_recorded_while_traces_are_off() -> None:
    assert not tracing.on()
    with tracing.span("a") as span, tracing.shared("b", ["x"]), tracing.within("y"):
        span.set(count=1)
        assert tracing.headers() == {}


def test_secrets_are_masked_in_names_attributes_events_and_statuses(traced: Traced) -> None:
    with pytest.raises(Unavailable), tracing.span(f"GET {SECRET}", {"url.full": f"http://a/{SECRET}", "n": 1}):
        raise Unavailable(f"no answer to {SECRET}", seconds=1)
    with traced.tracer.start_as_current_span("library") as span:
        span.add_event("exception", {"exception.stacktrace": f"line\n{SECRET}"})
        span.set_attribute("list", [SECRET, "b"])
    ours, theirs = traced.kept.spans
    assert (ours.name, dict(ours.attributes or {})) == (
        "GET ***", {"url.full": "http://a/***", "n": 1, "error.type": "Unavailable"},
    )  # fmt: skip
    assert ours.status.description == "no answer to ***"
    assert dict(theirs.attributes or {}) == {"list": ("***", "b")}
    assert dict(theirs.events[0].attributes or {}) == {"exception.stacktrace": "line\n***"}


def test_an_error_marks_its_span_and_waiting_does_not(traced: Traced) -> None:
    for error in (ItemRejected("refused", where="x"), NoPermit("later", seconds=1), ValueError("a title")):
        with pytest.raises(type(error)), tracing.span("part"):
            raise error
    assert [(s.status.is_ok, s.status.description) for s in traced.kept.spans] == [
        (False, "x: refused"), (True, None), (False, "ValueError"),
    ]  # fmt: skip


def test_no_trace_begins_with_a_tick_of_the_watchdog_or_with_a_lone_request(traced: Traced) -> None:
    for name, kind in (("apply_async/okasie.watchdog", SpanKind.PRODUCER), ("SET", SpanKind.CLIENT)):
        with traced.tracer.start_as_current_span(name, kind=kind), tracing.span("inside"):
            pass
    with tracing.span("push"), traced.tracer.start_as_current_span("SET", kind=SpanKind.CLIENT):
        pass
    assert traced.names() == ["SET", "push"]


def test_a_context_of_another_program_that_is_malformed_starts_a_new_trace(traced: Traced) -> None:
    for parent in ("nonsense", "00-zz-zz-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"):
        with tracing.within(parent), tracing.span("push"):
            pass
        with tracing.shared("send", [parent]):
            pass
    assert all(span.parent is None and not span.links for span in traced.kept.spans)


def test_an_unknown_exporter_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"OTEL_TRACES_EXPORTER: got 'zipkin', expected one of console, otlp"):
        MaskedExporter("zipkin")
