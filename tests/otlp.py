"""A receiver of traces on loopback: it decodes what is exported over OTLP/HTTP, and answers as a collector does."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span(NamedTuple):
    """One exported span; ids in hex."""

    trace: str
    id: str
    parent: str
    name: str
    process: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    failed: bool


class Receiver:
    """A web server that keeps the spans it gets, and the bodies they came in. Use as a context manager."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                receiver.bodies.append(body)
                receiver.spans.extend(_spans(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def traces_of(self, name: str, **attributes: object) -> list[list[Span]]:
        """The spans of each trace that has a span of this name with these attributes, oldest first."""
        wanted = {f"okasie.{key}": value for key, value in attributes.items()}
        found = [s.trace for s in self.spans if s.name == name and wanted.items() <= s.attributes.items()]
        return [[span for span in self.spans if span.trace == trace] for trace in dict.fromkeys(found)]

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def disconnected(spans: Sequence[Span]) -> list[str]:
    """The names of the spans without a parent among these, but for the one root; and a second trace's."""
    ids = {span.id for span in spans}
    roots = [span for span in spans if not span.parent]
    lost = [span.name for span in spans if span.parent and span.parent not in ids]
    return lost + [span.name for span in roots[1:]]


def _spans(body: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest.FromString(body)
    for group in request.resource_spans:
        about = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.name,
                    str(about.get("okasie.process", "")), _attributes(span.attributes),
                    tuple(link.trace_id.hex() for link in span.links), span.status.code == 2,
                )  # fmt: skip


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}
