"""Sends an account's pending changes with as few requests as possible.

One caller at a time is the account's sender. It waits up to 250 ms for changes that arrive together, takes a permit,
and then reads the urgent queue: one listing is a PUT, several are one bulk call, a sell is a DELETE.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

from okasie_tasks.core.estimates import ITEMS_PER_BULK, pack
from okasie_tasks.core.history import Event
from okasie_tasks.core.ledger_entry import Entry
from okasie_tasks.core.pending import PendingChange, is_superseded, sold
from okasie_tasks.core.records import Outgoing
from okasie_tasks.errors import ItemRejected, ListingLocked, RetryLater, RunAborted, Unavailable
from okasie_tasks.ports import Call, ItemAnswer
from okasie_tasks.store.write_locks import HeldLocks
from okasie_tasks.sync import audit, rejects
from okasie_tasks.sync.context import ATTEMPTS, AccountContext
from okasie_tasks.sync.sells import send_sell
from okasie_tasks.telemetry import tracing
from okasie_tasks.urgent.outcomes import Outcomes, QueuedChange

_QUIET_SECONDS: Final = 0.06
_GATHER_SECONDS: Final = 0.25
_IN_PLACE_SECONDS: Final = 0.5
_REQUESTS_PER_TASK: Final = 10
_LOOK_AT: Final = 2 * ITEMS_PER_BULK


class _NoLongerSender(Exception):
    """Another caller is the account's sender now, or an operator has paused the account. The changes stay queued."""


