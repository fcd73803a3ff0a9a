"""Sends a push or sell and waits for its outcome: the part of these commands that needs Celery."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from okasie_tasks.actions import requests
from okasie_tasks.cli.common import Context, progress_line
from okasie_tasks.cli.connect import PUBLISH_SECONDS, operator, services_of, warn_of_old_workers, zone_of
from okasie_tasks.cli.fleet_client import GIVE_UP_SECONDS, unattended, wait_for_worker
from okasie_tasks.cli.times import in_text, in_zone
from okasie_tasks.core.pending import Push
from okasie_tasks.errors import ConnectionFailed
from okasie_tasks.reports.runs import pause_hint
from okasie_tasks.urgent.accept import checked_references
from okasie_tasks.worker.settings import URGENT

_POLL_SECONDS: Final = 0.02
_SILENT_SECONDS: Final = 30.0
_PAUSE_CHECK_SECONDS: Final = 1.0


class Waiter:
    """Sends one push and waits for its outcome."""

    def __init__(self, context: Context, account: str) -> None:
        self._services = services_of(context)
        self._ctx = self._services.context(account)
        self._hinted = False
        self._account = account
        self._references: list[str] = []
        self._sent_ms = 0
        self._give_up = 0.0

    def start(self, task: str, references: Sequence[str]) -> str:
        """Store the request, send its message, and return its id once a worker has received it or answers.

        Raises `ConnectionFailed` when no worker is running: the push is withdrawn then.
        """
        self._references = checked_references(list(references), task)
        self._hint()
        warn_of_old_workers(self._services)
        self._sent_ms, sent_at = self._services.runs.now_ms(), time.monotonic()
        send = requests.push if task == "okasie.push" else requests.sell
        push = send(
            self._services, self._account, references=self._references, by=operator(), try_seconds=PUBLISH_SECONDS
        )
        self._give_up = sent_at + GIVE_UP_SECONDS
        if wait_for_worker(lambda: bool(self._push(push).at_ms), URGENT):
            start = "start it with `okasie up` or `celery -A okasie_tasks worker`"
            self._withdraw(push, f"no worker consumes {URGENT}: {start}")
        return push

    def _withdraw(self, push: str, reason: str) -> None:
        """Withdraw the push and raise `ConnectionFailed`, unless a worker has received it at this moment."""
        if self._services.pushes.withdraw(push):
            self._services.outbox.taken(push)
            raise ConnectionFailed(f"{reason}; nothing is sent", where="workers")

    def wait(self, push: str) -> dict[str, Any]:
        """Wait until every reference has an outcome; return the document."""
        waiting_shown, last_change, done_before = False, time.monotonic(), -1
        checked = 0.0
        while True:
            state = self._push(push)
            if not state.at_ms and time.monotonic() > self._give_up:
                self._withdraw(push, f"no worker took the request up within {GIVE_UP_SECONDS:g} s")
            done = {name for name, outcome in state.outcomes.items() if outcome.outcome != "waiting"}
            if state.error or done.issuperset(self._references):
                return self._document(push, state)
            if not waiting_shown and len(state.outcomes) > len(done):
                waiting_shown = True
                one = next(o for o in state.outcomes.values() if o.outcome == "waiting")
                progress_line(f"{one.message}; Ctrl-C stops only the waiting")
            if len(done) != done_before:
                last_change, done_before = time.monotonic(), len(done)
            if not self._hinted and time.monotonic() - checked > _PAUSE_CHECK_SECONDS:
                checked = time.monotonic()
                self._hint()
            if time.monotonic() - last_change > _SILENT_SECONDS:
                if unattended(URGENT):
                    raise ConnectionFailed(
                        "the workers stopped answering; they continue with accepted changes when they are back",
                        where=push,
                    )
                last_change = time.monotonic()
            time.sleep(_POLL_SECONDS)

    def _hint(self) -> None:
        """Print once that the account is paused."""
        if not self._hinted and (hint := pause_hint(self._ctx)):
            self._hinted = True
            with in_zone(zone_of(self._services, self._account)):
                progress_line(in_text(hint))

    def _push(self, push: str) -> Push:
        return self._services.pushes.get(push)

    def _document(self, push: str, state: Push) -> dict[str, Any]:
        links = self._ctx.history.links(self._references)
        rows = [
            {
                "reference": name,
                "outcome": state.outcomes[name].outcome,
                "seconds": max(0.0, (state.outcomes[name].at_ms - self._sent_ms) / 1000),
                "message": state.outcomes[name].message,
                "fields": list(state.outcomes[name].fields),
                "warnings": list(state.outcomes[name].warnings),
                "listing_url": links.get(name),
            }
            for name in self._references
            if name in state.outcomes
        ]
        return {"push": push, "account": self._account, "error": state.error, "listings": rows}
