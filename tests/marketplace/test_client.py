"""The API client: one request per permit, each response mapped once, tolerant where it may be, strict where it must."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import responses

from okasie_tasks.errors import (
    ConfigurationError,
    ItemRejected,
    NoPermit,
    OkasieError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from okasie_tasks.marketplace import connections
from okasie_tasks.marketplace.client import OkasieApi
from okasie_tasks.marketplace.connections import PooledConnection
from okasie_tasks.ports import Feedback, Lane, Permit, RequestLog, Wait
from tests.limiter_model import MemoryLimiter
from tests.support import poll

BASE = "https://okasie.test/api/external/v1"
KEY = "s3cret-key"


class Recorder:
    """A limiter that always grants a permit and records its calls."""

    def __init__(self, answer: Permit | Wait | None = None) -> None:
        self.answer = answer
        self.calls: list[tuple[str, Any]] = []

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
        self.calls.append(("acquire", (ticket, lane, reserve_seconds)))
        return self.answer or Permit(f"{ticket}/1")

    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None:
        self.calls.append(("report", feedback))

    def cancel(self, permit: Permit) -> None:
        self.calls.append(("cancel", permit.id))

    def drop(self, ticket: str) -> None:
        self.calls.append(("drop", ticket))

    @property
    def reports(self) -> list[Feedback]:
        return [value for kind, value in self.calls if kind == "report"]


@pytest.fixture
def limiter() -> Recorder:
    return Recorder()


@pytest.fixture
def log() -> list[RequestLog]:
    return []


@pytest.fixture
def api(limiter: Recorder, log: list[RequestLog]) -> OkasieApi:
    return OkasieApi(BASE, lambda: KEY, limiter, account="dex", on_request=log.append)


WARM = PooledConnection.preconnect


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server listens, so nothing preconnects; `test_the_connection_is_open_before_the_permit` has a real server."""
    monkeypatch.setattr(PooledConnection, "preconnect", lambda _: None)


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def page(*rows: dict[str, Any], total: int | None = None) -> dict[str, Any]:
    count = len(rows) if total is None else total
    pagination = {"page": 1, "pageSize": 200, "totalItems": count, "totalPages": max(1, -(-count // 200))}
    return {"data": list(rows), "pagination": pagination, "meta": {}}


def bulk(results: Any = (), errors: Any = ()) -> dict[str, Any]:
    return {
        "data": {
            "successCount": len(results), "errorCount": len(errors), "results": list(results), "errors": list(errors)
        }
    }  # fmt: skip


ITEMS = [("A", b'{"externalReference":"A"}'), ("B", b'{"externalReference":"B"}')]


# -- what is sent --------------------------------------------------------------------------------------------------


def test_a_cookie_is_not_sent_back(api: OkasieApi, web: responses.RequestsMock) -> None:
    """A request must not depend on earlier responses."""
    for _ in range(2):
        web.get(f"{BASE}/listings", json=page(), headers={"Set-Cookie": "session=1; Path=/"})
        with api.permit(ticket="t") as call:
            call.list_page(1)
    assert ["Cookie" in sent.request.headers for sent in web.calls] == [False, False]


def test_a_list_asks_for_all_states_in_the_largest_pages(api: OkasieApi, web: responses.RequestsMock) -> None:
    web.get(f"{BASE}/listings", json=page(), headers={"Date": "Mon, 23 Nov 2026 16:00:01 GMT"})
    since = datetime(2026, 11, 23, 15, 58, tzinfo=UTC)
    with api.permit(ticket="t") as call:
        result = call.list_page(1, updated_since=since)
    sent = web.calls[0].request
    assert sent.url == f"{BASE}/listings?page=1&pageSize=200&status=all&updatedSince=2026-11-23T15%3A58%3A00Z"
    assert sent.headers["Authorization"] == f"Bearer {KEY}"
    assert len(sent.headers["X-Request-Id"]) == 32
    assert result.server_time == datetime(2026, 11, 23, 16, 0, 1, tzinfo=UTC)


def test_every_attempt_has_a_unique_request_id(api: OkasieApi, web: responses.RequestsMock) -> None:
    web.get(f"{BASE}/listings", json=page())
    for _ in range(2):
        with api.permit(ticket="t") as call:
            call.list_page(1)
    first, second = (call.request.headers["X-Request-Id"] for call in web.calls)
    assert first != second


def test_a_bulk_call_wraps_the_items_as_they_are(api: OkasieApi, web: responses.RequestsMock) -> None:
    web.post(f"{BASE}/listings/bulk-upsert", json=bulk())
    with api.permit(ticket="t") as call:
        call.bulk_upsert(ITEMS)
    assert json.loads(web.calls[0].request.body) == {"items": [{"externalReference": "A"}, {"externalReference": "B"}]}


@pytest.mark.parametrize("items", [[], [("A", b"{}")] * 2, [(str(n), b"{}") for n in range(101)]])
def test_a_bulk_call_that_the_contract_forbids_is_a_defect_and_not_sent(
    api: OkasieApi, limiter: Recorder, items: list[tuple[str, bytes]]
) -> None:
    with pytest.raises(ValueError, match="1 to 100"), api.permit(ticket="t") as call:
        call.bulk_upsert(items)
    assert limiter.calls[-1][0] == "cancel"


@pytest.mark.parametrize("reference", ["a/b", "a?b=c", "é #1", "a%2Fb"])
def test_a_reference_cannot_change_the_path(api: OkasieApi, web: responses.RequestsMock, reference: str) -> None:
    web.delete(requests.Request("DELETE", f"{BASE}/listings/{requests.utils.quote(reference, safe='')}").prepare().url,
               json={"data": {"status": "sold"}})  # fmt: skip
    with api.permit(ticket="t") as call:
        call.delete(reference)
    assert web.calls[0].request.url.count("/") == f"{BASE}/listings/x".count("/")


@pytest.mark.parametrize("reference", ["", ".", ".."])
def test_a_reference_that_a_path_cannot_hold_is_rejected(api: OkasieApi, limiter: Recorder, reference: str) -> None:
    with pytest.raises(ItemRejected), api.permit(ticket="t") as call:
        call.delete(reference)
    assert limiter.calls[-1][0] == "cancel"


# -- permits -------------------------------------------------------------------------------------------------------


def test_one_permit_is_one_request(api: OkasieApi, web: responses.RequestsMock, limiter: Recorder) -> None:
    web.get(f"{BASE}/listings", json=page())
    with api.permit(ticket="t") as call:
        call.list_page(1)
        with pytest.raises(RuntimeError):
            call.list_page(2)
    assert [kind for kind, _ in limiter.calls] == ["acquire", "report"]
    assert len(web.calls) == 1


def test_an_unused_permit_is_returned(api: OkasieApi, limiter: Recorder) -> None:
    with api.permit(ticket="t"):
        pass
    assert [kind for kind, _ in limiter.calls] == ["acquire", "cancel"]


def test_no_call_waits_in_a_slot_longer_than_half_a_second(log: list[RequestLog]) -> None:
    limiter = Recorder(Wait(0.6, "quota"))
    api = OkasieApi(BASE, lambda: KEY, limiter, account="dex")
    with pytest.raises(NoPermit) as caught, api.permit(ticket="t"):
        pass
    assert (caught.value.seconds, caught.value.counted) == (0.6, False)
    assert [kind for kind, _ in limiter.calls] == ["acquire"]


def test_a_permit_is_reserved_for_the_longest_time_of_a_call(limiter: Recorder) -> None:
    api = OkasieApi(BASE, lambda: KEY, limiter, account="dex", read_timeout=7, write_timeout=90)
    with api.permit(ticket="t", lane="urgent"):
        pass
    assert limiter.calls[0] == ("acquire", ("t", "urgent", 95.0))
    assert (api.timeout("list"), api.timeout("bulk")) == ((5.0, 7), (5.0, 90))


def test_the_headers_reach_the_limiter(api: OkasieApi, web: responses.RequestsMock, limiter: Recorder) -> None:
    quota = {"X-RateLimit-Limit": "120", "X-RateLimit-Remaining": "17", "X-RateLimit-Reset": "1795449600"}
    web.get(f"{BASE}/listings", json=page(), headers=quota)
    with api.permit(ticket="t") as call:
        call.list_page(1)
    assert limiter.reports == [Feedback(200, limit=120, remaining=17)]


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({"Date": "Mon, 23 Nov 2026 16:00:00 GMT"}, {"error": {"retryAt": "2026-11-23T16:00:09Z"}}, 9.0),
        ({"Date": "Mon, 23 Nov 2026 16:00:00 GMT", "Retry-After": "Mon, 23 Nov 2026 16:00:11 GMT"}, {}, 11.0),
        ({"Date": "Mon, 23 Nov 2026 16:00:00 GMT", "Retry-After": "Mon, 23 Nov 2026 16:00:11 -0000"}, {}, 11.0),
        ({"Date": "Mon, 23 Nov 2026 16:00:00 GMT", "X-RateLimit-Reset": "1795449613"}, {}, 13.0),
        ({"Retry-After": "soon"}, {}, 60.0),
        ({}, {}, 60.0),
        ({"Retry-After": "0"}, {}, 1.0),
        ({"Retry-After": "86400"}, {}, 900.0),
    ],
)
def test_a_429_states_how_long_to_pause(
    api: OkasieApi,
    web: responses.RequestsMock,
    limiter: Recorder,
    headers: dict[str, str],
    body: dict[str, Any],
    seconds: float,
) -> None:
    web.get(f"{BASE}/listings", status=429, json=body, headers=headers)
    with pytest.raises(RateLimited) as caught, api.permit(ticket="t") as call:
        call.list_page(1)
    assert caught.value.seconds == seconds
    assert not caught.value.counted
    assert limiter.reports[0].retry_after == seconds


# -- failures ------------------------------------------------------------------------------------------------------

HTML = "<html><body>Bad gateway</body></html>"


@pytest.mark.parametrize(
    ("answer", "error", "code", "message"),
    [
        ({"status": 500, "json": {"error": {"code": "INTERNAL", "message": "Oops"}}}, Unavailable, "unavailable", "HTTP 500 INTERNAL: Oops"),
        ({"status": 503, "body": HTML, "content_type": "text/html"}, Unavailable, "unavailable", "HTTP 503"),
        ({"status": 302, "headers": {"Location": "https://evil.test/"}}, Unavailable, "unavailable", "HTTP 302"),
        ({"status": 200, "body": HTML, "content_type": "text/html"}, Unavailable, "unreadable", "not JSON"),
        ({"status": 200, "body": '{"data": ['}, Unavailable, "unreadable", "not JSON"),
        ({"status": 200, "json": {"data": "x"}}, Unavailable, "unreadable", "expected data"),
        ({"status": 200, "json": {"data": []}}, Unavailable, "unreadable", "pagination"),
        ({"status": 200, "json": [1]}, Unavailable, "unreadable", "expected"),
        ({"status": 401, "json": {"error": {"code": "UNAUTHORIZED"}}}, Unauthorized, "unauthorized", "HTTP 401"),
        ({"status": 403, "json": {"error": {"code": "SCOPE_DENIED"}}}, Unauthorized, "scope", "scope"),
        ({"status": 403, "json": {"error": {"code": "PROFILE_FORBIDDEN"}}}, ItemRejected, "PROFILE_FORBIDDEN", "HTTP 403"),
        ({"status": 403, "json": {"error": {"code": "FORBIDDEN", "message": "outside your scope"}}}, ItemRejected, "FORBIDDEN", "HTTP 403"),
        ({"status": 404, "json": {"error": {"code": "LOCATION_NOT_FOUND"}}}, ItemRejected, "LOCATION_NOT_FOUND", "HTTP 404"),
        ({"status": 400, "body": HTML}, Unavailable, "unavailable", "HTTP 400"),
        ({"status": 403, "body": HTML}, Unavailable, "unavailable", "HTTP 403"),
        ({"status": 404, "json": {"error": "gone"}}, Unavailable, "unavailable", "HTTP 404"),
        ({"status": 404, "json": {"error": {"message": "no code"}}}, Unavailable, "unavailable", "HTTP 404: no code"),
        ({"status": 409, "json": {"error": {"code": "CONFLICT"}}}, Unavailable, "unavailable", "HTTP 409 CONFLICT"),
        ({"status": 423, "json": {"error": {"code": "LOCKED"}}}, Unavailable, "unavailable", "HTTP 423 LOCKED"),
        ({"status": 410, "body": ""}, Unavailable, "unavailable", "HTTP 410"),
        ({"status": 204, "body": ""}, Unavailable, "unreadable", "got nothing"),
        ({"body": requests.ConnectTimeout()}, Unavailable, "unavailable", "no connection within 5 s"),
        ({"body": requests.ReadTimeout()}, Unavailable, "unavailable", "no answer within 20 s"),
        ({"body": requests.ConnectionError("reset")}, Unavailable, "unavailable", "connection was lost"),
    ],
)  # fmt: skip
def test_failures_are_mapped_once(
    api: OkasieApi,
    web: responses.RequestsMock,
    limiter: Recorder,
    answer: dict[str, Any],
    error: type[OkasieError],
    code: str,
    message: str,
) -> None:
    web.get(f"{BASE}/listings", **answer)
    with pytest.raises(error) as caught, api.permit(ticket="t") as call:
        call.list_page(1)
    assert type(caught.value) is error
    assert (caught.value.code, message in caught.value.message) == (code, True), str(caught.value)
    assert "GET /listings page 1 (request " in (caught.value.where or "")
    assert len(web.calls) == 1, "no retry, no redirect followed"
    assert len(limiter.reports) == 1


@pytest.mark.parametrize("status", [302, 400, 403, 404, 408, 409, 410, 423, 425, 500])
def test_a_refusal_that_may_pass_counts_as_a_failure_for_the_limiter(
    api: OkasieApi, web: responses.RequestsMock, limiter: Recorder, log: list[RequestLog], status: int
) -> None:
    web.delete(f"{BASE}/listings/A", status=status, body=HTML, headers={"Retry-After": "7"})
    with pytest.raises(Unavailable) as caught, api.permit(ticket="t") as call:
        call.delete("A")
    of_one_listing = status in (409, 423, 425)
    assert limiter.reports == [Feedback(status, failed=True, retry_after=None if of_one_listing else 7.0)]
    assert (caught.value.status, caught.value.seconds, log[0].failed) == (status, 7.0, True)


@pytest.mark.parametrize(("after", "seconds"), [("86400", 300.0), ("soon", 0.0), ("", 0.0)])
def test_a_failure_cannot_ask_for_hours(
    api: OkasieApi, web: responses.RequestsMock, after: str, seconds: float
) -> None:
    reset = {"X-RateLimit-Reset": "1795449613", "Date": "Mon, 23 Nov 2026 16:00:00 GMT"}
    web.delete(f"{BASE}/listings/A", status=503, body=HTML, headers={"Retry-After": after, **reset})
    with pytest.raises(Unavailable) as caught, api.permit(ticket="t") as call:
        call.delete("A")
    assert caught.value.seconds == seconds


def test_a_bulk_call_that_is_too_large_is_refused_as_a_whole(api: OkasieApi, web: responses.RequestsMock) -> None:
    web.post(f"{BASE}/listings/bulk-upsert", status=413, body=HTML)
    for items, error in ((ITEMS, ItemRejected), (ITEMS[:1], Unavailable)):
        with pytest.raises(error), api.permit(ticket="t") as call:
            call.bulk_upsert(items)


@pytest.mark.parametrize(("status", "body"), [(204, ""), (200, ""), (201, "\r\n"), (202, "null")])
def test_a_success_without_a_body_is_a_success_of_one_listing(
    api: OkasieApi, web: responses.RequestsMock, limiter: Recorder, status: int, body: str
) -> None:
    web.put(f"{BASE}/listings/A", status=status, body=body)
    web.delete(f"{BASE}/listings/A", status=status, body=body)
    web.post(f"{BASE}/listings/A/status", status=status, body=body)
    sends = (
        lambda call: call.put("A", b"{}"),
        lambda call: call.delete("A"),
        lambda call: call.set_status("A", "sold"),
    )
    for send in sends:
        with api.permit(ticket="t") as call:
            (answer,) = send(call).items
        assert (answer.reference, answer.outcome, answer.status) == ("A", "accepted", None)
    assert not any(report.failed for report in limiter.reports)


def test_a_refused_connection_differs_from_a_lost_response(
    api: OkasieApi, web: responses.RequestsMock, limiter: Recorder
) -> None:
    web.get(f"{BASE}/listings", body=requests.ConnectTimeout())
    web.get(f"{BASE}/listings", body=requests.ReadTimeout())
    for _ in range(2):
        with pytest.raises(Unavailable), api.permit(ticket="t") as call:
            call.list_page(1)
    assert [seen.status for seen in limiter.reports] == [-1, 0]


def test_a_server_that_echoes_the_key_does_not_bring_it_into_a_message(
    api: OkasieApi, web: responses.RequestsMock
) -> None:
    error = {"code": f"X{KEY}", "message": f"bad Bearer {KEY}", "issues": [{"path": KEY, "message": KEY}]}
    web.put(f"{BASE}/listings/A", status=422, json={"error": error}, headers={"X-Request-Id": "their-1"})
    with pytest.raises(ItemRejected) as caught, api.permit(ticket="t") as call:
        call.put("A", b"{}")
    carried = pickle.loads(pickle.dumps(caught.value))
    for text in (str(caught.value), repr(caught.value.__dict__), repr(carried.__dict__), repr(api)):
        assert KEY not in text
    assert "theirs their-1" in (caught.value.where or "")


def test_a_missing_key_costs_no_permit(limiter: Recorder) -> None:
    def missing() -> str:
        raise ConfigurationError("the environment variable DEX is not set or empty", where="env:DEX")

    api = OkasieApi(BASE, missing, limiter, account="dex")
    with pytest.raises(Unauthorized) as caught, api.permit(ticket="t"):
        pass
    assert "accounts.dex.api_key" in str(caught.value)
    assert "DEX is not set" in str(caught.value)
    assert limiter.calls == []


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "naïve"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(limiter: Recorder, key: str) -> None:
    with pytest.raises(Unauthorized) as caught, OkasieApi(BASE, lambda: key, limiter, account="dex").permit(ticket="t"):
        pass
    assert key not in str(caught.value)


# -- reading -------------------------------------------------------------------------------------------------------


def test_a_page_is_read_with_tolerance(api: OkasieApi, web: responses.RequestsMock) -> None:
    good = {"id": "1", "externalReference": "A", "status": "active", "brandNew": {"field": 1}, "price": 5}
    web.get(f"{BASE}/listings", json=page(good, {"no": "id"}, total=2) | {"unknown": True})  # type: ignore[arg-type]
    with api.permit(ticket="t") as call:
        result = call.list_page(1)
    assert [row.reference for row in result.rows] == ["A"]
    assert (result.unreadable, result.total_items, result.total_pages) == (1, 2, 1)


def read_bulk(api: OkasieApi, web: responses.RequestsMock, status: int, body: Any) -> list[str]:
    web.post(f"{BASE}/listings/bulk-upsert", status=status, json=body)
    with api.permit(ticket="t") as call:
        return [answer.outcome for answer in call.bulk_upsert(ITEMS).items]


A_DONE = {"index": 0, "externalReference": "A", "status": "active", "created": True}
B_DONE = {"index": 1, "externalReference": "B", "status": "active", "created": False}
B_REFUSED = {"index": 1, "externalReference": "B", "status": 422, "code": "VALIDATION_FAILED", "message": "no",
             "issues": [{"path": "price", "message": "must be positive"}]}  # fmt: skip


@pytest.mark.parametrize("status", [200, 201, 202, 207])
def test_item_answers_are_read_on_any_success(api: OkasieApi, web: responses.RequestsMock, status: int) -> None:
    assert read_bulk(api, web, status, bulk([A_DONE], [B_REFUSED])) == ["accepted", "refused"]


def test_item_answers_are_read_on_a_refusal_that_carries_them(api: OkasieApi, web: responses.RequestsMock) -> None:
    assert read_bulk(api, web, 422, bulk([], [{**A_DONE, "status": 422}, B_REFUSED])) == ["refused", "refused"]


@pytest.mark.parametrize(
    ("results", "outcomes"),
    [
        ([A_DONE], ["accepted", "unknown"]),
        ([A_DONE, A_DONE, B_DONE], ["accepted", "accepted"]),
        ([A_DONE, {**A_DONE, "status": "draft"}, B_DONE], ["unknown", "accepted"]),
        ([A_DONE, B_DONE, {"index": 2, "externalReference": "C", "status": "active"}], ["accepted", "accepted"]),
        ([{**A_DONE, "externalReference": "Z"}, B_DONE], ["unknown", "accepted"]),
        ([{**A_DONE, "index": 7}, B_DONE], ["unknown", "accepted"]),
        (["nonsense", None, B_DONE], ["unknown", "accepted"]),
    ],
)
def test_what_an_answer_does_not_name_clearly_is_unknown(
    api: OkasieApi, web: responses.RequestsMock, results: list[Any], outcomes: list[str]
) -> None:
    assert read_bulk(api, web, 200, bulk(results)) == outcomes


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ({"status": 422}, "refused"),
        ({"status": "422"}, "refused"),
        ({"status": 403, "code": "PROFILE_FORBIDDEN"}, "refused"),
        ({"status": 403, "code": "SCOPE_DENIED"}, "unknown"),
        ({"status": None, "code": "VALIDATION_FAILED"}, "refused"),
        ({"status": None, "code": "IMAGES_FAILED"}, "unknown"),
        ({"status": 409, "code": "CONFLICT"}, "unknown"),
        ({"status": 429, "code": "RATE_LIMITED"}, "unknown"),
        ({"status": "500", "code": "IMAGES_FAILED"}, "unknown"),
    ],
)
def test_only_a_permanent_status_refuses_an_item(
    api: OkasieApi, web: responses.RequestsMock, error: dict[str, Any], outcome: str
) -> None:
    assert read_bulk(api, web, 200, bulk([A_DONE], [{"index": 1, "externalReference": "B", **error}])) == [
        "accepted", outcome,
    ]  # fmt: skip


