"""Reads the marketplace's responses: ignores unknown fields, and is strict about those that this project relies on.

Each function takes decoded JSON and returns a value of `okasie_tasks.ports`, or raises `Unreadable` for an unexpected
shape. Names in parentheses are sections of the API documentation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeGuard

from okasie_tasks.core.remote_rows import KnownRow, RemoteListing, Rows, read_remote, read_time
from okasie_tasks.marketplace.refusals import PERMANENT, error_of, issues_of, lacks_scope, text
from okasie_tasks.ports import Feedback, ItemAnswer, Location, Page, SkippedImage, WriteAnswer

_LONGEST_PAUSE: Final = 900.0
_LONGEST_WINDOW: Final = 3600.0
_DEFAULT_PAUSE: Final = 60.0
"""For a 429 that states no time: the length of the documented window."""
_LONGEST_FAILURE: Final = 300.0
"""The longest ``Retry-After`` of a failure that is followed: as long as the breaker waits at most."""


class Unreadable(Exception):
    """A response that violates the API contract. The message states what was expected."""


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """The ``Date`` header as aware UTC."""
    try:
        return parsedate_to_datetime(headers["Date"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def feedback(status: int, headers: Mapping[str, str], body: object) -> Feedback:
    """What a response states about the quota (rate-limiting)."""
    limit, remaining = _count(headers.get("X-RateLimit-Limit")), _count(headers.get("X-RateLimit-Remaining"))
    reset, now = _count(headers.get("X-RateLimit-Reset")), server_time(headers)
    reset_in = None if reset is None or now is None else reset - now.timestamp()
    return Feedback(
        status=status,
        limit=limit,
        remaining=remaining,
        retry_after=_pause(headers, body) if status == 429 else None,
        # Unix seconds by contract; a value that is not within the next hour means something else.
        reset_in=reset_in if reset_in is not None and 0 < reset_in <= _LONGEST_WINDOW else None,
    )


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() and len(text) <= 12 else None


def _pause(headers: Mapping[str, str], body: object) -> float:
    """Seconds to pause: ``Retry-After``, else ``retryAt``, else ``X-RateLimit-Reset``, else 60 s.

    Times are compared with the server's clock, never with the local one.
    """
    now, reset = server_time(headers), _count(headers.get("X-RateLimit-Reset"))
    seconds = _stated_pause(headers, body)
    if seconds is None and now is not None and reset is not None:
        seconds = reset - now.timestamp()
    return min(max(_DEFAULT_PAUSE if seconds is None else seconds, 1.0), _LONGEST_PAUSE)


def _stated_pause(headers: Mapping[str, str], body: object) -> float | None:
    """Seconds by ``Retry-After`` or ``retryAt``; None if the response states neither."""
    now = server_time(headers)
    after = headers.get("Retry-After", "").strip()
    if after.replace(".", "", 1).isdecimal():
        seconds = float(after)
        return seconds if math.isfinite(seconds) else None
    if now is None:
        return None
    try:
        # An HTTP date is UTC, even with "-0000", which Python parses as a time without a zone.
        stated = parsedate_to_datetime(after).replace(tzinfo=UTC) if after else None
    except ValueError:
        stated = None
    moment = read_time(error_of(body).get("retryAt")) or stated
    return (moment - now).total_seconds() if moment is not None else None


def failure_pause(headers: Mapping[str, str], body: object) -> float | None:
    """Seconds for which a response that is ``failed`` asks to wait, at most `_LONGEST_FAILURE`; None if it does not."""
    seconds = _stated_pause(headers, body)
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_FAILURE)


# -- lists ---------------------------------------------------------------------------------------------------------


def read_page(body: object, *, page: int, moment: datetime | None, request_id: str) -> Page:
    """A page of ``GET /listings``. Rows and totals are required: the proof that a listing is absent rests on them."""
    rows, pagination, meta = _page(body)
    total_items, total_pages = _number(pagination.get("totalItems")), _number(pagination.get("totalPages"))
    if total_items is None or total_pages is None:
        raise Unreadable("expected pagination.totalItems and pagination.totalPages to be counts")
    if "page" in pagination and _number(pagination["page"]) != page:
        raise Unreadable(f"expected page {page}, got page {text(str(pagination.get('page')))}")
    remote = rows if isinstance(body, Rows) else [read_remote(row) for row in rows]
    return Page(
        rows=tuple(row for row in remote if isinstance(row, RemoteListing)),
        known=tuple(row for row in remote if isinstance(row, KnownRow)),
        page=page,
        total_items=total_items,
        total_pages=total_pages,
        server_time=moment,
        request_id=request_id,
        unreadable=sum(row is None for row in remote),
        profile_ids=_profile_ids(meta),
        partner_source=_partner_source(meta),
    )


def _page(body: object) -> tuple[list[Any], dict[str, Any], object]:
    """Rows, pagination and meta of a page's body, decoded either way."""
    if isinstance(body, Rows):
        return body.data, body.pagination, body.meta
    meta = body.get("meta") if isinstance(body, dict) else None
    return _list(body, "data"), _table(body, "pagination"), meta


def _profile_ids(meta: object) -> tuple[str, ...]:
    for name in ("partner", "access", "profileIds"):
        meta = meta.get(name) if isinstance(meta, dict) else None
    return tuple(item for item in meta if isinstance(item, str)) if isinstance(meta, list) else ()


