"""SQLAlchemy: push each car that a session changed, once, after the commit; a rollback sends nothing."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from okasie_tasks.client import Client
from okasie_tasks.errors import ConnectionFailed

log = logging.getLogger(__name__)
_CHANGED, _GONE = "okasie_changed", "okasie_gone"


def connect(sessions: Any, model: type[Any], okasie: Client, account: str) -> None:
    """Push the rows of ``model`` that sessions of ``sessions`` (a ``sessionmaker``) change, and sell those they delete.

    Pushes are by ``reference``: the account's source must read the same database.
    """

    @event.listens_for(sessions, "after_flush")
    def flushed(session: Session, _: Any) -> None:
        changed, gone = session.info.setdefault(_CHANGED, set()), session.info.setdefault(_GONE, set())
        changed.update(row.reference for row in (*session.new, *session.dirty) if isinstance(row, model))
        gone.update(row.reference for row in session.deleted if isinstance(row, model))

    @event.listens_for(sessions, "after_commit")
    def committed(session: Session) -> None:
        gone = session.info.pop(_GONE, set())
        changed = session.info.pop(_CHANGED, set()) - gone
        for call, references in ((okasie.push, changed), (okasie.sell, gone)):
            if references:
                _send(call, account, sorted(references))

    @event.listens_for(sessions, "after_rollback")
    def rolled_back(session: Session) -> None:
        session.info.pop(_CHANGED, None)
        session.info.pop(_GONE, None)


def _send(call: Any, account: str, references: list[str]) -> None:
    try:
        for start in range(0, len(references), 1_000):
            call(account, references[start : start + 1_000])
    except ConnectionFailed:
        log.warning("changes of account %s were not enqueued; its next run finds them", account)