def test_what_is_accepted_and_refused_in_one_answer_is_unknown(api: OkasieApi, web: responses.RequestsMock) -> None:
    assert read_bulk(api, web, 200, bulk([A_DONE, B_DONE], [B_REFUSED])) == ["accepted", "unknown"]


@pytest.mark.parametrize(
    "more",
    [
        {"skippedImages": [{"source": "u", "reason": "mirror_failed"}]},
        {"warnings": {"skippedImages": [{"source": "u", "reason": "mirror_failed"}]}},
        {"warnings": {"failedImages": [{"url": "u", "error": "mirror_failed"}]}},
    ],
)
def test_image_warnings_are_read_in_each_documented_shape(
    api: OkasieApi, web: responses.RequestsMock, more: dict[str, Any]
) -> None:
    web.put(f"{BASE}/listings/A", json={"data": {"externalReference": "A", "status": "active", **more}})
    with api.permit(ticket="t") as call:
        (answer,) = call.put("A", b"{}").items
    assert [(image.source, image.reason) for image in answer.skipped_images] == [("u", "mirror_failed")]


def test_each_request_is_counted_with_its_kind(
    api: OkasieApi, web: responses.RequestsMock, log: list[RequestLog]
) -> None:
    web.post(f"{BASE}/listings/A/status", json={"data": {"status": "pending"}})
    web.get(f"{BASE}/locations", json={"data": [{"id": "1", "locationCode": "GENT"}, {"no": "id"}]})
    with api.permit(ticket="t", lane="urgent") as call:
        assert call.set_status("A", "pending").items[0].status == "pending"
    with api.permit(ticket="t") as call:
        assert [place.location_code for place in call.locations()] == ["GENT"]
    assert json.loads(web.calls[0].request.body) == {"status": "pending"}
    assert [(r.kind, r.method, r.status, r.lane) for r in log] == [
        ("status", "POST", 200, "urgent"), ("locations", "GET", 200, "bulk"),
    ]  # fmt: skip


