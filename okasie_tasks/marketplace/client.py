"""The client of the Okasie API: each call takes a permit, sends one request with time-outs, and reports the outcome.

Errors are mapped here to those of `okasie_tasks.errors`; no other module knows requests or HTTP. Retries and redirects
are off: each attempt needs a separate permit, and a redirect would send the key to another address.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode
from uuid import uuid4

import msgspec
import requests

from okasie_tasks import __version__
from okasie_tasks.core.remote_rows import decode_rows
from okasie_tasks.errors import ItemRejected, NoPermit, OkasieError, Unauthorized, Unavailable
from okasie_tasks.health.operations import OPERATIONS
from okasie_tasks.logs import get_logger
from okasie_tasks.marketplace import responses
from okasie_tasks.marketplace.attempt import NOT_JSON, Attempt, decode, verdict_of, with_their_id
from okasie_tasks.marketplace.bodies import read_body
from okasie_tasks.marketplace.connections import LATE_SECONDS, Connections, in_time, never_connected, plain, was_late
from okasie_tasks.masking import know
from okasie_tasks.ports import Feedback, Kind, Lane, Limiter, Location, Page, Permit, RequestLog, WriteAnswer
from okasie_tasks.telemetry import tracing

log = get_logger(__name__)

PAGE_SIZE: Final = 200
"""The largest page (API docs, listings/list)."""
_CONNECT_SECONDS: Final = 5.0
_FRESH_SECONDS: Final = 0.15
"""A permit is for immediate use: an older one is returned unused (a busy machine, a stopped process)."""
_FLOWING_SECONDS: Final = 2.0
"""This long after the last wait for a permit, permits count as available at once."""
_LATENCY_WEIGHT: Final = 0.2
"""The weight of the last response in the moving average of latencies."""
_STALE: Final = "the permit went stale before the request was ready"
_UNCOUNTED: Final = (requests.ConnectTimeout,)
_ROUTES: Final[dict[Kind, str]] = {
    "list": "/listings",
    "bulk": "/listings/bulk-upsert",
    "put": "/listings/{externalReference}",
    "delete": "/listings/{externalReference}",
    "status": "/listings/{externalReference}/status",
    "locations": "/locations",
}
_OF_ONE_LISTING: Final = frozenset({409, 423, 425})


class OkasieApi:
    """The marketplace of one account. Safe to share between threads; a forked child opens new connections.

    ``key`` is called at each request, so that a missing key fails only the run that needs it.
    """

    def __init__(
        self,
        base_url: str,
        key: Callable[[], str],
        limiter: Limiter,
        *,
        account: str,
        read_timeout: float = 20,
        write_timeout: float = 120,
        max_wait_seconds: float = 0.5,
        on_request: Callable[[RequestLog], None] | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.account = account
        self.limiter = limiter
        self.on_request = on_request
        self._key = key
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        self._max_wait_seconds = max_wait_seconds
        self._waited_at = -_FLOWING_SECONDS
        self._latency_seconds = 0.0
        self.connections = Connections(self.base_url, f"okasie-tasks/{__version__}", connect_seconds=_CONNECT_SECONDS)

    def __repr__(self) -> str:
        return f"OkasieApi({self.base_url!r}, account={self.account!r})"

    def permit(self, *, ticket: str, lane: Lane = "bulk", wait: bool = True, keep_place: bool = True) -> PermittedCall:
        """The right to send one request, as a context manager.

        Entering raises `NoPermit` if no permit is available within half a second, or, without ``wait``, at once. The
        ticket keeps its place in the limiter's queue for the next call with it, unless ``keep_place`` is False.
        """
        return PermittedCall(
            self, ticket, lane, max_wait_seconds=self._max_wait_seconds if wait else 0.0, keep_place=keep_place
        )

    def needs_more_workers(self, pace_seconds: float) -> bool:
        """Whether one more concurrent worker would send more, where one request is allowed every ``pace_seconds``.

        That is so if responses take longer than that, and no request of this process has waited for a permit within
        the last two seconds.
        """
        flowing = time.monotonic() - self._waited_at > _FLOWING_SECONDS
        return flowing and self._latency_seconds > pace_seconds

    def record_wait(self) -> None:
        """Record that a permit was not available at once, for `needs_more_workers`."""
        self._waited_at = time.monotonic()

    def record_latency(self, seconds: float) -> None:
        """Record how long a response took, for `needs_more_workers`."""
        self._latency_seconds += (seconds - self._latency_seconds) * _LATENCY_WEIGHT

    @property
    def reserve_seconds(self) -> float:
        """The longest time that any call can take. Each permit is reserved for it until its response is reported."""
        return max(self._read_timeout, self._write_timeout) + _CONNECT_SECONDS

    def timeout(self, kind: Kind) -> tuple[float, float]:
        reads = kind in ("list", "locations")
        return _CONNECT_SECONDS, self._read_timeout if reads else self._write_timeout

    def longest_seconds(self, kind: Kind) -> float:
        """How long a call may take: to connect, then the headers of the response and its body."""
        connect, read = self.timeout(kind)
        return connect + 2 * read

    def key(self) -> str:
        """The API key, checked to be valid in a header. Raises `Unauthorized` if it is invalid or cannot be read."""
        try:
            key = self._key()
        except OkasieError as error:
            raise Unauthorized(error.message, where=f"accounts.{self.account}.api_key, {error.where}") from error
        if not key.isascii() or not key.isprintable() or " " in key:
            raise Unauthorized("contains characters that no key has", where=f"accounts.{self.account}.api_key")
        return know(key)


class PermittedCall:
    """A permit and the one request that it is for."""

    def __init__(
        self, api: OkasieApi, ticket: str, lane: Lane, *, max_wait_seconds: float, keep_place: bool = True
    ) -> None:
        self._api, self._ticket, self._lane = api, ticket, lane
        self._max_wait_seconds, self._keep_place = max_wait_seconds, keep_place
        self._permit: Permit | None = None
        self._send_by = 0.0
        self._used = False

    def __enter__(self) -> PermittedCall:
        self._api.key()  # a missing key must not cost a permit
        self._connection = self._api.connections.acquire()
        try:
            self._connection.preconnect()
            self._permit = self._wait()
        except BaseException:
            self._api.connections.release(self._connection)
            raise
        self._send_by = time.monotonic() + _FRESH_SECONDS
        return self

    def __exit__(self, *exc: object) -> None:
        self._api.connections.release(self._connection)
        if self._permit is not None and not self._used:
            self._api.limiter.cancel(self._permit)

    def _wait(self) -> Permit:
        give_up = time.monotonic() + self._max_wait_seconds
        while True:
            response = self._api.limiter.acquire(self._ticket, self._lane, self._api.reserve_seconds)
            if isinstance(response, Permit):
                if response.after_seconds:
                    time.sleep(response.after_seconds)
                return response
            self._api.record_wait()
            if time.monotonic() + response.seconds > give_up:
                if not self._keep_place:
                    self._api.limiter.drop(self._ticket)
                raise NoPermit(f"no permit yet ({response.reason})", seconds=response.seconds, where=self._api.account)
            time.sleep(response.seconds)

    # -- the calls -------------------------------------------------------------------------------------------------

    def list_page(self, page: int, *, updated_since: datetime | None = None, known: Collection[bytes] = ()) -> Page:
        """``GET /listings``, all statuses, 200 rows a page. ``known``: the hashes of rows not to decode."""
        query = {"page": str(page), "pageSize": str(PAGE_SIZE), "status": "all"}
        if updated_since is not None:
            query["updatedSince"] = updated_since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        since = f" since {query['updatedSince']}" if updated_since else ""
        where = f"GET /listings page {page}{since}"
        attempt = self._send("list", "GET", f"/listings?{urlencode(query)}", where, known=known)
        return attempt.read(responses.read_page, page=page)

    def bulk_upsert(self, items: Sequence[tuple[str, bytes]]) -> WriteAnswer:
        """``POST /listings/bulk-upsert`` with 1 to 100 ``(reference, JSON of the item)``, each reference once."""
        references = [reference for reference, _ in items]
        if not 1 <= len(items) <= 100 or len(set(references)) != len(items):
            raise ValueError("a bulk call takes 1 to 100 items, each reference once")
        body = b'{"items":[' + b",".join(item for _, item in items) + b"]}"
        where = f"POST /listings/bulk-upsert, {len(items)} items from {references[0]}"
        attempt = self._send("bulk", "POST", "/listings/bulk-upsert", where, body=body, items=len(items))
        answer = attempt.read(responses.read_bulk, references)
        if answer.ignored:
            facts = {"account": self._api.account, "request_id": answer.request_id, "items": answer.ignored}
            log.warning("bulk answer names items that were not sent; they are ignored", **facts)
        return answer

    def put(self, reference: str, body: bytes) -> WriteAnswer:
        """``PUT /listings/{externalReference}``."""
        attempt = self._send("put", "PUT", _path(reference), f"PUT /listings/{reference}", body=body, items=1)
        return attempt.read(responses.read_single, reference)

    def delete(self, reference: str) -> WriteAnswer:
        """``DELETE /listings/{externalReference}``: marks it sold. For a sold listing the response is the same."""
        attempt = self._send("delete", "DELETE", _path(reference), f"DELETE /listings/{reference}", items=1)
        return attempt.read(responses.read_single, reference)

    def set_status(self, reference: str, status: str) -> WriteAnswer:
        """``POST /listings/{externalReference}/status``."""
        body = msgspec.json.encode({"status": status})
        where = f"POST /listings/{reference}/status"
        attempt = self._send("status", "POST", f"{_path(reference)}/status", where, body=body, items=1)
        return attempt.read(responses.read_single, reference)

    def locations(self) -> tuple[Location, ...]:
        """``GET /locations``."""
        attempt = self._send("locations", "GET", "/locations", "GET /locations")
        return attempt.read(_locations)

    # -- one request -----------------------------------------------------------------------------------------------

    def _send(
        self,
        kind: Kind,
        method: str,
        path: str,
        where: str,
        *,
        body: bytes | None = None,
        items: int = 0,
        known: Collection[bytes] = (),
    ) -> Attempt:
        if self._permit is None or self._used:
            raise RuntimeError("a permit is for exactly one request")
        if time.monotonic() > self._send_by:
            raise NoPermit(_STALE, seconds=0.05, where=self._api.account)
        request_id = uuid4().hex
        headers = self._headers(request_id, body)
        label, where = where, f"{where} (request {request_id})"
        self._used = True
        outcome = Feedback(status=0)
        started = time.monotonic()
        try:
            with in_time(LATE_SECONDS), OPERATIONS.operation(f"{method} {kind}", self._api.longest_seconds(kind)):
                status, received, raw = self._exchange(kind, method, self._api.base_url + path, headers, body)
            self._api.record_latency(time.monotonic() - started)
            # Pages are decoded straight to the compared fields, where their rows allow it.
            decoded = (decode_rows(raw, known=known) if kind == "list" and status == 200 else None) or decode(raw)
            verdict = verdict_of(kind, status, decoded)
            outcome = responses.feedback(status, received, decoded)
            if verdict == "failed" or (verdict == "answer" and decoded is NOT_JSON):
                # A conflict asks to wait for one listing, other failures for the whole account.
                pause = None if status in _OF_ONE_LISTING else responses.failure_pause(received, decoded)
                outcome = msgspec.structs.replace(outcome, failed=True, retry_after=pause)
        except requests.RequestException as error:
            if was_late():
                raise NoPermit(_STALE, seconds=0.05, where=where) from None
            connected = not (isinstance(error, _UNCOUNTED) or never_connected(error))
            outcome = Feedback(status=0 if connected else -1)
            unavailable = Unavailable(plain(error, self._api.timeout(kind)), seconds=0, where=where)
            unavailable.in_doubt = connected
            raise unavailable from None
        finally:
            entry = RequestLog(
                account=self._api.account,
                lane=self._lane,
                kind=kind,
                method=method,
                status=max(outcome.status, 0),
                seconds=time.monotonic() - started,
                request_id=request_id,
                items=items,
                waited_seconds=self._permit.waited_seconds,
                where=label,
                failed=outcome.failed,
            )
            self._api.limiter.report(self._permit, outcome, entry)
            if self._api.on_request is not None:
                self._api.on_request(entry)
        where = with_their_id(where, request_id, received.get("X-Request-Id", ""))
        return Attempt(
            account=self._api.account,
            verdict="refused" if status == 413 and items > 1 else verdict,
            status=status,
            headers=received,
            body=decoded,
            where=where,
            request_id=request_id,
            outcome=outcome,
        )

    def _headers(self, request_id: str, body: bytes | None) -> dict[str, str]:
        key = self._api.key()
        headers = {"Authorization": f"Bearer {key}", "X-Request-Id": request_id, "Accept": "application/json"}
        return headers if body is None else {**headers, "Content-Type": "application/json"}

    def _exchange(
        self, kind: Kind, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        about = {
            "http.request.method": method,
            "url.full": url,
            "okasie.account": self._api.account,
            "okasie.lane": self._lane,
            "okasie.request_id": headers["X-Request-Id"],
        }
        with (
            tracing.span(f"{method} {_ROUTES[kind]}", about, kind="client") as span,
            self._connection.send(method, url, headers, body, timeout=self._api.timeout(kind)) as response,
        ):
            span.answered(response.status_code)
            # The read time-out of requests is per socket read: a slow body must not outlive its permit.
            body = read_body(response, ends_at=time.monotonic() + self._api.timeout(kind)[1])
            return response.status_code, response.headers, body


def _locations(body: object, *, moment: object, request_id: str) -> tuple[Location, ...]:  # noqa: ARG001 - a reader
    return responses.read_locations(body)


def _path(reference: str) -> str:
    """The path of a listing. The reference is percent-encoded, as it may contain any character of a path
    (API docs, guides/incremental-sync).

    Raises `ItemRejected` for ``.`` and ``..``: every client and proxy removes these from a path, encoded or not.
    """
    if reference in ("", ".", ".."):
        raise ItemRejected("cannot be used in a path", where=f"reference {reference!r}", code="invalid_reference")
    return f"/listings/{quote(reference, safe='')}"
