"""The seams: what the steps in :mod:`okasie_tasks.sync` need from outside, as Protocols.

Adapters implement them against Redis, HTTP and files; memory twins implement them for tests. Times are UTC and
aware; durations are seconds as float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

import msgspec

from okasie_tasks.core.listing import Issue, Listing
from okasie_tasks.core.remote_rows import RemoteListing
from okasie_tasks.core.row_cache import RowCache

Lane = Literal["urgent", "bulk"]
Kind = Literal["list", "bulk", "put", "delete", "status", "locations"]
"""The operations of the API that are used."""


# -- the marketplace ---------------------------------------------------------------------------------------------


class Page(msgspec.Struct, frozen=True):
    """One page of ``GET /listings``. ``unreadable`` counts rows that were not objects or had no usable ``id``."""

    rows: tuple[RemoteListing, ...]
    page: int
    total_items: int
    total_pages: int
    server_time: datetime | None
    """The answer's ``Date`` header; the marketplace's own clock, second precision."""
    request_id: str
    unreadable: int = 0
    profile_ids: tuple[str, ...] = ()
    """``meta.partner.access.profileIds``, empty when the answer does not tell."""
    partner_source: str = ""
    """``meta.partner.source``. Whether our own rows bear it as their provider is not documented."""


class SkippedImage(msgspec.Struct, frozen=True):
    source: str
    reason: str


class ItemAnswer(msgspec.Struct, frozen=True):
    """What became of one item of a write. ``unknown``: the answer named it neither as done nor as refused."""

    reference: str
    outcome: Literal["accepted", "refused", "unknown"]
    status: str | None = None
    """The listing status the marketplace reports (``active`` ...), for accepted items."""
    created: bool = False
    skipped_images: tuple[SkippedImage, ...] = ()
    http_status: int = 0
    """The item's own HTTP-like status when refused."""
    code: str | None = None
    message: str | None = None
    issues: tuple[tuple[str, str], ...] = ()
    """``(field, message)`` pairs of a validation failure."""


class WriteAnswer(msgspec.Struct, frozen=True):
    """The answer to one write request, one `ItemAnswer` per item sent, in the order sent."""

    items: tuple[ItemAnswer, ...]
    request_id: str
    server_time: datetime | None = None


class Location(msgspec.Struct, frozen=True):
    id: str
    location_code: str | None = None
    active_listings: int | None = None


class RequestLog(msgspec.Struct, frozen=True):
    """One attempt, for counters. ``status`` is 0 when no answer came."""

    account: str
    lane: Lane
    kind: Kind
    method: str
    status: int
    seconds: float
    request_id: str
    items: int = 0
    waited_seconds: float = 0.0
    """For its permit, since its ticket first asked; by the limiter's own clock."""
    where: str = ""
    """What was asked for, without its id: ``GET /listings page 3``."""


class Call(Protocol):
    """A permit in hand. Exactly one of the methods may be called, once; each sends exactly one request."""

    def list_page(self, page: int, *, updated_since: datetime | None = None) -> Page: ...
    def bulk_upsert(self, items: Sequence[tuple[str, bytes]]) -> WriteAnswer: ...
    def put(self, reference: str, body: bytes) -> WriteAnswer: ...
    def delete(self, reference: str) -> WriteAnswer: ...
    def set_status(self, reference: str, status: str) -> WriteAnswer: ...
    def locations(self) -> tuple[Location, ...]: ...


class Marketplace(Protocol):
    """The one door: no request without a permit."""

    def permit(
        self, *, ticket: str, lane: Lane = "bulk", wait: bool = True, keep_place: bool = True
    ) -> PermitContext: ...

    def needs_more_workers(self, pace_seconds: float) -> bool:
        """Whether one more at a time could send more, where a request may leave every ``pace_seconds``."""
        ...


class PermitContext(Protocol):
    """Entering waits up to half a second (or not at all), else raises `NoPermit`.

    A ticket keeps its place in the queue then, or gives it up. Leaving without a request gives the permit back.
    """

    def __enter__(self) -> Call: ...
    def __exit__(self, *exc: object) -> None: ...


# -- the limiter -------------------------------------------------------------------------------------------------


