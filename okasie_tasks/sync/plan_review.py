"""Reviews a plan: which of its changes are held for approval, and whether an approved plan is sent.

An operator approves a plan by its id, which is the run that first held it. The run that is to send it makes a new plan.
If that holds exactly the approved changes, they are sent. Otherwise nothing is sent, and the new plan is held instead.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from okasie_tasks.core.decision import claim_of
from okasie_tasks.core.guards import (
    TAKE_OVER,
    DealerTotals,
    Held,
    HeldPlan,
    Reading,
    covers,
    held_items,
    is_held,
    item,
    judge,
    listings_in,
    reference_of,
)
from okasie_tasks.core.held_change import PREEXISTING
from okasie_tasks.core.ledger_entry import Entry
from okasie_tasks.core.records import BUCKETS, Planned, Remote, merge_counts
from okasie_tasks.core.rekeyed import Rekeyed, Traits, find, traits_sent
from okasie_tasks.sync import held_changes
from okasie_tasks.sync.compare import PartitionResult
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run


class PlanReview(msgspec.Struct):
    """The result of a review: the held changes with their reasons, and the sells to send."""

    holds: list[Held] = []
    rekeyed: frozenset[str] = frozenset()
    """References of re-keyed stock, old and new: their sells and creates are held."""
    items: list[str] = []
    """The held changes; see `okasie_tasks.core.guards.item`."""
    sells: list[Planned] = []
    claimed: list[Remote] = []
    """Pre-existing rows that are claimed into the ledger to be sold."""
    preexisting: int = 0
    """Pre-existing rows that are held or sent, and so not counted as foreign."""
    waiting: int = 0
    """Pre-existing rows that would be sold if the source had been read completely."""
    held_updates: int = 0
    released: str = ""
    """The run whose held plan this run sends."""
    outdated: bool = False
    """An operator approved another plan than the one that this run would send: it sends nothing."""

    @property
    def held(self) -> int:
        """The number of listings whose change is held."""
        return listings_in(self.items)


def review_plan(ctx: AccountContext, run: Run, outcomes: Sequence[PartitionResult]) -> PlanReview:
    """Apply the guards to the plan of a run after all partitions are compared."""
    dealers = _totals(outcomes)
    provider = own_provider(ctx, run, outcomes)
    preexisting, waiting = _preexisting(ctx, run, provider), 0
    if run.fact("nameless") or run.fact("unsettled"):
        # They may be in the source. Without these facts, they would be sold, or held for a take-over.
        preexisting, waiting = [], len(preexisting) if ctx.policy.take_over and provider else 0
    # While our provider is unknown, only an operator can decide that these rows are ours.
    claimed = preexisting if ctx.policy.take_over and provider else []
    for row in claimed:
        totals = dealers.setdefault(_dealer_of(row, dealers).hex(), DealerTotals())
        totals.live, totals.sells = totals.live + 1, totals.sells + 1
    lost = tuple(json.loads(run.facts.get("profiles_lost", "[]")))
    reading = Reading(rows=run.fact("rows"), rows_before=run.fact("rows_before"), profiles_lost=lost)
    review = PlanReview(holds=judge(dealers, reading, ctx.policy.limits), claimed=claimed)
    sells = [*_planned_sells(ctx, run), *(_preexisting_sell(row, dealers) for row in claimed)]
    if rekeyed := _rekeyed(ctx, run, outcomes, sells, review.holds):
        review.holds.insert(0, rekeyed.held())
        review.rekeyed = rekeyed.references
    review.items = [*_items(ctx, run, review, sells), *(item(name, "scope") for name in lost)]
    if preexisting and not claimed:
        review.holds.append(_take_over_hold(preexisting, provider))
        review.items += [item(row.reference, TAKE_OVER) for row in preexisting]
    plan = held_plan(ctx)
    _keep_take_over(run, review, plan)
    if _is_released(ctx, run, review, plan):
        review = PlanReview(claimed=preexisting, released=run.facts["approves"])
        sells += [_preexisting_sell(row, dealers) for row in preexisting if row not in claimed]
    elif run.facts.get("approves"):
        review.outdated, review.claimed, sells = True, [], []
    review.preexisting, review.waiting = len(preexisting), waiting
    review.sells = [change for change in sells if not is_held(change, review.holds, review.rekeyed)]
    review.held_updates = sum(kept.startswith(("create ", "update ")) for kept in review.items)
    return review


def _totals(outcomes: Sequence[PartitionResult]) -> dict[str, DealerTotals]:
    dealers: dict[str, DealerTotals] = {}
    for outcome in outcomes:
        for name, totals in outcome.dealers.items():
            dealers.setdefault(name, DealerTotals()).add(totals)
    return dealers


def has_shrunk(ctx: AccountContext, run: Run, rows: int) -> bool:
    """Return whether the row count has fallen by more than ``max_source_shrink_percent``."""
    reading = Reading(rows=rows, rows_before=run.fact("rows_before"))
    return reading.shrunk_percent() > ctx.policy.limits.max_source_shrink_percent


def held_plan(ctx: AccountContext) -> HeldPlan | None:
    """Return the account's plan that needs approval, if any."""
    return ctx.plans.get(ctx.policy.account, now_ms=ctx.runs.now_ms())


