"""The documented set-up of Sentry, with real workers and a receiver that speaks its envelope endpoint."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks import masking
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.telemetry.sentry import before_send
from tests.support import Place, Up, faults, poll

pytestmark = pytest.mark.system

EXAMPLE = Path(__file__).parents[2] / "examples" / "sentry" / "celeryconfig.py"
SECRET = "SECRET-key-51f0"
LIBRARY = """
import logging
from celery.signals import task_postrun


def _fail(**_):
    try:
        raise RuntimeError(f"refused: {os.environ['KEY']}")
    except RuntimeError:
        logging.getLogger("library").exception("no login with %s", os.environ["KEY"])


task_postrun.connect(_fail, weak=False)
"""
"""A library that logs a secret, with a traceback."""


class Envelopes:
    """A web server that keeps the events it gets."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.events: list[dict[str, Any]] = []
        envelopes = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw
                envelopes.bodies.append(body)
                header, *lines = body.split(b"\n")
                assert self.path == "/api/7/envelope/" and json.loads(header)
                for about, item in zip(lines[::2], lines[1::2], strict=False):
                    if about and json.loads(about).get("type") == "event":
                        envelopes.events.append(json.loads(item))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://public@127.0.0.1:{self._server.server_port}/7"

    def __enter__(self) -> Envelopes:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def reported(tmp_path: Path) -> Iterator[Envelopes]:
    """What a fleet reports whose marketplace repeats the API key in a refusal, and whose library logs it."""
    place = Place(tmp_path)
    write_csv(tmp_path / "feed.csv", cars(5, seed=3))
    (tmp_path / "celeryconfig.py").write_text(EXAMPLE.read_text() + LIBRARY)
    with Envelopes() as envelopes, Sandbox([Key(SECRET, "dex")], limit=0) as sandbox:
        place.env |= {"KEY": SECRET, "SENTRY_DSN": envelopes.dsn}
        place.account("dex", feed="feed.csv", base_url=sandbox.base_url, key="env:KEY")
        error = {"error": {"code": "unauthorized", "message": f"no such key {SECRET}"}}
        faults(sandbox, {"kind": "answer", "status": 401, "body": error, "match": {"path": "list"}})
        with Up(place):
            assert place.okasie("sync", "dex").status != 0
            poll(lambda: envelopes.events, what="an event")
            yield envelopes


def test_an_error_is_reported_without_the_key(reported: Envelopes) -> None:
    poll(lambda: [event for event in reported.events if "run stops" in json.dumps(event)], what="the error")
    poll(
        lambda: [event for event in reported.events if "no login with" in json.dumps(event)], what="the library's error"
    )
    text = b"".join(reported.bodies)
    assert SECRET.encode() not in text
    assert b"***" in text
    assert all(event["release"].startswith("okasie-tasks@") for event in reported.events)


def test_arguments_of_tasks_and_secrets_in_keys_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_known", ())
    masking.know(SECRET)
    job = {"task_name": "okasie.push", "args": [], "kwargs": {"listings": [{"title": "UNSENT"}]}}
    event = {"extra": {"celery-job": job, SECRET: [f"a {SECRET}", 1, None]}, "message": SECRET}
    assert before_send(event, {}) == {
        "extra": {"celery-job": {"task_name": "okasie.push"}, "***": ["a ***", 1, None]},
        "message": "***",
    }
