"""Compares one partition of both sides with the ledger: planned changes, rejects and ledger updates."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from okasie_tasks.core.catalog import Titled
from okasie_tasks.core.decision import SENDS, Decision, ReadEvidence, with_row_seen
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, decode_compared
from okasie_tasks.core.guards import DealerTotals, fields_of
from okasie_tasks.core.ledger_entry import LIVE, Entry, EntryState, Flag
from okasie_tasks.core.reconcile import decide, would_sell
from okasie_tasks.core.records import Local, Planned, Reject, Remote
from okasie_tasks.core.unreadable import MOST_NAMED
from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.logs import get_logger
from okasie_tasks.ports import Offer
from okasie_tasks.sync import audit, doubtful, price_moves, rejects, seals, skipped_images, titles, waiting_sells
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.load import firsts_of
from okasie_tasks.sync.partition import Partition

log = get_logger(__name__)

_MISSED = "missed"
"""A collection of the run: the counts of missing rows from before this run, written before the ledger changes."""


class PartitionResult(msgspec.Struct):
    """The result of one partition. The names in ``counts`` are those of the run report."""

    counts: dict[str, int] = {}
    dealers: dict[str, DealerTotals] = {}
    blocks: dict[int, int] = {}
    """Planned sends per block of the source, for the spool."""
    sells: int = 0
    new_rejects: int = 0
    rejected: int = 0
    """Listings that are rejected after this run."""
    creates: int = 0
    vanished: int = 0
    """Our live listings that the source lacks and that this run does not sell."""
    preexisting: int = 0
    """Live marketplace rows in neither source nor ledger, counted until the first full run has decided on them."""
    providers: dict[str, int] = {}
    """``externalProvider`` -> its marketplace rows that are also in the source but not in the ledger."""


def diff_chunk(
    ctx: AccountContext,
    part: Part,
    evidence: ReadEvidence,
    *,
    partitions: int,
    plan_only: bool,
    load_first: int = 0,
    number: int = 0,
) -> PartitionResult:
    """Decide on every reference of one partition; write the plan and the ledger, and return the counts.

    ``number``: of the run.
    """
    partition, rest = seals.open_partition(
        ctx, part.run, part.number, partitions, full=evidence.full, load_first=load_first
    )
    settled = rest.states() + partition.take_settled(full=evidence.full)
    doubtful.claim(ctx, partition, plan_only=plan_only)
    known_rejects = ctx.ledger.rejects(
        sorted({*partition.rows, *(r for r, e in partition.base.items() if e.flags & Flag.REJECTED)})
    )
    plan = PartitionPlan(ctx, part, evidence, known_rejects, partition.base)
    plan.add_settled(settled)
    for reference in partition.references():
        plan.add(
            reference,
            partition.local(reference),
            partition.remote.get(reference),
            partition.base.get(reference),
            same=_is_same(partition, reference, evidence),
        )
    plan.titles = ctx.ledger.catalog.get(list(partition.titles))
    plan.write(plan_only=plan_only)
    if not plan_only:
        titles.note(ctx, partition, complete=evidence.source_complete)
        if evidence.full:
            seals.note(ctx, partition, rest, number, partitions)
    return plan.result


def _is_same(partition: Partition, reference: str, evidence: ReadEvidence) -> bool:
    if reference in partition.remote:
        return False
    return reference in partition.remote_same or not evidence.full


class PartitionPlan:
    """Collects the decisions of a partition and writes them together."""

    def __init__(
        self,
        ctx: AccountContext,
        part: Part,
        evidence: ReadEvidence,
        rejects: dict[str, Reject],
        base: dict[str, Entry],
    ) -> None:
        self.result = PartitionResult()
        self._ctx, self._part, self._evidence, self._rejects = ctx, part, evidence, rejects
        self._swaps: list[tuple[str, Entry | None, Entry]] = []
        self._rejected: list[Reject] = []
        self._fresh: list[Reject] = []
        self._freed: list[str] = []
        self._planned: list[Planned] = []
        self._findings: list[audit.Finding] = []
        self._warned: list[audit.Warned] = []
        self._losing: list[Planned] = []
        self._prices: dict[str, price_moves.NewPrice] = {}
        self._theirs: dict[str, bytes] = {}
        """Changed listing -> its values on the marketplace, where this run read them."""
        self.titles: dict[str, Titled] = {}
        """Changed listing -> its title and VIN before this run, as far as they are known."""
        self._preexisting: list[Remote] = []
        self._vanished: list[str] = []
        self._sells_waiting: list[str] = []
        self._offers: list[Offer] = []
        self._filled: dict[bytes, Counter[int]] = defaultdict(Counter)
        self._now = int(ctx.runs.now())
        self._firsts = firsts_of(ctx, part.run)
        self._images_due = skipped_images.due(ctx, base, now=self._now)
        self._missed: dict[str, int] = {}
        """Reference -> how many reads before this run lacked it, for those that this run lacks too."""
        if evidence.missing_reads > 1:
            self._missed = ctx.runs.data.fetch_one(part.run, _MISSED, part.number, dict[str, int]) or {}

    def add(
        self, reference: str, local: Local | None, remote: Remote | None, base: Entry | None, *, same: bool
    ) -> None:
        """Decide on one reference and collect the result."""
        counted = self._before_this_run(reference, base)
        decision = decide(local, remote, counted, self._evidence, same=same, images_due=reference in self._images_due)
        if counted is not None and decision.entry is not None and decision.entry.missed > counted.missed:
            self._missed[reference] = counted.missed
        if local is None and not self._evidence.source_complete and would_sell(remote, base, self._evidence, same=same):
            self._sells_waiting.append(reference)
        if base is not None and _ours(base):
            self._filled[base.dealer][base.filled] += 1
            self._vanished += [reference] if local is None and decision.count == "waiting" else []
        elif base is None and remote is not None:
            self._count_unowned(local, remote)
        if local is not None and local.issues:
            self._invalid(local, base)
        elif (reject := self._rejects.get(reference)) is not None:
            if self._stays_rejected(reject, local, decision):
                if base is not None and local is not None and base.live and not base.has(Flag.IN_SOURCE):
                    # The row was seen, although it cannot be sent. When it disappears, the car is gone.
                    self._swaps.append((reference, base, with_row_seen(base, local, keep_row=True)))
                return
            decision = self._after_reject(reject, local, decision, base)
        self._count(decision, local)
        self._warn(reference, local, remote if local is not None or base is not None else None, base)
        if audit.is_finding(decision, base):
            self._findings.append(audit.Finding(reference, decision, local, remote, base))
        if decision.entry is not None:
            self._swaps.append((reference, base, decision.entry))
        if decision.action != "none":
            self._plan(reference, decision, local, remote, base)
        if decision.yields and local is not None and remote is not None:
            offer = offer_of(local, remote, decision.fields, run=self._part.run, at_ms=self._now * 1000)
            self._offers += [offer] if offer else []

    def _warn(self, reference: str, local: Local | None, remote: Remote | None, base: Entry | None) -> None:
        # The run that first read an unchanged row has reported it.
        ours = local.warnings if local is not None and (base is None or local.content != base.row) else ()
        warned = audit.Warned(reference, ours, remote.warning if remote else "")
        if warned.texts:
            self.result.counts["warnings"] = self.result.counts.get("warnings", 0) + len(warned.texts)
            self._warned.append(warned)

    def add_settled(self, settled: Counter[EntryState]) -> None:
        """Count entries that are unchanged and need no individual decision."""
        if settled:
            self.result.counts["unchanged"] = settled.total()
        for state, count in settled.items():
            if state.ours:
                self._filled[state.dealer][state.filled] += count

    def _before_this_run(self, reference: str, base: Entry | None) -> Entry | None:
        """Return the entry as it was before this run counted the missing row: a part may be executed twice."""
        if base is None or base.missed <= self._missed.get(reference, base.missed):
            return base
        return base.replace(missed=self._missed[reference])

    def _count_unowned(self, local: Local | None, remote: Remote) -> None:
        """Count a marketplace row that is not in the ledger. It is in the source, pre-existing, or foreign."""
        if remote.status == "active":
            self.result.counts["foreign_active"] = self.result.counts.get("foreign_active", 0) + (local is None)
        if local is not None and remote.provider:
            self.result.providers[remote.provider] = self.result.providers.get(remote.provider, 0) + 1
        if local is None and self._evidence.taking_over and remote.status in LIVE:
            self._preexisting.append(msgspec.structs.replace(remote, values=None))
            self.result.preexisting += 1

    def _stays_rejected(self, reject: Reject, local: Local | None, decision: Decision) -> bool:
        """Return whether the marketplace has already refused exactly this change. A changed row may be sent again."""
        if decision.action == "none" or not rejects.is_still_rejected(reject, rejects.sent_as(decision.action, local)):
            return False
        self._rejected.append(msgspec.structs.replace(reject, last_seen=self._now, run=self._part.run))
        return True

    def _after_reject(self, reject: Reject, local: Local | None, decision: Decision, base: Entry | None) -> Decision:
        """Free a reject whose listing needs no change. An incremental run keeps it: it may not have seen the reason."""
        if decision.action != "none" or local is None:
            return decision
        if self._evidence.full or not rejects.is_still_rejected(reject, local.content):
            self._freed.append(reject.reference)
            return decision
        self._rejected.append(msgspec.structs.replace(reject, run=self._part.run))
        entry = decision.entry or base
        if entry is None:
            return decision
        return msgspec.structs.replace(decision, entry=entry.replace(set_flags=Flag.REJECTED))

    def _invalid(self, local: Local, base: Entry | None) -> None:
        missing = tuple(issue.field for issue in local.issues if issue.code == "required")
        if base is not None and _ours(base) and (lost := tuple(set(missing).intersection(fields_of(base.filled)))):
            self._count_lost(base, lost)
            change = Planned(local.reference, "invalid", "its row is invalid", -1, b"", base.dealer, loses=lost)
            self._losing.append(change)
        reject = rejects.invalid(local.reference, local.issues, where=local.where, run=self._part.run, now=self._now)
        before = self._rejects.get(local.reference)
        if before is not None and before.content == reject.content:
            reject.first_seen = before.first_seen
        else:
            self.result.new_rejects += 1
            self._fresh.append(reject)
        self._rejected.append(reject)

    def _count(self, decision: Decision, local: Local | None) -> None:
        counts = self.result.counts
        if decision.incomplete:
            counts["lacking"] = counts.get("lacking", 0) + 1
        name: str | None = decision.count
        if name in ("unchanged", "foreign", "drifted", "conflicts", "unread") and not (
            name == "unchanged" and local is None
        ):
            counts[name] = counts.get(name, 0) + 1
        if name == "settled" and local is not None:
            counts["already_sold"] = counts.get("already_sold", 0) + 1

    def _plan(
        self, reference: str, decision: Decision, local: Local | None, remote: Remote | None, base: Entry | None
    ) -> None:
        ours = base if base is not None and _ours(base) else None
        # Counted for the dealer that has the listing now.
        dealer = ours.dealer if ours else local.dealer if local and local.dealer else base.dealer if base else b""
        unchanged = local is not None and base is not None and base.has(Flag.IN_SOURCE) and local.content == base.row
        changed = ours is not None and local is not None and decision.action in SENDS and local.content != ours.row
        loses = fields_of(ours.filled & ~local.filled) if changed and ours and local else ()
        change = Planned(
            reference=reference,
            action=decision.action,
            reason=decision.reason,
            row=local.row if local else -1,
            content=local.content if local else b"",
            dealer=dealer,
            fields=decision.fields,
            rendering_seen=decision.answers,
            seen_ms=base.seen_ms if unchanged and base else None,
            changed=changed,
            loses=loses,
            traits=local.traits if local and base is None else None,
            changed_at=remote.changed_at if remote else 0,
        )
        self._planned.append(change)
        if (price := price_moves.new_price(decision, local, remote, base)) is not None:
            self._prices[reference] = price
        if changed and remote is not None and remote.values is not None:
            self._theirs[reference] = remote.values
        if changed and ours:
            self._dealer(dealer).changed += 1
            self._count_lost(ours, loses)
        if decision.action == "sell":
            self._dealer(dealer).sells += 1
            self.result.sells += 1
        else:
            self.result.creates += change.traits is not None
            number = self._block_of(change)
            self.result.blocks[number] = self.result.blocks.get(number, 0) + 1

    def _block_of(self, change: Planned) -> int:
        """Return the number of the block that has the row to send."""
        return bisect_right(self._firsts, change.row - 1) - 1

    def _count_lost(self, base: Entry, fields: tuple[str, ...]) -> None:
        lost = self._dealer(base.dealer).lost
        for field in fields:
            lost[field] = lost.get(field, 0) + 1

    def _count_filled(self) -> None:
        for dealer, bitmaps in self._filled.items():
            totals = self._dealer(dealer)
            totals.live = bitmaps.total()
            for bitmap, count in bitmaps.items():
                for field in fields_of(bitmap):
                    totals.filled[field] = totals.filled.get(field, 0) + count

    def _dealer(self, dealer: bytes) -> DealerTotals:
        return self.result.dealers.setdefault(dealer.hex(), DealerTotals())

    def write(self, *, plan_only: bool) -> None:
        """Write the plan of this partition and, unless ``plan_only``, the ledger, rejects and history."""
        self._count_filled()
        self._planned = price_moves.judged(self._ctx, self._planned, self._prices, self.result.dealers)
        collections: dict[str, Any] = defaultdict(list)
        if self._losing:
            collections["losing"] = self._losing
        if self._vanished:
            collections["vanished"] = self._vanished
            self.result.vanished = len(self._vanished)
        if self._preexisting:
            collections["preexisting"] = self._preexisting
        self.result.rejected = len(self._rejected)
        if plan_only and self._rejected:
            collections[rejects.COLLECTION] = self._rejected[:MOST_NAMED]
        if self._sells_waiting:
            collections[waiting_sells.COLLECTION] = self._sells_waiting[:MOST_NAMED]
            self.result.counts["sells_waiting"] = len(self._sells_waiting)
        for change in self._planned:
            place = "sells" if change.action == "sell" else f"sends:{self._block_of(change)}"
            collections[place].append(change)
        if self._theirs:
            collections["theirs"] = self._theirs
        if known := {c.reference: self.titles[c.reference] for c in self._planned if c.reference in self.titles}:
            collections["titles"] = known
        self._ctx.runs.data.put_all(self._part.run, self._part.number, collections)
        if plan_only:
            return
        if not send_offers(self._ctx, self._offers):
            self.result.counts["unoffered"] = len(self._offers)
            again = {offer.reference for offer in self._offers}
            self._swaps = [swap for swap in self._swaps if swap[0] not in again]
        if self._missed and self._evidence.missing_reads > 1:
            self._ctx.runs.data.put(self._part.run, _MISSED, self._part.number, self._missed)
        # A swap fails where the urgent lane has written since: its state is newer than what this run read, and stays.
        self._ctx.ledger.swap(self._swaps)
        self._ctx.ledger.put_rejects(self._rejected)
        rejects.log_new(self._ctx, self._fresh)
        self._ctx.ledger.remove_rejects(self._freed)
        audit.record_findings(self._ctx, self._findings, run=self._part.run)
        audit.record_warnings(self._ctx, self._warned, run=self._part.run)


def _ours(base: Entry) -> bool:
    return base.live and base.has(Flag.OWNED)


def offer_of(local: Local, remote: Remote, fields: Sequence[str], *, run: str, at_ms: int) -> Offer | None:
    """Return both versions of the differing fields; None if a record has no values or only the dealer differs."""
    if local.values is None or remote.values is None:
        return None
    ours, theirs = decode_compared(local.values), decode_compared(remote.values)
    positions = [(name, COMPARED_FIELDS.index(name)) for name in fields if name in COMPARED_FIELDS]
    changes = tuple((name, ours[index], theirs[index]) for name, index in positions)
    return Offer(reference=local.reference, run=run, at_ms=at_ms, changes=changes) if changes else None


def send_offers(ctx: AccountContext, offers: Sequence[Offer]) -> bool:
    """Offer marketplace edits to the source; return False when it could not be reached.

    The run does not fail because of it: the next run offers them again.
    """
    if not offers:
        return True
    try:
        write_back = ctx.write_back()
        if write_back is not None:
            taken = write_back.write_back(offers)
            log.info("edits offered to the source", account=ctx.policy.account, offered=len(offers), taken=taken)
    except (SourceError, ConfigurationError) as error:
        facts = {"account": ctx.policy.account, "reason": str(error)}
        log.error("edits of the marketplace could not be offered to the source", **facts)  # noqa: TRY400 - a condition
        return False
    return True
