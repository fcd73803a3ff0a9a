"""Feeds behind http: downloaded once, proved complete, and no secret in a message."""

from __future__ import annotations

import base64
import gzip
import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme

from okasie_tasks.errors import SourceError
from okasie_tasks.sources.transports import base
from tests.sources.support import brief, source

CSV = b"ref,title,price\nA,Golf,100\nB,Polo,200\n"


class Feed(BaseHTTPRequestHandler):
    """Serves what the test put into the server."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[dict[str, Any]] = {}
    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        type(self).seen.append({"path": self.path, **dict(self.headers.items())})
        answer = self.answers
        if answer.get("etag") and self.headers.get("If-None-Match") == answer["etag"]:
            self.send_response(304)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body: bytes = answer.get("body", CSV)
        self.send_response(answer.get("status", 200))
        self.send_header("Content-Length", str(len(body) + answer.get("missing", 0)))
        for name in ("etag", "location"):
            if name in answer:
                self.send_header(name, answer[name])
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def feed() -> Iterator[str]:
    Feed.answers, Feed.seen = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Feed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_feed_is_downloaded_once_and_then_only_asked_for(feed: str, tmp_path: Path) -> None:
    Feed.answers = {"etag": '"v1"'}
    expected = [(1, "A", "Golf"), (2, "B", "Polo")]
    first = source(tmp_path, f"{feed}/dex.csv")
    assert brief(first.rows()) == brief(first.rows()) == expected
    assert len(Feed.seen) == 1
    again = source(tmp_path, f"{feed}/dex.csv")
    assert again.version() == first.version()
    assert brief(again.rows()) == expected
    assert [request.get("If-None-Match") for request in Feed.seen] == [None, '"v1"']
    Feed.answers = {"etag": '"v2"', "body": CSV + b"C,Clio,300\n"}
    assert source(tmp_path, f"{feed}/dex.csv").version() != first.version()
    assert [row.reference for row in source(tmp_path, f"{feed}/dex.csv").get(["C"])] == ["C"]


def test_another_feed_with_the_same_etag_is_downloaded(feed: str, tmp_path: Path) -> None:
    Feed.answers = {"etag": '"1"'}
    list(source(tmp_path, f"{feed}/dex.csv").rows())
    Feed.answers = {"etag": '"1"', "body": CSV[:-12]}
    assert brief(source(tmp_path, f"{feed}/other.csv").rows()) == [(1, "A", "Golf")]
    assert "If-None-Match" not in Feed.seen[-1]


def test_a_gzipped_feed_is_read(feed: str, tmp_path: Path) -> None:
    Feed.answers = {"body": gzip.compress(CSV)}
    assert len(list(source(tmp_path, f"{feed}/dex.csv.gz?day=1").rows())) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_reported_with_the_path_of_the_file(feed: str, tmp_path: Path) -> None:
    Feed.answers = {"etag": '"v1"', "body": CSV + b"x" * 200_000}
    found: Any = source(tmp_path, f"{feed}/dex.csv")
    stored = tmp_path / "feeds" / "dex.feed"
    stored.parent.mkdir()
    stored.with_name(f"dex.feed.{os.getpid()}-{threading.get_ident()}.part").symlink_to("/dev/full")
    with pytest.raises(SourceError) as caught:
        found.version()
    assert (caught.value.message, caught.value.where) == ("cannot be stored: No space left on device", str(stored))
    assert not list(stored.parent.iterdir()), "nothing stays that fills the disk"


def test_a_folder_that_cannot_be_made_is_reported_with_its_path(feed: str, tmp_path: Path) -> None:
    (tmp_path / "feeds").write_text("in the way")
    with pytest.raises(SourceError) as caught:
        source(tmp_path, f"{feed}/dex.csv").version()
    assert (caught.value.message, caught.value.where) == ("cannot be stored: File exists", str(tmp_path / "feeds"))


def test_a_half_feed_is_refused_and_the_whole_one_kept(feed: str, tmp_path: Path) -> None:
    Feed.answers = {"etag": '"v1"'}
    list(source(tmp_path, f"{feed}/dex.csv").rows())
    Feed.answers = {"etag": '"v2"', "body": CSV[:30], "missing": 20}
    with pytest.raises(SourceError) as caught:
        list(source(tmp_path, f"{feed}/dex.csv").rows())
    assert caught.value.code == "cut"
    Feed.answers = {"etag": '"v1"'}
    assert len(list(source(tmp_path, f"{feed}/dex.csv").rows())) == 2
    assert not list((tmp_path / "feeds").glob("*.part"))


@pytest.mark.parametrize(
    ("answer", "code"),
    [({"status": 404}, "http"), ({"status": 500}, "http"), ({"body": b"<html>login</html>"}, "markup")],
)
def test_what_is_no_feed_is_named(feed: str, tmp_path: Path, answer: dict[str, Any], code: str) -> None:
    Feed.answers = answer
    with pytest.raises(SourceError) as caught:
        list(source(tmp_path, f"{feed}/dex.csv").rows())
    assert caught.value.code == code
    assert f"{feed}/dex.csv" in str(caught.value)


def test_basic_auth_and_headers_come_from_secrets_and_are_never_shown(feed: str, tmp_path: Path) -> None:
    options = 'username = "env:U"\npassword = "env:P"\nheaders = { "X-Feed-Key" = "env:H" }'
    Feed.answers = {"status": 403}
    with pytest.raises(SourceError) as caught:
        list(source(tmp_path, f"{feed}/dex.csv?token=t0ken", options, U="us3r", P="pa55", H="h3ader").rows())
    assert Feed.seen[0]["X-Feed-Key"] == "h3ader"
    assert base64.b64decode(Feed.seen[0]["Authorization"].removeprefix("Basic ")) == b"us3r:pa55"
    for secret in ("us3r", "pa55", "h3ader", "t0ken"):
        assert secret not in str(caught.value)


def test_secret_headers_are_not_carried_through_a_redirect(feed: str, tmp_path: Path) -> None:
    Feed.answers = {"status": 302, "location": "/elsewhere", "body": b""}
    with pytest.raises(SourceError, match="answered 302"):
        list(source(tmp_path, f"{feed}/dex.csv", 'headers = { "X-Feed-Key" = "env:H" }', H="h3ader").rows())
    assert [request["path"] for request in Feed.seen] == ["/dex.csv"]


def test_a_server_that_is_not_there_is_named_without_secrets(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        list(source(tmp_path, "http://user:pa55@127.0.0.1:9/dex.csv").rows())
    assert "127.0.0.1:9" in str(caught.value)
    assert "pa55" not in str(caught.value)


@pytest.fixture
def flaky(feed: str) -> str:
    """A feed whose server is overloaded twice, and then well."""
    answered = iter([{"status": 503}, {"missing": 10}])

    class Next(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            if name == "etag":  # the first look at each answer
                self.clear()
                self.update(next(answered, {}))
            return super().get(name, default)

    Feed.answers = Next()
    return feed


def test_a_passing_fault_is_tried_again(flaky: str, tmp_path: Path) -> None:
    assert len(list(source(tmp_path, f"{flaky}/dex.csv").rows())) == 2
    assert len(Feed.seen) == 3


@pytest.mark.parametrize(("status", "tries"), [(401, 1), (403, 1), (404, 1), (500, 1), (502, 3), (503, 3), (504, 3)])
def test_only_what_may_pass_is_tried_again(feed: str, tmp_path: Path, status: int, tries: int) -> None:
    Feed.answers = {"status": status}
    with pytest.raises(SourceError, match=f"answered {status}"):
        source(tmp_path, f"{feed}/dex.csv").version()
    assert len(Feed.seen) == tries


def test_no_try_begins_that_could_not_end_in_time(feed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PAUSES_SECONDS", [30.0, 30.0])
    Feed.answers = {"status": 503}
    with pytest.raises(SourceError, match="answered 503"):
        source(tmp_path, f"{feed}/dex.csv", "read_seconds = 20").version()
    assert len(Feed.seen) == 1


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (404, 1), (503, 3)])
def test_an_s3_refuses_or_is_overloaded(feed: str, tmp_path: Path, status: int, tries: int) -> None:
    Feed.answers = {"status": status}
    options = f'endpoint_url = "{feed}"\naccess_key = "env:A"\nsecret_key = "env:S"'
    with pytest.raises(SourceError) as caught:
        source(tmp_path, "s3://feeds/*.csv", options, A="the-access-key", S="the-secret-key").version()
    assert str(status) in caught.value.message
    assert "the-secret-key" not in str(caught.value)
    assert len(Feed.seen) == tries


def test_a_certificate_of_a_private_authority_is_accepted_if_named(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    Feed.answers, Feed.seen = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Feed) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{server.server_port}/dex.csv"
        assert len(list(source(tmp_path, url, 'ca_file = "ca.pem"').rows())) == 2
        with pytest.raises(SourceError, match="SSLError"):
            source(tmp_path, url).version()
        server.shutdown()
        thread.join()
