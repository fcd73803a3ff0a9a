"""Protocols for what :mod:`okasie_tasks.sync` needs from outside.

Adapters implement them with Redis, HTTP and files; tests implement them in memory. Times are UTC and aware; durations
are seconds as float.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from okasie_tasks.core.listing import Issue, Listing
from okasie_tasks.core.remote_rows import KnownRow, RemoteListing
from okasie_tasks.core.row_cache import RowCache

Lane = Literal["urgent", "bulk"]
Kind = Literal["list", "bulk", "put", "delete", "status", "locations"]
"""The operations of the API that are used."""


# -- the marketplace ---------------------------------------------------------------------------------------------


class Page(msgspec.Struct, frozen=True):
    """One page of ``GET /listings``. ``unreadable`` counts rows that were not objects or had no usable ``id``.

    ``known``: rows that were not decoded, because the caller knows them.
    """

    rows: tuple[RemoteListing, ...]
    page: int
    total_items: int
    total_pages: int
    server_time: datetime | None
    """The response's ``Date`` header, by the marketplace's clock; one-second precision."""
    request_id: str
    unreadable: int = 0
    profile_ids: tuple[str, ...] = ()
    """``meta.partner.access.profileIds``, empty when the response lacks it."""
    partner_source: str = ""
    """``meta.partner.source``. Whether our own rows carry it as their provider is not documented."""
    known: tuple[KnownRow, ...] = ()

    @property
    def count(self) -> int:
        """The number of rows that could be read."""
        return len(self.rows) + len(self.known)


class SkippedImage(msgspec.Struct, frozen=True):
    source: str
    reason: str


class ItemAnswer(msgspec.Struct, frozen=True):
    """The outcome of one item of a write.

    ``refused``: for good. ``unknown``: the response does not settle it. It does not name the item, contradicts itself,
    or refuses it with a status that may pass, which is then in ``http_status``.
    """

    reference: str
    outcome: Literal["accepted", "refused", "unknown"]
    status: str | None = None
    """The listing status the marketplace reports (``active`` ...), for accepted items."""
    created: bool = False
    skipped_images: tuple[SkippedImage, ...] = ()
    http_status: int = 0
    """The item's own HTTP-like status when refused, 0 if it has none."""
    code: str | None = None
    message: str | None = None
    issues: tuple[tuple[str, str], ...] = ()
    """``(field, message)`` pairs of a validation failure."""


class WriteAnswer(msgspec.Struct, frozen=True):
    """The response to one write request, one `ItemAnswer` per item sent, in the order sent."""

    items: tuple[ItemAnswer, ...]
    request_id: str
    server_time: datetime | None = None
    ignored: int = 0
    """Entries of the response that name no item of the request."""


class Location(msgspec.Struct, frozen=True):
    id: str
    location_code: str | None = None
    active_listings: int | None = None


class RequestLog(msgspec.Struct, frozen=True):
    """One attempt, for counters. ``status`` is 0 when there was no response."""

    account: str
    lane: Lane
    kind: Kind
    method: str
    status: int
    seconds: float
    request_id: str
    items: int = 0
    waited_seconds: float = 0.0
    """The wait for its permit since the ticket's first attempt, by the limiter's clock."""
    where: str = ""
    """The request without its id: ``GET /listings page 3``."""
    failed: bool = False
    """As in `Feedback.failed`."""


class Call(Protocol):
    """One permitted call. Call exactly one of the methods, once; each sends exactly one request."""

    def list_page(self, page: int, *, updated_since: datetime | None = None, known: Collection[bytes] = ()) -> Page: ...
    def bulk_upsert(self, items: Sequence[tuple[str, bytes]]) -> WriteAnswer: ...
    def put(self, reference: str, body: bytes) -> WriteAnswer: ...
    def delete(self, reference: str) -> WriteAnswer: ...
    def set_status(self, reference: str, status: str) -> WriteAnswer: ...
    def locations(self) -> tuple[Location, ...]: ...


class Marketplace(Protocol):
    """The marketplace's API. It sends no request without a permit."""

    def permit(
        self, *, ticket: str, lane: Lane = "bulk", wait: bool = True, keep_place: bool = True
    ) -> PermitContext: ...

    def needs_more_workers(self, pace_seconds: float) -> bool:
        """Return whether another worker would raise throughput, if one request may be sent every ``pace_seconds``."""
        ...


class PermitContext(Protocol):
    """Entering waits up to half a second, or not at all, and raises `NoPermit` if no permit is granted.

    The ticket then keeps its place in the queue, or gives it up. Leaving without a request returns the permit.
    """

    def __enter__(self) -> Call: ...
    def __exit__(self, *exc: object) -> None: ...


# -- the limiter -------------------------------------------------------------------------------------------------


class Permit(msgspec.Struct, frozen=True):
    """The right to send one request ``after_seconds`` (at most 20 ms) from now."""

    id: str
    after_seconds: float = 0.0
    waited_seconds: float = 0.0
    """From the ticket's first attempt to the moment it was granted for, by the limiter's clock."""


class Wait(msgspec.Struct, frozen=True):
    """No permit yet: retry with the same ticket after ``seconds`` (at most 12)."""

    seconds: float
    reason: str