def _partner_source(meta: object) -> str:
    partner = meta.get("partner") if isinstance(meta, dict) else None
    return text(partner.get("source")) or "" if isinstance(partner, dict) else ""


def read_locations(body: object) -> tuple[Location, ...]:
    """``GET /locations``: flat, rows without an ``id`` left out (locations)."""
    return tuple(_location(row) for row in _list(body, "data") if isinstance(row, dict) and text(row.get("id")))


def _location(row: dict[str, Any]) -> Location:
    stats = row.get("stats")
    active = stats.get("activeListings") if isinstance(stats, dict) else None
    return Location(
        id=row["id"],
        location_code=text(row.get("locationCode")),
        active_listings=active if _is_count(active) else None,
    )


# -- writes --------------------------------------------------------------------------------------------------------


def read_bulk(body: object, references: Sequence[str], *, moment: datetime | None, request_id: str) -> WriteAnswer:
    """The response to a bulk call: one `ItemAnswer` per reference sent, in the order sent.

    An entry counts only if ``index`` and ``externalReference`` agree; others are `WriteAnswer.ignored`. An item without
    an entry, or with entries that contradict each other, is ``unknown`` (bulk-upsert: a 200 does not mean that the
    items were accepted).
    """
    data = _table(body, "data")
    if not isinstance(data.get("results"), list) and not isinstance(data.get("errors"), list):
        raise Unreadable("expected data.results or data.errors to be a list")
    by_index: list[list[ItemAnswer]] = [[] for _ in references]
    ignored = 0
    for name, read in (("results", accepted), ("errors", _refused)):
        rows = data.get(name)
        for raw in rows if isinstance(rows, list) else []:
            index = _index(raw, references)
            if index is None:
                ignored += 1
            else:
                by_index[index].append(read(raw, references[index]))
    items = tuple(map(_agreed, references, by_index))
    return WriteAnswer(items=items, request_id=request_id, server_time=moment, ignored=ignored)


def _index(raw: Any, references: Sequence[str]) -> int | None:
    index = raw.get("index") if isinstance(raw, dict) else None
    if not _is_count(index) or index >= len(references):
        return None
    return index if raw.get("externalReference", references[index]) == references[index] else None


def _agreed(reference: str, answers: Sequence[ItemAnswer]) -> ItemAnswer:
    kinds = {(answer.outcome, answer.status, answer.http_status, answer.code) for answer in answers}
    return answers[0] if len(kinds) == 1 else ItemAnswer(reference, "unknown")


def accepted(raw: Mapping[str, Any], reference: str) -> ItemAnswer:
    """An accepted item, with its image warnings in either documented shape (image-handling)."""
    return ItemAnswer(
        reference=reference,
        outcome="accepted",
        status=text(raw.get("status")),
        created=raw.get("created") is True,
        skipped_images=tuple(_skipped(raw)),
    )


def _skipped(raw: Mapping[str, Any]) -> Iterator[SkippedImage]:
    warnings = raw.get("warnings")
    tables = [raw, warnings] if isinstance(warnings, dict) else [raw]
    for table in tables:
        for name, source, reason in (("skippedImages", "source", "reason"), ("failedImages", "url", "error")):
            rows = table.get(name)
            for row in rows if isinstance(rows, list) else []:
                if isinstance(row, dict):
                    yield SkippedImage(text(row.get(source)) or "", text(row.get(reason)) or "unknown")


def _refused(raw: Mapping[str, Any], reference: str) -> ItemAnswer:
    """An item of ``errors``: refused for good with a permanent status, else not settled."""
    code, message, issues = text(raw.get("code")), text(raw.get("message")), issues_of(raw)
    status = raw.get("status")
    status = int(status) if isinstance(status, str) and status.isdecimal() and len(status) == 3 else status
    if not _is_count(status):
        status = 422 if issues or (code or "").startswith(("VALIDATION_", "INVALID_")) else 0
    scope = status == 403 and lacks_scope(code, message)
    return ItemAnswer(
        reference=reference,
        outcome="refused" if status in PERMANENT and not scope else "unknown",
        http_status=status,
        code=code,
        message=message,
        issues=issues,
    )


def read_single(body: object, reference: str, *, moment: datetime | None, request_id: str) -> WriteAnswer:
    """The response to PUT, DELETE or POST status: ``data`` must name the listing that was sent.

    A success without a body (204, for one) is a success.
    """
    data = {} if body is None else _table(body, "data")
    if data.get("externalReference", reference) != reference:
        raise Unreadable(f"expected data.externalReference {reference}")
    return WriteAnswer(items=(accepted(data, reference),), request_id=request_id, server_time=moment)


# -- shapes --------------------------------------------------------------------------------------------------------


def _list(body: object, name: str) -> list[Any]:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, list):
        raise Unreadable(f"expected {name} to be a list, got {_kind(value)}")
    return value


def _table(body: object, name: str) -> dict[str, Any]:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, dict):
        raise Unreadable(f"expected {name} to be an object, got {_kind(value)}")
    return value


def _number(value: object) -> int | None:
    """A count, also as text; None for anything else."""
    return value if _is_count(value) else _count(value) if isinstance(value, str) else None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "nothing", bool: "a boolean"}
    return names.get(type(value), "a number")