class Sender:
    """Sends for one account.

    ``token`` identifies this sender, ``rng`` spreads retries, ``sleep`` waits, and ``coming`` counts the messages that
    are still in the urgent queue of the broker.
    """

    def __init__(
        self,
        ctx: AccountContext,
        token: str,
        *,
        rng: Random,
        sleep: Callable[[float], None] = time.sleep,
        coming: Callable[[], int] = lambda: 0,
    ) -> None:
        self._ctx, self._token, self._sleep, self._coming = ctx, token, sleep, coming
        self._outcomes = Outcomes(ctx, rng)
        self._sold_last = False
        self._locks = HeldLocks()
        """Of the request that is being sent. A sender that was suspended for long has lost them."""

    def run(self) -> None:
        """Send what is queued, unless another caller is the sender.

        Raises `RetryLater` with the seconds to wait: there is no permit, a retry is not due yet, or this call has sent
        `_REQUESTS_PER_TASK` requests.
        """
        urgent_queue = self._ctx.urgent_queue
        if not urgent_queue.lead(self._token):
            return
        try:
            self._gather()
            for _ in range(_REQUESTS_PER_TASK):
                if urgent_queue.leave(self._token, if_empty=True):
                    return
                self._send_one()
        except _NoLongerSender:
            urgent_queue.leave(self._token, if_empty=False)
            return
        except BaseException:
            urgent_queue.leave(self._token, if_empty=False)
            raise
        urgent_queue.leave(self._token, if_empty=False)
        if urgent_queue.count():
            raise RetryLater("more is waiting", seconds=0.0, where=self._ctx.policy.account)

    def _gather(self) -> None:
        """Wait until no more changes arrive, 250 ms at most, so that they share a request."""
        waited, seen = 0.0, -1
        while waited < _GATHER_SECONDS:
            now = self._ctx.urgent_queue.count()
            if now == seen and not self._coming():
                return
            seen = now
            self._sleep(_QUIET_SECONDS)
            waited += _QUIET_SECONDS

    def _send_one(self) -> None:
        """Send one request, if something is due."""
        self._due()
        waited = 0.0
        while True:
            try:
                account = self._ctx.policy.account
                with self._ctx.market.permit(ticket=f"urgent:{account}", lane="urgent") as call:
                    self._send(call, self._due())
            except ListingLocked as busy:
                # The bulk lane is sending one of these listings, which usually takes some tenths of a second.
                waited += busy.seconds
                if waited >= _IN_PLACE_SECONDS:
                    busy.seconds = _IN_PLACE_SECONDS
                    raise
                self._sleep(busy.seconds)
            else:
                return

    # -- what to send ----------------------------------------------------------------------------------------------

    def _due(self) -> list[QueuedChange]:
        """The changes that are due. Raises `RetryLater` when none of the queued ones is."""
        if not self._ctx.urgent_queue.lead(self._token):
            raise _NoLongerSender
        queued = self._ctx.urgent_queue.first(_LOOK_AT)
        now_ms = self._now_ms()
        due = [pair for pair in queued if pair[1].not_before_ms <= now_ms]
        if not due and queued:
            first = min(change.not_before_ms for _, change in queued)
            raise RetryLater("waiting to try again", seconds=(first - now_ms) / 1000, where=self._ctx.policy.account)
        return due

    def _batch(self, due: list[QueuedChange]) -> list[QueuedChange]:
        """The changes of the next request. Sells and pushes alternate; a change that failed twice is sent alone."""
        sells = [pair for pair in due if pair[1].kind == "sell"]
        pushes = [pair for pair in due if pair[1].kind == "push"]
        if sells and (not self._sold_last or not pushes):
            self._sold_last = True
            return sells[:1]
        self._sold_last = False
        if pushes and pushes[0][1].tries >= ATTEMPTS - 1:
            return pushes[:1]
        together = [pair for pair in pushes if pair[1].tries < ATTEMPTS - 1]
        sizes = pack([len(change.item.body) for _, change in together if change.item is not None], flush=True)
        return together[: sizes[0]] if sizes else []

    def _send(self, call: Call, due: list[QueuedChange]) -> None:
        if not due:
            return
        # Lock everything that is due: a listing that the bulk lane is sending must not stop the others.
        with self._ctx.locks.free([change.reference for _, change in due]) as locked:
            batch = self._batch([pair for pair in due if pair[1].reference in locked])
            if not batch:
                raise ListingLocked("these listings are being written", seconds=0.05, where=self._ctx.policy.account)
            base = self._ctx.ledger.get([change.reference for _, change in batch])
            superseded = [pair for pair in batch if self._is_superseded(pair[1], base.get(pair[1].reference))]
            self._outcomes.finish([(pair, "overtaken", "something newer was sent before it") for pair in superseded])
            batch = [pair for pair in batch if pair not in superseded]
            if batch:
                self._locks = locked
                self._request(call, batch, base)

    def _is_superseded(self, change: PendingChange, entry: Entry | None) -> bool:
        pushed_ms = self._ctx.urgent_queue.pushed_ms(change.reference) if change.kind == "sell" else 0
        return is_superseded(change, entry, pushed_ms=pushed_ms)

    def _request(self, call: Call, batch: list[QueuedChange], base: dict[str, Entry]) -> None:
        waiters = dict.fromkeys(waiter for _, change in batch for waiter in change.waiters)
        about = {"okasie.account": self._ctx.policy.account, "okasie.listings": len(batch)}
        try:
            with tracing.shared(f"send {batch[0][1].kind}", self._ctx.pushes.traces(waiters), about):
                if batch[0][1].kind == "sell":
                    self._sell(call, batch[0], base)
                else:
                    self._push(call, batch, base)
        except Unavailable as error:
            self._outcomes.again(batch, error, base)
            raise
        except RunAborted as error:
            self._outcomes.refused_key(batch, error)
            raise

    # -- one request -----------------------------------------------------------------------------------------------

    def _push(self, call: Call, batch: list[QueuedChange], base: dict[str, Entry]) -> None:
        items = [change.item for _, change in batch if change.item is not None]
        # If these are never answered and given up, the marketplace may have them all the same: see `sync.doubtful`.
        # A listing that was pushed inline stays, whether its row is in the source or not.
        creates = {change.reference for _, change in batch if not change.inline}.difference(base)
        if not self._ctx.ledger.note_creates(creates, self._locks):
            raise self._locks.lost()
        try:
            if len(items) == 1:
                answer = call.put(items[0].reference, _put_body(items[0].body))
            else:
                answer = call.bulk_upsert([(item.reference, item.body) for item in items])
        except ItemRejected as refused:
            self._outcomes.refused_whole(batch, items, refused, base)
            self._ctx.ledger.forget_creates(creates)
            return
        if not self._locks.still_held():
            return  # another sender may have sent it, or something newer; otherwise it is still queued
        accepted: list[tuple[QueuedChange, Outgoing, ItemAnswer]] = []
        again: list[tuple[QueuedChange, ItemAnswer]] = []
        for pair, item, item_answer in zip(batch, items, answer.items, strict=True):
            if item_answer.outcome == "accepted":
                accepted.append((pair, item, item_answer))
            elif item_answer.outcome == "unknown" or item_answer.http_status >= 500:
                again.append((pair, item_answer))
            else:
                self._outcomes.rejected(pair, item, item_answer, answer.request_id, base)
        for pair, item_answer in again:  # before what the same answer accepts is recorded
            self._outcomes.again([pair], rejects.item_error(item_answer, answer.request_id), base)
        self._outcomes.settle(accepted, base, answer.request_id)
        self._ctx.ledger.forget_creates(creates.difference(pair[1].reference for pair, _ in again))

    def _sell(self, call: Call, pair: QueuedChange, base: dict[str, Entry]) -> None:
        change, outcome, message = pair[1], "sold", None
        try:
            answer = send_sell(self._ctx, call, change.reference, base.get(change.reference))
        except ItemRejected as refused:
            verdict = rejects.answer_of(change.reference, refused)
            self._outcomes.rejected(pair, None, verdict, refused.request_id, base)
            return
        if answer.status != "sold":
            raise Unavailable(f"DELETE left it {answer.status}", seconds=0, where=change.reference)
        if not answer.known:
            outcome, message = "not_found", "the marketplace does not have it; it will not be created either"
        if not self._locks.still_held():
            return
        now_ms = self._now_ms()
        self._outcomes.write([change.reference], base, lambda _, known: sold(change, known, now_ms=now_ms))
        self._ctx.ledger.remove_rejects([change.reference])
        event = Event(
            now_ms, "sold", "sold manually", request_id=answer.request_id, message=message or "", by=change.by
        )
        audit.record_sold(self._ctx, change.reference, event, base.get(change.reference))
        self._outcomes.finish([(pair, outcome, message)])

    def _now_ms(self) -> int:
        return self._ctx.runs.now_ms()


def _put_body(item: bytes) -> bytes:
    """The body of a PUT: a bulk item without the reference, which is in the path."""
    body: dict[str, Any] = msgspec.json.decode(item)
    del body["externalReference"]
    return msgspec.json.encode(body)
