"""A source that drips, never ends, or is large once it is decompressed: one error with place, bound and setting."""

from __future__ import annotations

import gzip
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.errors import SourceError
from okasie_tasks.ports import SettlingSource
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.sources.custom import CustomSource
from tests.sources.support import source

HEAD = b"ref,title,price\n"
ROW = b"A,Golf,100\n"


class Hostile(ThreadingHTTPServer):
    """Serves what ``answer`` writes. It stops when the client has gone."""

    daemon_threads = True
    answer: Callable[[BaseHTTPRequestHandler], None]
    sent = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Hostile)
        try:
            server.answer(self)
        except OSError:
            return

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Hostile]:
    with Hostile(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(server: Hostile) -> str:
    return f"http://127.0.0.1:{server.server_port}/dex.csv"


def drip(handler: BaseHTTPRequestHandler, text: bytes) -> None:
    """Write the text, and then a byte now and then until the client goes."""
    handler.wfile.write(text)
    gone = threading.Event()
    while not gone.wait(0.02):
        handler.wfile.write(b"x")
        handler.wfile.flush()


def dripping_body(handler: BaseHTTPRequestHandler) -> None:
    drip(handler, b"HTTP/1.0 200 OK\r\n\r\n" + HEAD)


def dripping_body_of_known_length(handler: BaseHTTPRequestHandler) -> None:
    drip(handler, b"HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n\r\n" + HEAD)


def dripping_headers(handler: BaseHTTPRequestHandler) -> None:
    drip(handler, b"HTTP/1.0 200 OK\r\nX-Endless: ")


def failure(read: Callable[[], Any]) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read()
    return caught.value


@pytest.mark.parametrize("answer", [dripping_body, dripping_body_of_known_length, dripping_headers])
@pytest.mark.parametrize("setting", ["read_seconds", "push_read_seconds"])
def test_a_feed_that_drips_ends_at_the_deadline(
    server: Hostile, tmp_path: Path, answer: Callable[[BaseHTTPRequestHandler], None], setting: str
) -> None:
    server.answer = answer  # type: ignore[method-assign]
    feed = source(tmp_path, url(server), f"{setting} = 0.3", push=setting.startswith("push"))
    error = failure(lambda: list(feed.get(["A"])))
    assert str(error) == f"{url(server)}: was not read within 0.3 s (accounts.dex.source.{setting})"
    assert error.code == "too_slow"
    assert not list((tmp_path / "feeds").glob("*"))


def test_a_feed_that_never_ends_is_not_stored(server: Hostile, tmp_path: Path) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + HEAD)
        while True:
            handler.wfile.write(ROW * 1000)
            server.sent += len(ROW) * 1000

    server.answer = endless  # type: ignore[method-assign]
    error = failure(lambda: list(source(tmp_path, url(server), "max_mb = 0.5").rows()))
    assert str(error) == f"{url(server)}: is larger than 0.5 MB (accounts.dex.source.max_mb)"
    assert not list((tmp_path / "feeds").glob("*"))


