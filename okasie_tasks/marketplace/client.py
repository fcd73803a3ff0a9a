"""The one door to the Okasie API: permit, one request with time-outs, report.

Errors are mapped here once, to our own tree; nothing above knows requests or HTTP. Retries and redirects are off: each
attempt would need a permit of its own, and a redirect would carry the key elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

import msgspec
import requests

from okasie_tasks import __version__
from okasie_tasks.core.remote_rows import decode_rows
from okasie_tasks.errors import ItemRejected, NoPermit, OkasieError, RateLimited, Unauthorized, Unavailable
from okasie_tasks.marketplace import responses as answers
from okasie_tasks.marketplace.connections import Connections, in_time, was_late
from okasie_tasks.masking import know, mask
from okasie_tasks.ports import Feedback, Kind, Lane, Limiter, Location, Page, Permit, RequestLog, WriteAnswer

T = TypeVar("T")
PAGE_SIZE: Final = 200
"""The largest page (API docs, listings/list)."""
_CONNECT_SECONDS: Final = 5.0
_FRESH_SECONDS: Final = 0.15
"""A permit is for now: one that is older than this is given back (a busy machine, a stopped process)."""
_FLOWING_SECONDS: Final = 2.0
"""So long after a permit that had to be waited for, permits are taken to come at once."""
_LAST_COUNTS: Final = 0.2
"""The weight of the last answer in the mean of how long they take."""
_STALE: Final = "the permit went stale before the request was ready"
_BODY_BYTES: Final = 256 * 1024
"""Read at a time: a page of 200 listings is about as long."""
_LARGEST_BODY: Final = 64 * 1024 * 1024
_UNCOUNTED: Final = (requests.ConnectTimeout,)
_SCOPE_CODES: Final = frozenset({"SCOPE_DENIED", "FORBIDDEN", "INSUFFICIENT_SCOPE"})


class OkasieApi:
    """The marketplace of one account. Safe to share between threads; sessions are made anew after a fork.

    ``key`` is asked for at each request, so that a key that is missing fails the run that needs it and nothing else.
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
        self._answer_seconds = 0.0
        self.connections = Connections(self.base_url, f"okasie-tasks/{__version__}", connect_seconds=_CONNECT_SECONDS)

    def __repr__(self) -> str:
        return f"OkasieApi({self.base_url!r}, account={self.account!r})"

    def permit(self, *, ticket: str, lane: Lane = "bulk", wait: bool = True, keep_place: bool = True) -> PermittedCall:
        """The right to send one request, as a context.

        Entering raises `NoPermit` when half a second is not enough; without ``wait``, when there is none at once. The
        ticket keeps its place for whoever comes again with it, unless ``keep_place`` is False.
        """
        return PermittedCall(
            self, ticket, lane, max_wait_seconds=self._max_wait_seconds if wait else 0.0, keep_place=keep_place
        )

    def needs_more_workers(self, pace_seconds: float) -> bool:
        """Whether one more at a time could send more, where a request may leave every ``pace_seconds``.

        That is so where answers take longer than that, and no permit that this process asked for had to wait within
        the last two seconds.
        """
        flowing = time.monotonic() - self._waited_at > _FLOWING_SECONDS
        return flowing and self._answer_seconds > pace_seconds

    def record_wait(self) -> None:
        """For `needs_more_workers`."""
        self._waited_at = time.monotonic()

    def record_latency(self, seconds: float) -> None:
        """For `needs_more_workers`: how long an answer took."""
        self._answer_seconds += (seconds - self._answer_seconds) * _LAST_COUNTS

    @property
    def reserve_seconds(self) -> float:
        """The longest that any call can take; each permit is held for so long until its answer is reported."""
        return max(self._read_timeout, self._write_timeout) + _CONNECT_SECONDS

    def timeout(self, kind: Kind) -> tuple[float, float]:
        reads = kind in ("list", "locations")
        return _CONNECT_SECONDS, self._read_timeout if reads else self._write_timeout

    def key(self) -> str:
        """The API key, checked to be one that can stand in a header. Raises `Unauthorized` when it cannot be had."""
        try:
            key = self._key()
        except OkasieError as error:
            raise Unauthorized(error.message, where=f"accounts.{self.account}.api_key, {error.where}") from error
        if not key.isascii() or not key.isprintable() or " " in key:
            raise Unauthorized("holds characters that no key has", where=f"accounts.{self.account}.api_key")
        return know(key)


