"""A transactional outbox: the wish to push is a row of the same transaction as the change, so neither is lost alone.

`wish` goes where the change is made; `relay` runs beside the application (a loop, a cron job, a thread). A relay that
dies between sending and marking sends again: pushes of the same content change nothing, so twice is once.
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
    Column("asked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("sent_at", DateTime(timezone=True)),
)


def wish(connection: Connection, account: str, kind: str, *references: str) -> None:
    """Note within the caller's transaction that these are to be pushed or sold. Its rollback takes the wish along."""
    rows = [{"account": account, "kind": kind, "reference": reference} for reference in references]
    connection.execute(insert(outbox), rows)


def relay(connection: Connection, okasie: Client, *, most: int = 1_000) -> int:
    """Hand over what waits, in its order, within the caller's transaction; returns how many rows.

    Raises `NotReachable`: nothing is marked then, and the next call sends all of it. Where the database can lock rows,
    several relays do not get in each other's way.
    """
    waiting = select(outbox).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.id).limit(most)
    rows = connection.execute(waiting.with_for_update(skip_locked=True)).all()
    for (account, kind), references in _batches(rows):
        (okasie.push if kind == "push" else okasie.sell)(account, references)
    sent = [row.id for row in rows]
    connection.execute(update(outbox).where(outbox.c.id.in_(sent)).values(sent_at=func.now()))
    return len(sent)


def _batches(rows: Any) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Neighbours of the same account and kind go together; a sell after a push of the same car stays after it."""
    for key, some in groupby(rows, key=lambda row: (row.account, row.kind)):
        yield key, list(dict.fromkeys(row.reference for row in some))