def zipped(path: Path, piece: bytes, *, megabytes: int, head: bytes = b"") -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(megabytes):
            file.write(piece * (1_000_000 // len(piece)))


@pytest.mark.parametrize(
    ("kind", "piece", "options", "setting", "text"),
    [
        ("csv", ROW, "max_mb = 0.05", "max_mb", "is larger than 0.05 MB"),
        ("csv", b"x", "", "max_row_kb", "has a row of more than 1000 kB"),
        ("csv quoted", b"x" * 999 + b"\n", "", "max_row_kb", "has a row of more than 1000 kB"),
        ("csv", b'"' + b"x" * 996 + b'\n",', "", "max_row_kb", "has a row of more than 1000 kB"),
        ("jsonl", b"[", "", "max_row_kb", "has a row of more than 1000 kB"),
        ("jsonl", b'{"ref": "A"}\n', "max_mb = 0.05", "max_mb", "is larger than 0.05 MB"),
        ("json text", b"x", 'items = "a"\nmax_document_mb = 3', "max_document_mb", "is larger than 3 MB"),
        ("json", b"[] ,", "max_mb = 4", "max_mb", "is larger than 4 MB"),
        ("xml", b"<v>1</v>", 'items = "v"\nmax_mb = 4', "max_mb", "is larger than 4 MB"),
        ("xml", b"x", 'items = "v"', "max_row_kb", "has a row of more than 1000 kB"),
    ],
)
def test_what_decompression_yields_is_bounded(
    tmp_path: Path, kind: str, piece: bytes, options: str, setting: str, text: str
) -> None:
    heads = {"csv": HEAD, "csv quoted": HEAD + b'"', "json": b"[", "json text": b'{"logo": "', "xml": b"<s>"}
    zipped(tmp_path / "feed.gz", piece, megabytes=40, head=heads.get(kind, b""))
    feed = source(tmp_path, "feed.gz", f'type = "{kind.split(maxsplit=1)[0]}"\n{options}')
    tracemalloc.start()
    try:
        error = failure(lambda: sum(1 for _ in feed.rows()))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert text in error.message
    assert error.message.endswith(f"(accounts.dex.source.{setting})")
    assert error.where is not None
    assert error.where.startswith("feed.gz")
    assert most < 25_000_000


def test_a_row_as_long_as_allowed_is_read(tmp_path: Path) -> None:
    (tmp_path / "feed.csv").write_bytes(
        HEAD + b"A," + b"x" * 900_000 + b",100\n" + b'B,"' + b"x\n" * 400_000 + b'",1\n'
    )
    assert [row.reference for row in source(tmp_path, "feed.csv").rows()] == ["A", "B"]


def test_a_pipe_is_refused_before_it_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "feed.csv")
    feed = source(tmp_path, "feed.csv")
    for read in (feed.version, lambda: list(feed.rows())):
        assert "is not a regular file" in str(failure(read))


def test_a_plugin_that_yields_for_ever_ends_at_the_deadline(tmp_path: Path) -> None:
    class Endless:
        def read(self) -> Iterator[dict[str, str]]:
            while True:
                yield {"ref": "A"}

    account = source(tmp_path, "feed.csv", "read_seconds = 0.05")._account  # type: ignore[attr-defined]
    error = failure(lambda: sum(1 for _ in CustomSource(account, Endless(), current_year=2026).rows()))
    assert error.code == "too_slow"


def test_a_file_that_was_renamed_into_place_is_complete_at_once(tmp_path: Path) -> None:
    """As `okasie demo` and most exports write it. The same file, written again, is not."""
    path = tmp_path / "feed.csv"
    feed = source(tmp_path, "feed.csv")
    assert isinstance(feed, SettlingSource)
    write_csv(path, cars(2, seed=1))
    assert feed.settles_in("") > 1, "nothing shows that it is a new file"
    before = feed.version()
    write_csv(path, cars(3, seed=1))
    assert feed.settles_in(before) == 0
    before = feed.version()
    path.write_bytes(HEAD)
    assert feed.settles_in(before) > 1
    path.unlink()
    path.write_bytes(HEAD)
    assert feed.settles_in("0-0-0") > 1, "a new file that is being written"


@pytest.mark.parametrize(
    ("modified", "waits"),
    [("Sat, 28 Nov 2026 08:00:00 GMT", 0.0), ("Sat, 28 Nov 2026 08:59:59 GMT", 1.0), ("", 0.0), ("soon", 0.0),
     ("Sat, 28 Nov 2026 09:30:00 GMT", 2.0)],
)  # fmt: skip
def test_a_feed_behind_http_settles_by_the_clock_of_its_server(
    server: Hostile, tmp_path: Path, modified: str, waits: float
) -> None:
    head = f"HTTP/1.0 200 OK\r\nDate: Sat, 28 Nov 2026 09:00:00 GMT\r\nLast-Modified: {modified}\r\n\r\n"
    server.answer = lambda handler: handler.wfile.write(head.encode() + HEAD + ROW) and None  # type: ignore[method-assign]
    feed = source(tmp_path, url(server))
    assert isinstance(feed, SettlingSource)
    assert feed.settles_in("") == waits
