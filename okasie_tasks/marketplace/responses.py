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

from okasie_tasks.core.remote_rows import Rows, read_remote, read_time, remote_listing
from okasie_tasks.ports import Feedback, ItemAnswer, Location, Page, SkippedImage, WriteAnswer

_LONGEST_TEXT: Final = 200
_LONGEST_PAUSE: Final = 900.0
_LONGEST_WINDOW: Final = 3600.0
_DEFAULT_PAUSE: Final = 60.0
"""For a 429 that states no time: the length of the documented window."""


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
    now = server_time(headers)
    seconds: float | None = None
    after = headers.get("Retry-After", "").strip()
    if after.replace(".", "", 1).isdecimal():
        seconds = float(after)
    elif now is not None:
        retry_at = read_time(error_of(body).get("retryAt"))
        reset = _count(headers.get("X-RateLimit-Reset"))
        try:
            # An HTTP date is UTC, even with "-0000", which Python parses as a time without a zone.
            moment = retry_at or (parsedate_to_datetime(after).replace(tzinfo=UTC) if after else None)
        except ValueError:
            moment = None
        if moment is not None:
            seconds = (moment - now).total_seconds()
        elif reset is not None:
            seconds = reset - now.timestamp()
    if seconds is None or not math.isfinite(seconds):
        seconds = _DEFAULT_PAUSE
    return min(max(seconds, 1.0), _LONGEST_PAUSE)


# -- errors --------------------------------------------------------------------------------------------------------


def error_of(body: object) -> dict[str, Any]:
    """The ``error`` object of a failure, or an empty one."""
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def text(value: object) -> str | None:
    """``value`` as a short printable text, or None. Texts of a server are quoted, never trusted."""
    if not isinstance(value, str) or not value:
        return None
    clean = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return clean if len(clean) <= _LONGEST_TEXT else clean[: _LONGEST_TEXT - 3] + "..."


def issues_of(error: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """``(field, message)`` pairs of a validation failure (errors)."""
    issues = error.get("issues")
    return tuple(
        (text(issue.get("path")) or "", text(issue.get("message")) or text(issue.get("code")) or "invalid")
        for issue in (issues if isinstance(issues, list) else [])[:20]
        if isinstance(issue, dict)
    )


# -- lists ---------------------------------------------------------------------------------------------------------


def read_page(body: object, *, page: int, moment: datetime | None, request_id: str) -> Page:
    """A page of ``GET /listings``. Rows and totals are required: the proof that a listing is absent rests on them."""
    rows, pagination, meta = _page(body)
    total_items, total_pages = _number(pagination.get("totalItems")), _number(pagination.get("totalPages"))
    if total_items is None or total_pages is None:
        raise Unreadable("expected pagination.totalItems and pagination.totalPages to be counts")
    if "page" in pagination and _number(pagination["page"]) != page:
        raise Unreadable(f"expected page {page}, got page {text(str(pagination.get('page')))}")
    remote = [remote_listing(row) for row in rows] if isinstance(body, Rows) else [read_remote(row) for row in rows]
    return Page(
        rows=tuple(row for row in remote if row is not None),
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

    An item counts only if ``index`` and ``externalReference`` agree. An item in neither array, or in both, is
    ``unknown`` (bulk-upsert: a 200 does not mean that the items were accepted).
    """
    data = _table(body, "data")
    if not isinstance(data.get("results"), list) and not isinstance(data.get("errors"), list):
        raise Unreadable("expected data.results or data.errors to be a list")
    by_index: list[list[ItemAnswer]] = [[] for _ in references]
    for name, read in (("results", accepted), ("errors", _refused)):
        for index, raw in _items(data.get(name), references):
            by_index[index].append(read(raw, references[index]))
    items = tuple(
        answers[0] if len(answers) == 1 else ItemAnswer(reference, "unknown")
        for reference, answers in zip(references, by_index, strict=True)
    )
    return WriteAnswer(items=items, request_id=request_id, server_time=moment)


def _items(rows: object, references: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for raw in rows if isinstance(rows, list) else []:
        index = raw.get("index") if isinstance(raw, dict) else None
        if not _is_count(index) or index >= len(references):
            continue
        if raw.get("externalReference", references[index]) == references[index]:
            yield index, raw


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
    status = raw.get("status")
    return ItemAnswer(
        reference=reference,
        outcome="refused",
        http_status=status if _is_count(status) else 422,
        code=text(raw.get("code")),
        message=text(raw.get("message")),
        issues=issues_of(raw),
    )


def read_single(body: object, reference: str, *, moment: datetime | None, request_id: str) -> WriteAnswer:
    """The response to PUT, DELETE or POST status: ``data`` must name the listing that was sent."""
    data = _table(body, "data")
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