class Permit(msgspec.Struct, frozen=True):
    """The right to send one request ``after_seconds`` (at most 20 ms) from now."""

    id: str
    after_seconds: float = 0.0
    waited_seconds: float = 0.0
    """From the first time this ticket asked to the moment it was granted for, by the limiter's own clock."""


class Wait(msgspec.Struct, frozen=True):
    """No room yet: ask again with the same ticket after ``seconds`` (at most 12)."""

    seconds: float
    reason: str


class Feedback(msgspec.Struct, frozen=True):
    """What one answer says about the quota. All times are relative, so that no worker clock is compared."""

    status: int
    """HTTP status; 0 when no answer came although bytes were written; -1 when there never was a connection."""
    limit: int | None = None
    remaining: int | None = None
    retry_after: float | None = None
    reset_in: float | None = None
    """Seconds until the server's window starts anew, by its own clock; for people to read.

    The limiter does not use it. Measured with somebody else on the key at 30 a minute for 20 minutes: to count his
    requests until then, instead of a whole window from the answer, leaves 18 refusals at 19 on a fixed window and
    makes 58 of 23 on a sliding one, whose reset is when one request leaves, not all.
    """


class Limiter(Protocol):
    """One account's share of the quota, shared by all workers."""

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
        """``reserve_seconds``: total time-out of the very call the permit is for."""
        ...

    def report(self, permit: Permit, feedback: Feedback) -> None: ...
    def cancel(self, permit: Permit) -> None: ...
    def drop(self, ticket: str) -> None: ...


# -- the local inventory -------------------------------------------------------------------------------------------


class SourceRow(msgspec.Struct, frozen=True):
    """One row of the local inventory, mapped and validated.

    ``listing`` is None when ``issues`` say why the row is invalid; ``reference`` is None when even that cannot be
    read (then the read is incomplete and sells wait).
    """

    row: int
    """Row number from 1, without the header."""
    reference: str | None
    listing: Listing | None
    issues: tuple[Issue, ...] = ()
    version: int = 0
    """The source's own change time in ms since the epoch, 0 when it has none."""
    where: str = ""
    """``file:line`` or the like, for messages."""
    unterminated: bool = False
    """No line end follows, at the end of the file: its last cell may be cut."""
    raw: bytes = b""
    """Fingerprint of the row as it stands in the source; empty where the source cannot tell."""
    content: bytes = b""
    """The row's content, where it is known from before: ``listing`` is None then although the row is valid."""
    read: Callable[[], SourceRow] | None = None
    """Maps and validates such a row after all."""


class Source(Protocol):
    """The local inventory of one account."""

    sliceable: bool
    """Whether ranges of rows can be read apart and mean the same rows each time. Else it is read in one piece."""

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[SourceRow]:
        """Rows ``start <= index < stop`` (0-based), in the source's order. Streams; memory stays flat.

        Raises `SourceError` when the source cannot be read, or not to its proven end (a half feed, an HTML page,
        bytes that are not of the stated encoding).
        """
        ...

    def version(self) -> str:
        """A token that changes when the content does (size and time of a file, ETag of a feed); "" if unknown."""
        ...

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Just these rows. A file is scanned."""
        ...


@runtime_checkable
class CachingSource(Source, Protocol):
    """A source that need not map and validate again what is the same to the byte."""

    remembers: bool

    def rows(self, start: int = 0, stop: int | None = None, *, known: RowCache | None = None) -> Iterator[SourceRow]:
        """As `Source.rows`; rows that ``known`` holds the content of come unread: see `SourceRow.content`."""
        ...


class Offer(msgspec.Struct, frozen=True):
    """One listing that was edited on the marketplace and whose edit stands: offered to the source.

    ``changes`` are ``(field, ours, theirs)`` of the fields that differ, by their names in the write shape, in compared
    form (see `okasie_tasks.core.fingerprint`); ``theirs`` None: emptied there.
    """

    reference: str
    run: str
    at_ms: int
    """When it was decided, in ms since the epoch. With ``run`` and ``reference`` it tells a repeated offer."""
    changes: tuple[tuple[str, object, object], ...]


class WriteBack(Protocol):
    """The way back into the source of one account."""

    def write_back(self, offers: Sequence[Offer]) -> int:
        """How many were taken. At least once: after a crash the same offer may come again.

        Raises `SourceError` when none of them may count as taken; then all are offered again.
        """
        ...
