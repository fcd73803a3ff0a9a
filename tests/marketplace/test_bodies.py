"""Zipped answers over real HTTP."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from okasie_tasks.errors import Unavailable
from okasie_tasks.marketplace.client import OkasieApi
from tests.marketplace.test_client import KEY, Recorder, page

_ROWS = [{"id": f"lst_{number}", "externalReference": f"A{number}", "title": "Alpha " * 50} for number in range(200)]
_PAGE = json.dumps(page(*_ROWS)).encode()


@pytest.fixture
def served() -> Iterator[SimpleNamespace]:
    """A server that answers every request with ``body``, as ``encoding``."""
    answer = SimpleNamespace(body=b"", encoding="gzip", asked="")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.asked = self.headers["Accept-Encoding"]
            self.send_response(200)
            self.send_header("Content-Encoding", answer.encoding)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    answer.api = OkasieApi(f"http://127.0.0.1:{server.server_port}", lambda: KEY, Recorder(), account="dex")
    yield answer
    answer.api.connections.close()
    server.shutdown()
    server.server_close()
    thread.join()


def rows(served: SimpleNamespace) -> list[str | None]:
    with served.api.permit(ticket="a") as call:
        return [row.reference for row in call.list_page(1).rows]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "identity"])
def test_a_page_is_unzipped(served: SimpleNamespace, encoding: str) -> None:
    served.encoding = encoding
    served.body = gzip.compress(_PAGE) if encoding != "identity" else _PAGE
    assert rows(served) == [row["externalReference"] for row in _ROWS]
    assert "gzip" in served.asked


def test_a_page_of_two_members_is_one_page(served: SimpleNamespace) -> None:
    served.body = gzip.compress(_PAGE[:1_000]) + gzip.compress(_PAGE[1_000:])
    assert len(rows(served)) == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_PAGE, "cannot be decompressed"),
        (gzip.compress(_PAGE)[:-400], "JSON"),
        (gzip.compress(bytes(70_000_000)), "larger than 64 MB"),
    ],
    ids=["not zipped", "cut off", "a bomb"],
)
def test_one_that_cannot_be_read_is_no_page(served: SimpleNamespace, body: bytes, reason: str) -> None:
    served.body = body
    with pytest.raises(Unavailable, match=reason):
        rows(served)