class Feedback(msgspec.Struct, frozen=True):
    """What one response shows about the quota. All times are relative, so that no worker clock is compared."""

    status: int
    """HTTP status; 0 when bytes were written but no response came; -1 when there was no connection."""
    limit: int | None = None
    remaining: int | None = None
    retry_after: float | None = None
    reset_in: float | None = None
    """Seconds until the server's window restarts, by its clock; only shown to operators.

    The limiter does not use it. Measured with another client on the key at 30 requests a minute for 20 minutes:
    counting that client's requests until the reset, not for a whole window, changed 18 refusals to 19 with a fixed
    window, and 23 to 58 with a sliding one. A sliding window's reset is when one request leaves it, not all.
    """
    failed: bool = False
    """The response says nothing about the request's data: a proxy's page, a conflict, an outage. Counts as a 5xx."""


class Limiter(Protocol):
    """One account's share of the quota, shared by all workers."""

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:
        """``reserve_seconds``: total time-out of the call that the permit is for."""
        ...

    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None:
        """Report the response. ``request``: to be counted with it."""
        ...

    def cancel(self, permit: Permit) -> None: ...
    def drop(self, ticket: str) -> None: ...


# -- the local inventory -------------------------------------------------------------------------------------------


class SourceRow(msgspec.Struct, frozen=True):
    """One row of the local inventory, mapped and validated.

    ``listing`` is None for an invalid row, whose ``issues`` give the reasons. ``reference`` is None if it is
    unreadable; then the read is incomplete and sells wait. A row that is ``left_out`` is no row of the inventory; its
    ``reference`` is "", which no listing has.
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
    warnings: tuple[Issue, ...] = ()
    """What was left out of the listing or cut, though the row is valid."""
    unterminated: bool = False
    """The file ends without a newline after this row, so its last cell may be truncated."""
    raw: bytes = b""
    """Fingerprint of the raw row; empty if the source cannot compute one."""
    content: bytes = b""
    """Fingerprint of the row's content, if cached; ``listing`` is then None although the row is valid."""
    read: Callable[[], SourceRow] | None = None
    """Maps and validates a row that was taken from the cache."""
    left_out: Literal["", "blank", "skipped"] = ""
    """Why the row does not count: all its cells are empty, or ``[accounts.NAME.source.skip]`` names it."""
    found: str = ""
    """What stands where a reference that cannot be read should be."""
    values: Mapping[str, object] = {}
    """Of an invalid row: what could be read, by field."""


class Block(msgspec.Struct, frozen=True, array_like=True):
    """Some records of a source that follow each other, read but not decoded: at most 5,000, or about 4 MB."""

    first: int
    """Index of the first record, from 0."""
    rows: int
    """The records that count as rows; blank ones do not."""
    line: int
    """Lines of the file before ``data``, where the format has lines; else 0."""
    data: bytes
    """The records as their format encodes them."""
    head: bytes = b""
    """What all blocks of the source share: its columns, if it states them once."""
    open_end: bool = False
    """The file ends without a line end after this block."""
    name: str = ""
    """The feed in messages."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One record of a format without lines. ``error``: why it could not be read; it becomes a row with an issue."""

    where: str
    """Its place, for messages: ``stock.xml:vehicles/vehicle[12]``."""
    value: Any
    """Column or member -> value, or a `Listing`."""
    error: str = ""


class Source(Protocol):
    """The local inventory of one account. A run reads its blocks once; any process decodes them."""

    def blocks(self) -> Iterator[Block]:
        """Read the source once, and yield its rows as blocks in the source's order. Streams, in constant memory.

        Raises `SourceError` when the source cannot be read, or not to its proven end (a half feed, an HTML page,
        bytes that are not of the stated encoding).
        """
        ...

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Yield the rows of a block, mapped and validated. The source itself is not read.

        ``known``: rows that it takes are left out, and those whose content it holds are not mapped again, see
        `SourceRow.content`.
        ``only``: of rows with other references, only the reference is read.
        """
        ...

    def rows(self) -> Iterator[SourceRow]:
        """Read and decode all rows in this process."""
        ...

    def version(self) -> str:
        """A token that changes when the content does (size and time of a file, ETag of a feed); "" if unknown."""
        ...

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Return only these rows, and those whose reference cannot be read: the source is scanned."""
        ...


@runtime_checkable
class SettlingSource(Source, Protocol):
    """A source that others write, perhaps while it is read."""

    settle_seconds: float
    """For how long the content must have been unchanged to count as complete."""

    def settles_in(self, before: str) -> float:
        """Return in how many seconds the content of `version` will have been unchanged for `settle_seconds`.

        0: it is, or it was renamed into place after ``before``, the version that was read last ("" for none).
        """
        ...


class Offer(msgspec.Struct, frozen=True):
    """A listing whose edit on the marketplace is kept; it is offered to the source.

    ``changes`` are ``(field, ours, theirs)`` of the fields that differ, by their names in the write shape, in compared
    form (see `okasie_tasks.core.fingerprint`); ``theirs`` None: emptied there.
    """

    reference: str
    run: str
    at_ms: int
    """When it was decided, in ms since the epoch. With ``run`` and ``reference`` it identifies a repeated offer."""
    changes: tuple[tuple[str, object, object], ...]


class WriteBack(Protocol):
    """The way back into the source of one account."""

    def write_back(self, offers: Sequence[Offer]) -> int:
        """Write the offers; returns how many were accepted. After a crash the same offer may come again.

        Raises `SourceError` when none of them counts as accepted; then all are offered again.
        """
        ...
