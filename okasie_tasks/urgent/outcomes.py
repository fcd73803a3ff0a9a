"""Records what became of an account's pending changes: sent, to be tried again, refused or given up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import msgspec

from okasie_tasks.core.ledger_entry import Entry, Flag, answered_status
from okasie_tasks.core.pending import PendingChange, PushOutcome, pushed
from okasie_tasks.core.records import Outgoing
from okasie_tasks.errors import ItemRejected, RunAborted, Unavailable
from okasie_tasks.logs import get_logger
from okasie_tasks.ports import ItemAnswer
from okasie_tasks.sync import audit, rejects, skipped_images
from okasie_tasks.sync.context import ATTEMPTS, AccountContext

log = get_logger(__name__)

DOUBT_SECONDS: Final = 5.5
"""After a request without an answer its listings stay closed for 5 s (see `okasie_tasks.store.write_locks`)."""
LONGEST_WAIT_SECONDS: Final = 60.0
_GIVE_UP_SECONDS: Final = 3600.0

QueuedChange = tuple[bytes, PendingChange]
"""A pending change and its bytes as the urgent queue stored them."""


class Outcomes:
    """The outcomes of one account's changes, in the ledger, the urgent queue, the history and for the callers.

    ``rng`` spreads retries.
    """

    def __init__(self, ctx: AccountContext, rng: Random) -> None:
        self._ctx, self._rng = ctx, rng

    def settle(
        self, accepted: list[tuple[QueuedChange, Outgoing, ItemAnswer]], base: dict[str, Entry], request_id: str
    ) -> None:
        """Record pushes that the marketplace accepted."""
        now_ms = self._now_ms()
        by_reference = {pair[1].reference: (pair, item, answer) for pair, item, answer in accepted}
        lacking: set[str] = set()
        for inline in (True, False):
            taken = [(item.reference, item.content, a) for pair, item, a in accepted if pair[1].inline is inline]
            known = self._ctx.ledger.skipped([reference for reference, _, _ in taken])
            lacking |= skipped_images.record(self._ctx, taken, known=known, now=now_ms // 1000, again=not inline)

        def entry(reference: str, known: Entry | None) -> Entry:
            pair, item, answer = by_reference[reference]
            status = answered_status(answer.status, pair[1].status)
            settled = pushed(pair[1], item, known, status=status, now_ms=now_ms)
            return settled.replace(set_flags=Flag.IMAGES) if reference in lacking else settled

        by_row = {pair[1].reference: pair[1].asked_ms for pair, _, _ in accepted if not pair[1].inline}
        self._ctx.urgent_queue.note_pushed(by_row, now_ms)
        self.write(list(by_reference), base, entry)
        if accepted:
            self._ctx.runs.note_accepted(self._ctx.policy.account, now_ms)
        self._ctx.ledger.remove_rejects(list(by_reference))
        audit.record_pushed(self._ctx, accepted, base, request_id=request_id, now_ms=now_ms)
        changes = (pair[1] for pair, _, _ in accepted)
        warned = [audit.Warned(change.reference, ours=change.warnings) for change in changes if change.warnings]
        audit.record_warnings(self._ctx, warned, run="")
        self.finish([
            (pair, "created" if answer.created else "updated", audit.skipped_images(answer))
            for pair, _, answer in accepted
        ])  # fmt: skip

    def write(
        self, references: Sequence[str], base: dict[str, Entry], entry: Callable[[str, Entry | None], Entry]
    ) -> None:
        """Write the ledger's entries. What was sent also stands over an entry that a comparison has changed since."""
        remaining = list(references)
        while remaining:
            remaining = self._ctx.ledger.swap((name, base.get(name), entry(name, base.get(name))) for name in remaining)
            base = self._ctx.ledger.get(remaining)

    # -- what did not work -----------------------------------------------------------------------------------------

    def again(self, batch: list[QueuedChange], error: Unavailable, base: dict[str, Entry]) -> None:
        """Keep the changes for another try, with growing waits; give them up after an hour.

        A push that failed alone at its last try while other upserts were accepted is rejected.
        """
        now_ms, since_ms = self._now_ms(), self._ctx.runs.controls.resumed_ms(self._ctx.policy.account)
        for raw, change in batch:
            tries, failed_ms = change.tries + 1, change.failed_ms or now_ms
            if len(batch) == 1 and tries >= ATTEMPTS and self._is_culprit(change, error):
                answer = rejects.persistent(rejects.failure_of(change.reference, error))
                self.rejected((raw, change), change.item, answer, error.request_id, base)
                continue
            if _is_old(failed_ms, since_ms, now_ms):
                self.finish([((raw, change), "failed", error.message)])
                continue
            wait = max(error.seconds, min(LONGEST_WAIT_SECONDS, 2.0**tries) * self._rng.uniform(0.8, 1.2))
            wait = max(wait, DOUBT_SECONDS) if error.in_doubt else wait
            not_before_ms = now_ms + int(wait * 1000)
            later = msgspec.structs.replace(change, tries=tries, not_before_ms=not_before_ms, failed_ms=failed_ms)
            self._ctx.urgent_queue.swap([(raw, later)])
            if tries >= ATTEMPTS:
                self._report([(change, "waiting", f"{error.message}; it is tried again")])

    def _is_culprit(self, change: PendingChange, error: Unavailable) -> bool:
        """Whether a push failed because of its content: other upserts have been accepted since it first failed."""
        if change.kind == "sell" or not change.failed_ms or not rejects.may_be_data(error.status):
            return False
        return self._ctx.runs.accepted_since(self._ctx.policy.account, change.failed_ms)

    def refused_key(self, batch: list[QueuedChange], error: RunAborted) -> None:
        """Keep the changes until the key works again; give them up after an hour."""
        log.error("the marketplace rejected the API key", account=self._ctx.policy.account, reason=str(error))
        self._ctx.runs.note_refused_key(self._ctx.policy.account, str(error))
        now_ms, since_ms = self._now_ms(), self._ctx.runs.controls.resumed_ms(self._ctx.policy.account)
        for raw, change in batch:
            failed_ms, not_before_ms = change.failed_ms or now_ms, now_ms + int(LONGEST_WAIT_SECONDS * 1000)
            later = msgspec.structs.replace(change, not_before_ms=not_before_ms, failed_ms=failed_ms)
            if _is_old(failed_ms, since_ms, now_ms):
                self.finish([((raw, change), "failed", str(error))])
            else:
                self._ctx.urgent_queue.swap([(raw, later)])
                self._report([(change, "failed", str(error))])

    def refused_whole(
        self, batch: list[QueuedChange], items: list[Outgoing], refused: ItemRejected, base: dict[str, Entry]
    ) -> None:
        """Send each listing of a call that was refused as a whole alone, to find the culprit."""
        if len(batch) == 1:
            answer = rejects.answer_of(items[0].reference, refused)
            self.rejected(batch[0], items[0], answer, refused.request_id, base)
            return
        self._ctx.urgent_queue.swap((raw, msgspec.structs.replace(change, tries=ATTEMPTS - 1)) for raw, change in batch)

    def rejected(
        self,
        pair: QueuedChange,
        item: Outgoing | None,
        answer: ItemAnswer,
        request_id: str | None,
        base: dict[str, Entry],
    ) -> None:
        """Record that the marketplace refused one change."""
        change = pair[1]
        where = f"okasie.{change.kind}, {change.reference}"
        run = "" if change.inline or item is None else rejects.PUSHED_ROW
        now = self._now_ms() // 1000
        reject = rejects.reject_of(answer, item, where=where, run=run, request_id=request_id, now=now)
        rejects.record(self._ctx, [reject], base, by=change.by)
        self.finish([(pair, "rejected", reject.message)], tuple(reject.fields))

    # -- outcomes --------------------------------------------------------------------------------------------------

    def finish(self, done: list[tuple[QueuedChange, str, str | None]], fields: tuple[str, ...] = ()) -> None:
        """Report outcomes and remove the changes. One that has been replaced stays, and is reported again later."""
        self._report([(change, outcome, message) for (_, change), outcome, message in done], fields)
        failed = [(change, message or "") for (_, change), outcome, message in done if outcome == "failed"]
        if failed:
            audit.record_given_up(self._ctx, failed, now_ms=self._now_ms())
        self._ctx.urgent_queue.take(pair for pair, _, _ in done)

    def _report(self, news: list[tuple[PendingChange, str, str | None]], fields: tuple[str, ...] = ()) -> None:
        now_ms = self._now_ms()
        outcomes: dict[str, dict[str, PushOutcome]] = defaultdict(dict)
        for change, name, message in news:
            outcome = PushOutcome(outcome=name, at_ms=now_ms, message=message, fields=fields, warnings=change.warnings)
            for push in change.waiters:
                outcomes[push][change.reference] = outcome
        self._ctx.pushes.record(outcomes)

    def _now_ms(self) -> int:
        return self._ctx.runs.now_ms()


def _is_old(failed_ms: int, resumed_ms: int, now_ms: int) -> bool:
    """Whether a change has failed for long enough. The time that its account was paused does not count.

    ``failed_ms``: when it first failed. The time before, in which no worker may have run, does not count either.
    """
    return now_ms - max(failed_ms, resumed_ms) > _GIVE_UP_SECONDS * 1000