def holds_of(run: Run) -> list[Held]:
    """Return the holds of a run whose plan was reviewed."""
    return msgspec.json.decode(run.facts.get("held", "[]"), type=list[Held])


def rekeyed_of(run: Run) -> frozenset[str]:
    """Return the references of re-keyed stock that a run's plan holds."""
    return frozenset(json.loads(run.facts.get("rekeyed", "[]")))


def store_held_plan(ctx: AccountContext, run: Run) -> str:
    """Store the held plan at the end of a run. Returns the id of the plan, "" if nothing is held.

    A plan that holds the same changes as the stored one keeps its id.
    """
    account, plan = run.account, held_plan(ctx)
    if released := run.facts.get("released", ""):
        ctx.plans.close(account, released, "done")
        ctx.runs.note(released, released_by=run.id, approved_by=run.facts.get("approved_by", ""))
        return ""
    holds, items = holds_of(run), json.loads(run.facts.get("held_items", "[]"))
    if not holds:
        if plan is not None:
            ctx.plans.close(account, plan.run, "dropped", replaced_by=run.id)
        return ""
    if plan is not None and _covers(ctx, plan, items):
        return plan.run
    now_ms = ctx.runs.now_ms()
    fresh = HeldPlan(
        run=run.id, mode=run.mode, created_ms=now_ms, expires_ms=now_ms + ctx.policy.plan_expires_ms,
        holds=holds, items=items,
    )  # fmt: skip
    before = held_changes.still_held(ctx, plan) if plan is not None else []
    ctx.plans.keep(account, fresh, held_changes.collect(ctx, run.id, items, before=before))
    return run.id


def drop(ctx: AccountContext, run: str) -> bool:
    """Drop a held plan that an operator rejected; returns False if it is not held.

    Its pre-existing rows are never offered again.
    """
    plan = held_plan(ctx)
    if plan is None or not ctx.plans.close(ctx.policy.account, run, "dropped"):
        return False
    if plan.takes_over:
        ctx.runs.note_account(ctx.policy.account, take_over="decided")
    return True


def show_preexisting(ctx: AccountContext, run: Run, review: PlanReview) -> None:
    """Add the sells of pre-existing rows to the plan of a dry run: no partition's plan contains them."""
    claimed = {row.reference for row in review.claimed}
    changes = [change for change in review.sells if change.reference in claimed]
    ctx.runs.data.put(run.id, "sells", BUCKETS, changes)


def claim_preexisting(ctx: AccountContext, review: PlanReview) -> None:
    """Add claimed pre-existing rows to the ledger, so that they are sold like other listings."""
    ctx.ledger.swap((row.reference, None, claim_of(row)) for row in review.claimed)


# -- pre-existing rows ---------------------------------------------------------------------------------------------


def own_provider(ctx: AccountContext, run: Run, outcomes: Sequence[PartitionResult]) -> str:
    """Return our provider name on the marketplace, learned from rows in the ledger, else from rows in the source.

    Its value is not documented (API docs, listings/list), so these rows are the only evidence.
    """
    pages = [*ctx.runs.parts.results(run.id, "first"), *ctx.runs.parts.results(run.id, "walk")]
    known = ctx.runs.account(run.account).provider
    for counts in ([page.get("providers", {}) for page in pages], [outcome.providers for outcome in outcomes]):
        votes = merge_counts(counts)
        if votes:
            return max(votes, key=lambda name: (votes[name], name == known, name))
        if known:
            break
    return known


def _preexisting(ctx: AccountContext, run: Run, provider: str) -> list[Remote]:
    """Return live rows that the source lacks and whose provider is ours.

    While our provider is unknown, the key's partner source is used instead. An operator must then approve.
    """
    if not run.fact("taking_over") or not ctx.policy.sells:
        return []
    ours = provider or run.facts.get("partner_source", "")
    remote = {row.reference: row for rows in ctx.runs.data.fetch(run.id, "preexisting", list[Remote]) for row in rows}
    return [remote[name] for name in sorted(remote) if ours and remote[name].provider == ours]


