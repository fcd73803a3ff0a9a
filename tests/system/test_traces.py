"""Traces of real workers, exported to a receiver: from a command or Beat's tick to the request that was sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
import redis

from okasie_tasks.client import Client
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings.redis_url import find_embedded
from okasie_tasks.store.runs import Runs
from tests.otlp import Receiver, Span, disconnected
from tests.support import Place, Up, poll
from tests.test_client import handmade

pytestmark = pytest.mark.system

KEY, PASSWORD, TOKEN = "SECRET-key-77d1", "SECRET-feed-77d1", "SECRET-otlp-77d1"
CARS = 250
TITLE = "UNSENT-TITLE-77d1"
REQUEST_ID = "okasie.request_id"


class Traced(NamedTuple):
    place: Place
    sandbox: Sandbox
    receiver: Receiver


class _Feeds(SimpleHTTPRequestHandler):
    """Serves a folder to whoever knows the password."""

    def do_GET(self) -> None:
        expected = base64.b64encode(f"dealer:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self.send_error(401)
            return
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    rows = [{**row, "version": TITLE} for row in cars(CARS, seed=4)]
    write_csv(folder / "feed.csv", rows)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Feeds, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    place = Place(folder)
    with Receiver() as receiver, Sandbox([Key(KEY, "dex"), Key(f"{KEY}-2", "ticked")], limit=0) as sandbox:
        place.env |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_EXPORTER_OTLP_HEADERS": f"x-token={TOKEN}",
            "OTEL_BSP_SCHEDULE_DELAY": "300", "KEY": KEY, "KEY_2": f"{KEY}-2",
            "FEED": f"http://dealer:{PASSWORD}@127.0.0.1:{server.server_port}/feed.csv",
            "OKASIE_ACCOUNTS__TICKED__INCREMENTAL_EVERY": "5s",
        }  # fmt: skip
        place.account("dex", feed="env:FEED", base_url=sandbox.base_url, key="env:KEY")
        place.account("ticked", feed="env:FEED", base_url=sandbox.base_url, key="env:KEY_2")
        with Up(place):
            yield Traced(place, sandbox, receiver)
    server.shutdown()
    server.server_close()


def complete(traced: Traced, name: str, ends_with: str, **attributes: object) -> list[Span]:
    """A trace with a span ``name``, once a span ``ends_with`` and all parents have been exported."""

    def look() -> list[Span]:
        traces = traced.receiver.traces_of(name, **attributes)
        return next((t for t in traces if any(s.name == ends_with for s in t) and not disconnected(t)), [])

    try:
        found: list[Span] = poll(look, what=f"a connected trace from {name} to {ends_with}")
    except AssertionError:
        seen = [(sorted({s.name for s in t}), disconnected(t)) for t in traced.receiver.traces_of(name, **attributes)]
        raise AssertionError(f"names of spans, and of disconnected ones: {seen}") from None
    return found


def test_a_full_run_is_one_trace_from_the_command_to_each_request(traced: Traced) -> None:
    status, document = traced.place.sync("dex", "--full")
    assert (status, document["listings"]["created"]) == (0, CARS)
    requests = sum(document["requests"].get(kind, 0) for kind in ("list", "bulk", "put", "delete", "locations"))
    # Each worker exports for itself: the trace may be connected before the last of them has.
    poll(lambda: len(_sent(complete(traced, "okasie sync", "full run"))) >= requests, what="the span of each request")
    spans = complete(traced, "okasie sync", "full run")
    assert len(traced.receiver.traces_of("full run", account="dex")) == 1
    assert {span.process for span in spans} == {"command", "worker"}
    sent = _sent(spans)
    assert len(sent) == requests
    assert all(len(span.attributes[REQUEST_ID]) == 32 for span in sent)
    parents = {span.id: span for span in spans}
    assert {parents[s.parent].name for s in sent if s.name == "POST /listings/bulk-upsert"} == {"part upsert"}
    assert any(span.name == "GET" and span.attributes.get("http.status_code") for span in spans), "the feed's download"
    (run,) = [span for span in spans if span.name == "full run"]
    assert (run.attributes["okasie.run"], run.attributes["okasie.state"]) == (document["run"], "done")
    assert max(map(partial(_depth, parents), spans)) < 9, "the messages of a run do not nest in each other"


def test_a_push_is_one_trace_from_the_command_to_its_request(traced: Traced) -> None:
    answer = traced.place.okasie("push", "dex", "DG-00001", "--json")
    assert answer.status == 0, answer.text
    spans = complete(traced, "okasie push", "PUT /listings/{externalReference}")
    parents = {span.id: span for span in spans}
    (put,) = [span for span in spans if span.name.startswith("PUT")]
    path = [put.name]
    while (put := parents[put.parent]).parent:
        path.append(put.name)
    assert [*path, put.name] == [
        "PUT /listings/{externalReference}", "send push", "run/okasie.push", "apply_async/okasie.push",
        "publish okasie.push", "okasie push",
    ]  # fmt: skip


def test_pushes_that_share_a_request_are_linked(traced: Traced) -> None:
    url = find_embedded(traced.place.folder / ".okasie")
    assert url is not None
    traced.place.okasie("pause", "dex")
    client = Client(url)
    pushes = [client.push("dex", [f"DG-{number:05}"]) for number in (2, 3, 4)]
    poll(lambda: len(_tasks(traced, pushes)) == 3, what="the pushes, taken up")
    traced.place.okasie("resume", "dex")

    def look() -> list[Span]:
        mine = {span.trace for span in _tasks(traced, pushes)}
        return [span for span in traced.receiver.spans if span.name == "send push" and span.trace in mine]

    sends = poll(lambda: found if len(found := look()) == 3 else [], what="a span of the request in each trace")
    traces = {span.trace for span in sends}
    assert len(traces) == 3
    (shared,) = [span for span in sends if len(span.links) == 2]
    assert {shared.trace, *shared.links} == traces
    assert {span.links for span in sends if span is not shared} == {(shared.trace,)}
    (request,) = [s for s in traced.receiver.spans if s.parent == shared.id]
    assert request.name == "POST /listings/bulk-upsert"


def test_a_tick_of_beat_begins_a_trace(traced: Traced) -> None:
    spans = complete(traced, "incremental run", "incremental run", account="ticked")
    (root,) = [span for span in spans if not span.parent]
    assert (root.name, root.process) == ("apply_async/okasie.sync", "beat")
    assert any(span.name == "GET /listings" for span in spans)


def test_no_secret_and_no_content_of_a_listing_is_in_any_span(traced: Traced) -> None:
    """After the others, whose runs and pushes used every secret."""
    traced.place.okasie("push", "dex", "DG-00005")
    assert len(traced.receiver.spans) > 20
    exported = b"".join(traced.receiver.bodies)
    for secret in (KEY, PASSWORD, TOKEN, TITLE, base64.b64encode(f"dealer:{PASSWORD}".encode()).decode()):
        assert secret.encode() not in exported
    assert not [span.name for span in traced.receiver.spans if "watchdog" in span.name]


def _tasks(traced: Traced, pushes: list[str]) -> list[Span]:
    """The tasks that took these pushes up."""
    spans = [span for span in traced.receiver.spans if span.name == "run/okasie.push"]
    return [span for span in spans if span.attributes.get("messaging.message.id") in pushes]


def _sent(spans: list[Span]) -> list[Span]:
    """The requests to the marketplace."""
    return [span for span in spans if REQUEST_ID in span.attributes]


def _depth(parents: dict[str, Span], span: Span) -> int:
    depth = 0
    while span.parent:
        span, depth = parents[span.parent], depth + 1
    return depth


# -- where the message is not the carrier ------------------------------------------------------------------------------


TRACE, PARENT = "5" * 31 + "{}", "7" * 16


def test_a_request_whose_message_was_lost_continues_its_trace(traced: Traced) -> None:
    trace = TRACE.format("a")
    with _redis(traced) as client:
        now_ms = client.time()[0] * 1000
        entry = {
            "task": "okasie.push", "kwargs": {"account": "dex", "references": ["DG-00009"]},
            "at_ms": now_ms - 3_600_000, "expires_ms": now_ms + 3_600_000, "traceparent": f"00-{trace}-{PARENT}-01",
        }  # fmt: skip
        client.hset("okasie:outbox", "lost-push", json.dumps(entry))
        client.zadd("okasie:outbox:sent", {"lost-push": now_ms - 3_600_000})
    poll(lambda: _has(traced, trace, "PUT /listings/{externalReference}"), what="the request in the same trace")


def test_a_run_continues_its_trace_however_its_messages_come(traced: Traced) -> None:
    trace = TRACE.format("b")
    with _redis(traced) as client:
        runs = Runs(client, prefix="okasie:")
        run, _ = runs.request("dex", "full")
        runs.note(run, traceparent=f"00-{trace}-{PARENT}-01")
        client.lpush("okasie.control", handmade("dex", "full"))  # a message without a trace
    for name in ("full run", "GET /listings", "part diff"):  # of several processes, which export when they like
        poll(lambda name=name: _has(traced, trace, name), what=f"{name} in the same trace")


def _redis(traced: Traced) -> redis.Redis:
    url = find_embedded(traced.place.folder / ".okasie")
    assert url is not None
    return redis.Redis.from_url(url)


def _has(traced: Traced, trace: str, name: str) -> bool:
    return any(span.trace == trace and span.name == name for span in traced.receiver.spans)
