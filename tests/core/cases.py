"""What `decide` is asked about, built in a line: rows of the source, of the marketplace and of the ledger."""

from __future__ import annotations

from typing import Any

import msgspec

from okasie_tasks.core.fingerprint import compared, compared_fingerprint, content_fingerprint, encode_compared
from okasie_tasks.core.ledger_entry import Entry, Flag, answer_mark
from okasie_tasks.core.listing import Issue, Listing
from okasie_tasks.core.reconcile import ReadEvidence
from okasie_tasks.core.records import Local, Remote
from okasie_tasks.core.validate import parse_listing

DEALER, OTHER = b"dea1", b"dea2"
FULL = ReadEvidence(full=True, walk_complete=True, source_complete=True)
LATER = msgspec.structs.replace(FULL, began_ms=1_000, source_began_ms=2_000)
"""A run that began to read the marketplace at 1,000 ms and the source at 2,000 ms."""
OURS = Flag.OWNED | Flag.IN_SOURCE


def listing(**changes: Any) -> Listing:
    raw = {
        "externalReference": "A-1", "status": "active", "title": "Skoda Octavia", "price": 17450, "mileage": 88200,
        "powerKw": 85, "dealerLocationCode": "GENT", "postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen",
    }  # fmt: skip
    return parse_listing(raw | changes, current_year=2026).listing


def local(with_values: bool = False, version: int = 0, **changes: Any) -> Local:
    car = listing(**changes)
    return Local(
        reference="A-1", row=1, content=content_fingerprint(car), rendering=compared_fingerprint(compared(car)),
        dealer=DEALER, status=car.status, version=version, values=encode_compared(compared(car)) if with_values else None,
    )  # fmt: skip


def remote(
    with_values: bool = False, dealer: bytes = DEALER, changed_at: int = 100, images: int = 0, **changes: Any
) -> Remote:
    car = listing(**changes)
    return Remote(
        id="id-1", reference="A-1", status=car.status, changed_at=changed_at, dealer_code=dealer, images=images,
        rendering=compared_fingerprint(compared(car)), values=encode_compared(compared(car)) if with_values else None,
    )  # fmt: skip


def base(
    flags: Flag = OURS, row: Listing | None = None, version: int = 0, missed: int = 0, seen: int = 0, sent: int = 0,
    **changes: Any,
) -> Entry:  # fmt: skip
    car = listing(**changes)
    return Entry(
        content=content_fingerprint(car), row=content_fingerprint(row or car), dealer=DEALER, status=car.status,
        rendering=compared_fingerprint(compared(car)), flags=flags, version=version, missed=missed,
        seen_ms=seen, sent_ms=sent,
    )  # fmt: skip


def resent(answered: Remote) -> Entry:
    """Ours was sent again, against this row of theirs, and the echo was not read yet."""
    mark = answer_mark(answered.rendering)
    return base(OURS | Flag.ECHO_DUE | Flag.RESENT).replace(changed_at=mark)


INLINE_CONTENT = OURS | Flag.URGENT | Flag.INLINE_CONTENT

INVALID = Local(reference="A-1", row=1, issues=(Issue("price", "not_a_number", "expected a number, got 'N/A'"),))