def _take_over_hold(preexisting: Sequence[Remote], provider: str) -> Held:
    doubt = "" if provider else "; they have the provider name of the key, but no listing is known to be ours yet"
    reason = f"{len(preexisting)} live listings existed before the first run and are not in the source{doubt}"
    return Held(guard="take_over", dealer=None, what=TAKE_OVER, count=len(preexisting), reason=reason)


def _dealer_of(row: Remote, dealers: Mapping[str, DealerTotals]) -> bytes:
    """Return the row's dealer in the form that the source uses, code or profile."""
    return row.dealer_code if row.dealer_code.hex() in dealers or not row.dealer_profile else row.dealer_profile


def _preexisting_sell(row: Remote, dealers: Mapping[str, DealerTotals]) -> Planned:
    return Planned(row.reference, "sell", PREEXISTING, -1, b"", _dealer_of(row, dealers))


# -- held changes --------------------------------------------------------------------------------------------------


def _planned_sells(ctx: AccountContext, run: Run) -> Iterator[Planned]:
    for changes in ctx.runs.data.fetch(run.id, "sells", list[Planned]):
        yield from changes


def _planned_sends(ctx: AccountContext, run: Run) -> Iterator[Planned]:
    for number in json.loads(run.facts["blocks"]):
        for changes in ctx.runs.data.fetch(run.id, f"sends:{number}", list[Planned]):
            yield from changes


def _items(ctx: AccountContext, run: Run, review: PlanReview, sells: Sequence[Planned]) -> list[str]:
    """Return the items that the holds cover. Creates and updates are read only if some of them are held."""
    changes = list(sells)
    if any(hold.what in ("updates", "re-keyed") for hold in review.holds):
        changes += _planned_sends(ctx, run)
        for losing in ctx.runs.data.fetch(run.id, "losing", list[Planned]):
            changes += losing
    return held_items(review.holds, changes, review.rekeyed)


def _rekeyed(
    ctx: AccountContext, run: Run, outcomes: Sequence[PartitionResult], sells: Sequence[Planned], holds: Sequence[Held]
) -> Rekeyed | None:
    """Return the re-keyed stock in the plan. What was sent is read only if many listings vanish and appear at once."""
    free = ctx.policy.limits.free_sold_count
    gone = [change.reference for change in sells if change.row < 0]
    if sum(outcome.vanished for outcome in outcomes):
        gone += [name for names in ctx.runs.data.fetch(run.id, "vanished", list[str]) for name in names]
    if len(gone) <= free or sum(outcome.creates for outcome in outcomes) <= free:
        return None
    new = {change.reference: Traits(*change.traits) for change in _planned_sends(ctx, run) if change.traits}
    snapshots = ctx.history.snapshots(gone)
    vanished = {name: traits_sent(snapshots[name]) if name in snapshots else None for name in gone}
    return find(vanished, new, free=free, sells_held=any(hold.what == "sells" for hold in holds))


def _keep_take_over(run: Run, review: PlanReview, plan: HeldPlan | None) -> None:
    """Keep the held take-over in an incremental run: only a full run reads the pre-existing rows."""
    if plan is None or not plan.takes_over or run.fact("walked_all"):
        return
    review.holds += [hold for hold in plan.holds if hold.what == TAKE_OVER]
    review.items += [kept for kept in plan.items if kept.startswith(f"{TAKE_OVER} ")]


def _is_released(ctx: AccountContext, run: Run, review: PlanReview, plan: HeldPlan | None) -> bool:
    if plan is None or not review.items or run.facts.get("approves") != plan.run:
        return False
    if plan.takes_over and not run.fact("walked_all"):
        return False
    return _covers(ctx, plan, review.items)


def _covers(ctx: AccountContext, plan: HeldPlan, items: Sequence[str]) -> bool:
    """Return whether ``items`` are what ``plan`` holds. Listings pushed or sold manually since do not outdate it."""

    def settled(missing: Collection[str]) -> set[str]:
        entries = ctx.ledger.get(sorted({reference_of(name) for name in missing}))
        return {name for name in missing if (entry := entries.get(reference_of(name))) and _is_done(name, entry, plan)}

    return covers(plan, items, settled=settled)


def _is_done(held_item: str, entry: Entry, plan: HeldPlan) -> bool:
    """Return whether our own write has settled the item since the plan was made. A sell needs status ``sold``."""
    sells = held_item.startswith(("sell ", f"{TAKE_OVER} "))
    return entry.sent_ms >= plan.created_ms and (entry.status == "sold" or not sells)
