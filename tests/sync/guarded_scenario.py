"""`HttpScenario` under the guards: runs that approve or only look, sells by hand, feeds that are broken."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import msgspec

from okasie_tasks.errors import NoPermit
from okasie_tasks.reports.runs import account_document, plan_document, run_document
from okasie_tasks.store.records import Run
from okasie_tasks.urgent import accept
from okasie_tasks.urgent.sender import Sender
from tests.sync.http_scenario import ACCOUNT, SECRET, HttpScenario, Row


class GuardedScenario(HttpScenario):
    """The guards are as they are when nothing is said, save for ``guard``, lines of that table.

    ``account``: more lines of the account's own table; ``more``: tables at the end.
    """

    def __init__(
        self, folder: Path, redis_url: str, *, rows: list[Row], guard: str = "", account: str = "", more: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            folder, redis_url, rows=rows, guarded=True, guard=guard, account=account, more=more, environ=environ
        )
        self._frozen: str | None = None

    def ask(self, mode: str = "incremental", *, approves: str = "", plan_only: bool = False) -> Run:
        """Play a run to its end, with the marketplace's clock as it is."""
        return self.run(mode, step=False, approves=approves, plan_only=plan_only)

    def told(self, mode: str = "incremental", *, approves: str = "") -> dict[str, Any]:
        """Play a run; its document."""
        return run_document(self.ctx.runs, self.ask(mode, approves=approves))

    def look(self, mode: str = "incremental") -> dict[str, Any]:
        """What ``okasie plan`` shows."""
        return plan_document(self.ctx, self.ask(mode, plan_only=True), self.services.limiter(ACCOUNT).status())

    def status(self) -> dict[str, Any]:
        """The account as ``okasie status`` shows it."""
        return account_document(self.ctx, self.services.limiter(ACCOUNT).status())

    def sell(self, reference: str) -> None:
        """What ``okasie sell`` does."""
        accept.accept_sell(self.ctx, uuid4().hex, references=[reference])
        self._send()

    def push(self, row: Row, *, price: int) -> None:
        """What ``okasie.push`` does with a listing that is handed in: this row, at another price."""
        kept, self.rows = self.rows, [row]
        body = {**self.wanted()[row["stock_no"]], "externalReference": row["stock_no"], "price": price}
        self.rows = kept
        accept.accept_push(self.ctx, uuid4().hex, listings=[body])
        self._send()

    def push_reference(self, reference: str) -> None:
        """What ``okasie push`` does."""
        self._write_feed()
        accept.accept_push(self.ctx, uuid4().hex, references=[reference])
        self._send()

    def _send(self) -> None:
        """Send what is queued. As in a worker, a permit that went stale before the request was ready costs one more try."""
        sender = Sender(self.ctx, "sender", rng=Random(0), sleep=lambda _: None)
        for _ in range(10):
            with suppress(NoPermit):
                sender.run()
                return
        sender.run()

    def scope(self, *codes: str) -> None:
        """From now on the key reaches these dealers only; none: all of them again."""
        self._post("scope", {"key": ACCOUNT, "codes": list(codes) or None})

    def faults(self, *rules: dict[str, Any]) -> None:
        self._post("faults", list(rules))

    def lose_scope(self, scope: str) -> None:
        """From now on the key lacks this scope."""
        key = self.sandbox.keys[SECRET]
        left = tuple(name for name in key.scopes if name != scope)
        self.sandbox.keys[SECRET] = msgspec.structs.replace(key, scopes=left)

    def sold(self) -> set[str]:
        return {row["externalReference"] for row in self.stored() if row["status"] == "sold"}

    def of_dealer(self, branch: str) -> list[Row]:
        return [row for row in self.rows if row["branch"] == branch]

    def remove(self, rows: list[Row]) -> set[str]:
        """Take these rows out of the feed; their references."""
        names = {row["stock_no"] for row in rows}
        self.rows[:] = [row for row in self.rows if row["stock_no"] not in names]
        return names

    def feed_text(self) -> str:
        self._write_feed()
        return self._feed.read_text(encoding="utf-8")

    def feed_is(self, text: str | None) -> None:
        """From now on the feed holds this, whatever ``rows`` are; None: it is that of ``rows`` again."""
        self._frozen = text

    def _write_feed(self) -> None:
        super()._write_feed()
        if self._frozen is not None:
            self._feed.write_text(self._frozen, encoding="utf-8")
