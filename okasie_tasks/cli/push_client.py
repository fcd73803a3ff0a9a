"""Sending a push and waiting for what becomes of it. What of these commands needs Celery."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from kombu.exceptions import OperationalError

from okasie_tasks.celery import app
from okasie_tasks.cli.common import Context, say
from okasie_tasks.cli.fleet_client import consumers, services_of
from okasie_tasks.core.pending import Push
from okasie_tasks.errors import ConnectionFailed
from okasie_tasks.reports.runs import pause_hint
from okasie_tasks.tasks.run_events import push_label
from okasie_tasks.urgent.accept import checked_references
from okasie_tasks.worker.settings import URGENT

_POLL_SECONDS: Final = 0.02
_PICKED_UP_SECONDS: Final = 3.0
_SILENT_SECONDS: Final = 30.0
_PAUSE_ASKED_SECONDS: Final = 1.0


class Waiter:
    """One push as its caller sees it."""

    def __init__(self, context: Context, account: str) -> None:
        self._services = services_of(context)
        self._ctx = self._services.context(account)
        self._hinted = False
        self._account = account
        self._references: list[str] = []
        self._sent_ms = 0

    def start(self, task: str, references: Sequence[str]) -> str:
        """Send the message and see it accepted; returns its id. Raises `ConnectionFailed` when no worker is there."""
        self._references = checked_references(list(references), task)
        self._hint()
        push, self._sent_ms = str(uuid4()), self._services.runs.now_ms()
        kwargs = {"account": self._account, "references": self._references}
        try:
            what = task.removeprefix("okasie.")
            told = push_label(self._account, what, self._references)
            app.send_task(task, kwargs=kwargs, task_id=push, expires=3600, argsrepr=told)
        except OperationalError as error:
            raise ConnectionFailed("the broker did not take the message", where="redis") from error
        deadline = time.monotonic() + _PICKED_UP_SECONDS
        while not self._push(push).at_ms and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if not self._push(push).at_ms and URGENT in consumers()[1]:
            self._services.pushes.withdraw(push)
            raise ConnectionFailed(
                f"no worker answers for {URGENT}: start it with `okasie up` or `celery -A okasie_tasks worker`",
                where="workers",
            )
        return push

    def wait(self, push: str) -> dict[str, Any]:
        """Wait until every reference has its outcome; returns the document."""
        waiting_told, last_news, seen = False, time.monotonic(), -1
        asked = 0.0
        while True:
            found = self._push(push)
            done = {name for name, outcome in found.outcomes.items() if outcome.outcome != "waiting"}
            if found.error or done.issuperset(self._references):
                return self._document(push, found)
            if not waiting_told and len(found.outcomes) > len(done):
                waiting_told = True
                one = next(o for o in found.outcomes.values() if o.outcome == "waiting")
                say(f"{one.message}; Ctrl-C ends the waiting only")
            if len(done) != seen:
                last_news, seen = time.monotonic(), len(done)
            if not self._hinted and time.monotonic() - asked > _PAUSE_ASKED_SECONDS:
                asked = time.monotonic()
                self._hint()
            if time.monotonic() - last_news > _SILENT_SECONDS:
                if URGENT in consumers()[1]:
                    raise ConnectionFailed(
                        "the workers stopped answering; what is accepted goes on with them", where=push
                    )
                last_news = time.monotonic()
            time.sleep(_POLL_SECONDS)

    def _hint(self) -> None:
        """Say once that the account is paused."""
        if not self._hinted and (hint := pause_hint(self._ctx)):
            self._hinted = True
            say(hint)

    def _push(self, push: str) -> Push:
        return self._services.pushes.get(push)

    def _document(self, push: str, found: Push) -> dict[str, Any]:
        rows = [
            {
                "reference": name,
                "outcome": found.outcomes[name].outcome,
                "seconds": max(0.0, (found.outcomes[name].at_ms - self._sent_ms) / 1000),
                "message": found.outcomes[name].message,
                "fields": list(found.outcomes[name].fields),
            }
            for name in self._references
            if name in found.outcomes
        ]
        return {"push": push, "account": self._account, "error": found.error, "listings": rows}