def test_the_memory_limiter_fits_the_client(web: responses.RequestsMock) -> None:
    web.get(f"{BASE}/listings", json=page())
    api = OkasieApi(BASE, lambda: KEY, MemoryLimiter(per_minute=1), account="dex")
    with api.permit(ticket="t") as call:
        call.list_page(1)
    with pytest.raises(NoPermit), api.permit(ticket="u"):
        pass


# -- the connection ------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Answers every list with no listings, and silently closes each connection after its first response."""

    daemon_threads = True

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.bodies: list[bool] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.accepted.append(str(self.client_address))  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.bodies.append(len(self.rfile.read(length)) == length)  # type: ignore[attr-defined]
        self.do_GET()

    def do_GET(self) -> None:
        body = json.dumps(page()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


def test_more_workers_help_while_responses_take_longer_than_the_pace_and_no_permit_had_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = OkasieApi(BASE, lambda: KEY, MemoryLimiter(per_minute=1), account="dex", max_wait_seconds=0)
    assert not api.needs_more_workers(0.5), "nothing is known of its answers"
    for _ in range(20):
        api.record_latency(0.7)
    assert api.needs_more_workers(0.5)
    assert not api.needs_more_workers(0.8)
    with api.permit(ticket="t2"), pytest.raises(NoPermit), api.permit(ticket="t3"):
        pass
    assert not api.needs_more_workers(0.5)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3)
    assert api.needs_more_workers(0.5)