class PermittedCall:
    """One permit and the one request it is for."""

    def __init__(
        self, api: OkasieApi, ticket: str, lane: Lane, *, max_wait_seconds: float, keep_place: bool = True
    ) -> None:
        self._api, self._ticket, self._lane = api, ticket, lane
        self._max_wait_seconds, self._keep_place = max_wait_seconds, keep_place
        self._permit: Permit | None = None
        self._send_by = 0.0
        self._used = False

    def __enter__(self) -> PermittedCall:
        self._api.key()  # a key that cannot be had costs no permit
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
            answer = self._api.limiter.acquire(self._ticket, self._lane, self._api.reserve_seconds)
            if isinstance(answer, Permit):
                if answer.after_seconds:
                    time.sleep(answer.after_seconds)
                return answer
            self._api.record_wait()
            if time.monotonic() + answer.seconds > give_up:
                if not self._keep_place:
                    self._api.limiter.drop(self._ticket)
                raise NoPermit(f"no room yet ({answer.reason})", seconds=answer.seconds, where=self._api.account)
            time.sleep(answer.seconds)

    # -- the calls -------------------------------------------------------------------------------------------------

    def list_page(self, page: int, *, updated_since: datetime | None = None) -> Page:
        """``GET /listings``, all states, 200 rows a page."""
        query = {"page": str(page), "pageSize": str(PAGE_SIZE), "status": "all"}
        if updated_since is not None:
            query["updatedSince"] = updated_since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        since = f" since {query['updatedSince']}" if updated_since else ""
        attempt = self._send("list", "GET", f"/listings?{urlencode(query)}", f"GET /listings page {page}{since}")
        return attempt.read(answers.read_page, page=page)

    def bulk_upsert(self, items: Sequence[tuple[str, bytes]]) -> WriteAnswer:
        """``POST /listings/bulk-upsert`` with 1 to 100 ``(reference, JSON of the item)``, each reference once."""
        references = [reference for reference, _ in items]
        if not 1 <= len(items) <= 100 or len(set(references)) != len(items):
            raise ValueError("a bulk call takes 1 to 100 items, each reference once")
        body = b'{"items":[' + b",".join(item for _, item in items) + b"]}"
        where = f"POST /listings/bulk-upsert, {len(items)} items from {references[0]}"
        attempt = self._send("bulk", "POST", "/listings/bulk-upsert", where, body=body, items=len(items))
        return attempt.read(answers.read_bulk, references)

    def put(self, reference: str, body: bytes) -> WriteAnswer:
        """``PUT /listings/{externalReference}``."""
        attempt = self._send("put", "PUT", _path(reference), f"PUT /listings/{reference}", body=body, items=1)
        return attempt.read(answers.read_single, reference)

    def delete(self, reference: str) -> WriteAnswer:
        """``DELETE /listings/{externalReference}``: marks it sold; on a sold one the same answer comes back."""
        attempt = self._send("delete", "DELETE", _path(reference), f"DELETE /listings/{reference}", items=1)
        return attempt.read(answers.read_single, reference)

    def set_status(self, reference: str, status: str) -> WriteAnswer:
        """``POST /listings/{externalReference}/status``."""
        body = msgspec.json.encode({"status": status})
        where = f"POST /listings/{reference}/status"
        attempt = self._send("status", "POST", f"{_path(reference)}/status", where, body=body, items=1)
        return attempt.read(answers.read_single, reference)

    def locations(self) -> tuple[Location, ...]:
        """``GET /locations``."""
        attempt = self._send("locations", "GET", "/locations", "GET /locations")
        return attempt.read(_locations)

    # -- one request -----------------------------------------------------------------------------------------------

    def _send(
        self, kind: Kind, method: str, path: str, where: str, *, body: bytes | None = None, items: int = 0
    ) -> _Attempt:
        if self._permit is None or self._used:
            raise RuntimeError("a permit is for exactly one request")
        if time.monotonic() > self._send_by:
            raise NoPermit(_STALE, seconds=0.05, where=self._api.account)
        request_id = uuid4().hex
        headers = {
            "Authorization": f"Bearer {self._api.key()}",
            "X-Request-Id": request_id,
            "Accept": "application/json",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        asked, where = where, f"{where} (request {request_id})"
        self._used = True
        seen = Feedback(status=0)
        started = time.monotonic()
        try:
            with in_time():
                status, answered, raw = self._exchange(kind, method, self._api.base_url + path, headers, body)
            self._api.record_latency(time.monotonic() - started)
            # Straight to what is compared, where the page allows it.
            decoded = (decode_rows(raw) if kind == "list" and status == 200 else None) or _decode(raw)
            seen = answers.feedback(status, answered, decoded)
        except requests.RequestException as error:
            if was_late():
                raise NoPermit(_STALE, seconds=0.05, where=where) from None
            connected = not (isinstance(error, _UNCOUNTED) or _never_connected(error))
            seen = Feedback(status=0 if connected else -1)
            lost = Unavailable(_plain(error, self._api.timeout(kind)), seconds=0, where=where)
            lost.in_doubt = connected
            raise lost from None
        finally:
            self._api.limiter.report(self._permit, seen)
            if self._api.on_request is not None:
                self._api.on_request(
                    RequestLog(
                        account=self._api.account,
                        lane=self._lane,
                        kind=kind,
                        method=method,
                        status=max(seen.status, 0),
                        seconds=time.monotonic() - started,
                        request_id=request_id,
                        items=items,
                        waited_seconds=self._permit.waited_seconds,
                        where=asked,
                    )
                )
        told = answered.get("X-Request-Id", "")
        if told.isascii() and told.isprintable() and told not in ("", request_id) and len(told) <= 80:
            where = where.removesuffix(")") + f", theirs {told})"
        return _Attempt(
            account=self._api.account,
            kind=kind,
            status=status,
            headers=answered,
            body=decoded,
            where=where,
            request_id=request_id,
            seen=seen,
        )

    def _exchange(
        self, kind: Kind, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        with self._connection.send(method, url, headers, body, timeout=self._api.timeout(kind)) as answer:
            # The read time-out of requests is per socket read: a body that trickles must not outlive its permit.
            ends_at = time.monotonic() + self._api.timeout(kind)[1]
            parts = bytearray()
            for part in answer.iter_content(_BODY_BYTES):
                parts += part
                if len(parts) > _LARGEST_BODY:
                    raise requests.exceptions.ContentDecodingError("the answer is larger than 64 MB")
                if time.monotonic() > ends_at:
                    raise requests.ReadTimeout
            return answer.status_code, answer.headers, bytes(parts)


class _Attempt:
    """An answer, mapped to our errors once."""

    def __init__(
        self,
        *,
        account: str,
        kind: Kind,
        status: int,
        headers: Mapping[str, str],
        body: object,
        where: str,
        request_id: str,
        seen: Feedback,
    ) -> None:
        self._account, self._kind, self._status, self._headers, self._body = account, kind, status, headers, body
        self._where, self._request_id, self._seen = where, request_id, seen

    def read(self, reader: Callable[..., T], *args: Any, **more: Any) -> T:
        """The answer through ``reader``, or the error that it stands for."""
        has_items = self._kind == "bulk" and 400 <= self._status < 500 and isinstance(_data(self._body), dict)
        if not 200 <= self._status < 300 and not has_items:
            self._fail()
        try:
            moment = answers.server_time(self._headers)
            return reader(self._body, *args, moment=moment, request_id=self._request_id, **more)
        except answers.Unreadable as error:
            shown = "the answer is not JSON" if self._body is _NOT_JSON else f"the answer is unreadable: {error}"
            raise Unavailable(
                f"{shown} (HTTP {self._status})", seconds=0, where=self._where, code="unreadable"
            ) from None

    def _fail(self) -> NoReturn:
        status, error = self._status, answers.error_of(self._body)
        code = self._clean(answers.text(error.get("code")))
        said = self._clean(answers.text(error.get("message")))
        message = f"HTTP {status}" + (f" {code}" if code else "") + (f": {said}" if said else "")
        if status == 429:
            raise RateLimited(message, seconds=self._seen.retry_after or 60.0, where=self._where)
        if status == 401:
            rejected = f"the marketplace rejected the API key of account {self._account}"
            raise Unauthorized(f"{message}; {rejected}", where=self._where)
        if status == 403 and (code in _SCOPE_CODES or "scope" in (said or "").casefold()):
            raise Unauthorized(f"{message}; the API key lacks a scope", where=self._where, code="scope")
        if status >= 500 or status == 408 or 300 <= status < 400 or status < 200:
            raise Unavailable(message, seconds=0, where=self._where)
        raise ItemRejected(
            message,
            where=self._where,
            code=code or f"http_{status}",
            status=status,
            request_id=self._request_id,
            issues=tuple((self._clean(f) or "", self._clean(m) or "") for f, m in answers.issues_of(error)),
        )

    @staticmethod
    def _clean(text: str | None) -> str | None:
        """A server may echo what it was sent; the key never goes further than this."""
        return mask(text) if text else text


_NOT_JSON: Final = object()


def _decode(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NOT_JSON


def _data(body: object) -> object:
    return body.get("data") if isinstance(body, dict) else None


def _locations(body: object, *, moment: object, request_id: str) -> tuple[Location, ...]:  # noqa: ARG001 - a reader
    return answers.read_locations(body)


def _path(reference: str) -> str:
    """The reference percent-encoded: it may hold what would change the path (API docs, guides/incremental-sync).

    Raises `ItemRejected` for ``.`` and ``..``: every client and proxy takes these out of a path, encoded or not.
    """
    if reference in ("", ".", ".."):
        raise ItemRejected("cannot be named in a path", where=f"reference {reference!r}", code="invalid_reference")
    return f"/listings/{quote(reference, safe='')}"


def _never_connected(error: requests.RequestException) -> bool:
    """Whether the error came before any byte of the request: refused, or no such host."""
    cause: BaseException | None = error
    names: list[str] = []
    while cause is not None and len(names) < 10:
        names.append(type(cause).__name__)
        reason = getattr(cause, "reason", None)
        inner = cause.args[0] if cause.args else None
        cause = next((c for c in (cause.__cause__, reason, inner) if isinstance(c, BaseException)), None)
    return any(name in ("NewConnectionError", "NameResolutionError", "ConnectionRefusedError") for name in names)


def _plain(error: requests.RequestException, timeout: tuple[float, float]) -> str:
    """One line without URLs, addresses or proxies' passwords."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeout[0]:g} s"
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout[1]:g} s"
    if _never_connected(error):
        return "cannot connect"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer broke off"
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return "the answer cannot be unpacked, or is larger than 64 MB"
    return "the connection was lost before the answer came"
