"""One response of the marketplace: its body decoded, and mapped to an answer or to the error that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from okasie_tasks.errors import ItemRejected, RateLimited, Unauthorized, Unavailable
from okasie_tasks.marketplace import refusals, responses
from okasie_tasks.masking import mask
from okasie_tasks.ports import Feedback, Kind

T = TypeVar("T")
NOT_JSON: Final = object()
"""A body that is not JSON."""


class Attempt:
    """A response, mapped to the project's errors."""

    def __init__(
        self,
        *,
        account: str,
        verdict: refusals.Verdict,
        status: int,
        headers: Mapping[str, str],
        body: object,
        where: str,
        request_id: str,
        outcome: Feedback,
    ) -> None:
        self._account, self._verdict, self._status, self._headers = account, verdict, status, headers
        self._body, self._where, self._request_id, self._outcome = body, where, request_id, outcome

    def read(self, reader: Callable[..., T], *args: Any, **more: Any) -> T:
        """The response as read by ``reader``. Raises the error that it stands for."""
        if self._verdict != "answer":
            self._fail()
        try:
            moment = responses.server_time(self._headers)
            return reader(self._body, *args, moment=moment, request_id=self._request_id, **more)
        except responses.Unreadable as error:
            shown = "the answer is not JSON" if self._body is NOT_JSON else f"the answer is unreadable: {error}"
            raise Unavailable(
                f"{shown} (HTTP {self._status})", seconds=0, where=self._where, code="unreadable"
            ) from None

    def _fail(self) -> NoReturn:
        status, error = self._status, refusals.error_of(self._body)
        code = self._clean(refusals.text(error.get("code")))
        detail = self._clean(refusals.text(error.get("message")))
        message = f"HTTP {status}" + (f" {code}" if code else "") + (f": {detail}" if detail else "")
        if self._verdict == "rate":
            raise RateLimited(message, seconds=self._outcome.retry_after or 60.0, where=self._where)
        if self._verdict == "key":
            rejected = f"the marketplace rejected the API key of account {self._account}"
            raise Unauthorized(f"{message}; {rejected}", where=self._where)
        if self._verdict == "scope":
            raise Unauthorized(f"{message}; the API key lacks a scope", where=self._where, code="scope")
        if self._verdict == "failed":
            pause = responses.failure_pause(self._headers, self._body)
            failed = Unavailable(message, seconds=pause or 0, where=self._where)
            failed.status, failed.reported_code, failed.request_id = status, code, self._request_id
            raise failed
        raise ItemRejected(
            message,
            where=self._where,
            code=code or f"http_{status}",
            status=status,
            request_id=self._request_id,
            issues=tuple((self._clean(f) or "", self._clean(m) or "") for f, m in refusals.issues_of(error)),
        )

    @staticmethod
    def _clean(text: str | None) -> str | None:
        """The text with secrets masked: a server may echo the key that it was sent."""
        return mask(text) if text else text


def with_their_id(where: str, request_id: str, their_id: str) -> str:
    """``where`` with the id that the marketplace gave the request, if it is printable and differs from the one sent."""
    if not their_id.isascii() or not their_id.isprintable() or their_id in ("", request_id) or len(their_id) > 80:
        return where
    return where.removesuffix(")") + f", theirs {their_id})"


def verdict_of(kind: Kind, status: int, body: object) -> refusals.Verdict:
    """As `refusals.verdict`; a bulk call that was refused with a verdict on each item counts as an answer."""
    if kind == "bulk" and 400 <= status < 500 and isinstance(_data(body), dict):
        return "answer"
    return refusals.verdict(status, body)


def decode(raw: bytes) -> object:
    """The body as JSON, None if there is none, or `NOT_JSON`."""
    if not raw.strip():
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NOT_JSON


def _data(body: object) -> object:
    return body.get("data") if isinstance(body, dict) else None