def test_the_connection_is_open_before_the_permit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PooledConnection, "preconnect", WARM)
    opened: list[int] = []

    class Watching(Recorder):
        def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
            poll(lambda: len(server.accepted) > len(opened), what="a connection before the permit")
            opened.append(len(server.accepted))
            return super().acquire(ticket, lane, reserve_seconds)

    def preconnect_again() -> None:
        line = api.connections.acquire()
        line.preconnect()
        api.connections.release(line)

    with Server() as server:
        api = OkasieApi(f"http://127.0.0.1:{server.server_port}", lambda: KEY, Watching(), account="dex")
        for turn in (1, 2):
            with api.permit(ticket="t") as call:
                assert call.list_page(1).total_items == 0
            assert len(server.accepted) == turn, "the request used the connection that was opened for it"
            # The server closes it after that; the next permit must not be used up to detect it.
            poll(lambda n=turn: preconnect_again() or len(server.accepted) > n, what="the closed one replaced")
        server.shutdown()


@pytest.mark.parametrize(("late_at", "begun"), [(2, False), (3, True)])
def test_a_process_that_was_stopped_before_sending_does_not_send(
    monkeypatch: pytest.MonkeyPatch, limiter: Recorder, late_at: int, begun: bool
) -> None:
    """Before the head, or between head and body: the second reading of the clock is a minute later."""
    looks: list[int] = []

    def clock() -> float:
        looks.append(1)
        return 60.0 if len(looks) >= late_at else 0.0

    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=clock))
    with Server() as server:
        api = OkasieApi(f"http://127.0.0.1:{server.server_port}", lambda: KEY, limiter, account="dex")
        with pytest.raises(NoPermit, match="stale"), api.permit(ticket="t") as call:
            call.bulk_upsert([("A", b'{"externalReference":"A"}')])
        poll(lambda: server.bodies == ([False] if begun else []), what="the end of the request")
        looks.clear()
        late_at = 99
        with api.permit(ticket="u") as call:
            call.list_page(1)
        server.shutdown()
    assert limiter.reports[0] == Feedback(0), "it may have been counted"


def test_a_server_that_is_not_there_costs_a_permit_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, limiter: Recorder
) -> None:
    """The breaker must see it; preconnecting ignores the error."""
    monkeypatch.setattr(PooledConnection, "preconnect", WARM)
    api = OkasieApi("http://127.0.0.1:9", lambda: KEY, limiter, account="dex")
    with pytest.raises(Unavailable, match="cannot connect"), api.permit(ticket="t") as call:
        call.list_page(1)
    assert limiter.reports == [Feedback(-1)]
