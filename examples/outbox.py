"""A transactional outbox: the push is a row in the transaction of the change, so neither is lost without the other.

Call `enqueue` where the change is made, and run `relay` beside the application (a loop, a cron job, a thread). A relay
that dies between sending and marking sends again, which changes nothing: pushes are idempotent.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import Column, Connection, DateTime, Integer, MetaData, String, Table, func, insert, select, update

from okasie_tasks.client import Client

metadata = MetaData()
outbox = Table(
    "okasie_outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("account", String(64), nullable=False),
    Column("kind", String(4), nullable=False),  # push or sell
    Column("reference", String(64), nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("sent_at", DateTime(timezone=True)),
)


def enqueue(connection: Connection, account: str, kind: str, *references: str) -> None:
    """Enqueue a push or sell of these references within the caller's transaction; a rollback removes it."""
    rows = [{"account": account, "kind": kind, "reference": reference} for reference in references]
    connection.execute(insert(outbox), rows)


def relay(connection: Connection, okasie: Client, *, most: int = 1_000) -> int:
    """Send up to ``most`` unsent rows in order, within the caller's transaction; returns how many.

    Raises `ConnectionFailed`: nothing is marked then, and the next call sends all of them. Several relays may run at
    once where the database can lock rows.
    """
    waiting = select(outbox).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.id).limit(most)
    rows = connection.execute(waiting.with_for_update(skip_locked=True)).all()
    for (account, kind), references in _batches(rows):
        (okasie.push if kind == "push" else okasie.sell)(account, references)
    sent = [row.id for row in rows]
    connection.execute(update(outbox).where(outbox.c.id.in_(sent)).values(sent_at=func.now()))
    return len(sent)


def _batches(rows: Any) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Adjacent rows of one account and kind go together; a sell after a push of the same car stays after it."""
    for key, some in groupby(rows, key=lambda row: (row.account, row.kind)):
        yield key, list(dict.fromkeys(row.reference for row in some))
