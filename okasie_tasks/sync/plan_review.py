"""Hold: which part of a plan waits for a person, what exactly waits, and how it is released.

A person releases a plan by its name, the run that first held it. The run that is to send it plans everything anew: what
waits then must be what was released, else nothing of it goes out and the new plan waits in its place.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from okasie_tasks.core.guards import (
    DealerTotals,
    Held,
    HeldPlan,
    Reading,
    covers,
    held_items,
    item,
    judge,
    listings_in,
    reference_of,
)
from okasie_tasks.core.ledger_entry import NO_DEALER, Entry, Flag
from okasie_tasks.core.records import BUCKETS, Planned, Remote, merge_counts
from okasie_tasks.sync.compare import PartitionResult
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

_TAKE_OVER: Final = "take-over"


class PlanReview(msgspec.Struct):
    """What becomes of a plan: what waits and why, and what goes out."""

    holds: list[Held] = []
    items: list[str] = []
    """What exactly waits; see `okasie_tasks.core.guards.item`."""
    sells: list[Planned] = []
    claimed: list[Remote] = []
    """Rows from before our time that are ours from now on, to be sold."""
    preexisting: int = 0
    """Rows from before our time that are not counted as foreign: they wait, or go out."""
    held_updates: int = 0
    released: str = ""
    """The run whose held plan goes out with this one."""

    @property
    def held(self) -> int:
        """Listings whose change waits."""
        return listings_in(self.items)


def review_plan(ctx: AccountContext, run: Run, outcomes: Sequence[PartitionResult]) -> PlanReview:
    """Judge the whole plan of a run that has compared everything."""
    dealers = _totals(outcomes)
    provider = own_provider(ctx, run, outcomes)
    preexisting = _preexisting(ctx, run, provider)
    # Whose rows they are is only known from rows of our own: without any a person must say so.
    claimed = preexisting if ctx.policy.take_over and provider else []
    for row in claimed:
        totals = dealers.setdefault(_dealer_of(row, dealers).hex(), DealerTotals())
        totals.live, totals.sells = totals.live + 1, totals.sells + 1
    lost = tuple(json.loads(run.facts.get("profiles_lost", "[]")))
    reading = Reading(rows=run.fact("rows"), rows_before=run.fact("rows_before"), profiles_lost=lost)
    review = PlanReview(holds=judge(dealers, reading, ctx.policy.limits), claimed=claimed)
    sells = [*_planned_sells(ctx, run), *(_taken(row, dealers) for row in claimed)]
    review.items = [*_items(ctx, run, review.holds, sells), *(item(name, "scope") for name in lost)]
    if preexisting and not claimed:
        review.holds.append(_take_over(preexisting, provider))
        review.items += [item(row.reference, _TAKE_OVER) for row in preexisting]
    plan = held_plan(ctx)
    _carry(run, review, plan)
    if _is_released(ctx, run, review, plan):
        review = PlanReview(claimed=preexisting, released=run.facts["approves"])
        sells += [_taken(row, dealers) for row in preexisting if row not in claimed]
    review.preexisting = len(preexisting)
    review.sells = [change for change in sells if not any(hold.holds(change) for hold in review.holds)]
    review.held_updates = sum(kept.startswith(("create ", "update ")) for kept in review.items)
    return review


def _totals(outcomes: Sequence[PartitionResult]) -> dict[str, DealerTotals]:
    dealers: dict[str, DealerTotals] = {}
    for outcome in outcomes:
        for name, totals in outcome.dealers.items():
            dealers.setdefault(name, DealerTotals()).add(totals)
    return dealers


def has_shrunk(ctx: AccountContext, run: Run, rows: int) -> bool:
    """Whether so many rows are fewer than the guard allows."""
    reading = Reading(rows=rows, rows_before=run.fact("rows_before"))
    return reading.shrunk_percent() > ctx.policy.limits.max_source_shrink_percent


def held_plan(ctx: AccountContext) -> HeldPlan | None:
    """The account's plan that waits for a person."""
    return ctx.plans.get(ctx.policy.account, now_ms=ctx.runs.now_ms())


def holds_of(run: Run) -> list[Held]:
    """The holds of a run whose plan was judged."""
    return msgspec.json.decode(run.facts.get("held", "[]"), type=list[Held])


def settle(ctx: AccountContext, run: Run) -> str:
    """At the end of a run: keep what waits, under its old name if it is the same; returns that name, "" for nothing."""
    account, plan = run.account, held_plan(ctx)
    if released := run.facts.get("released", ""):
        ctx.plans.close(account, released, "done")
        ctx.runs.note(released, released_by=run.id)
        return ""
    holds, items = holds_of(run), json.loads(run.facts.get("held_items", "[]"))
    if not holds:
        if plan is not None:
            ctx.plans.forget(account)
        return ""
    if plan is not None and _covers(ctx, plan, items):
        return plan.run
    now_ms = ctx.runs.now_ms()
    fresh = HeldPlan(
        run=run.id, mode=run.mode, created_ms=now_ms, expires_ms=now_ms + ctx.policy.plan_expires_ms,
        holds=holds, items=items,
    )  # fmt: skip
    ctx.plans.keep(account, fresh)
    return run.id


def drop(ctx: AccountContext, run: str) -> bool:
    """A person says no: what waits is dropped; rows from before our time are left alone for good."""
    plan = held_plan(ctx)
    if plan is None or not ctx.plans.close(ctx.policy.account, run, "dropped"):
        return False
    if plan.takes_over:
        ctx.runs.note_account(ctx.policy.account, take_over="decided")
    return True


def show_preexisting(ctx: AccountContext, run: Run, review: PlanReview) -> None:
    """Rows from before our time stand in no partition's plan: a look at the plan must show their sells all the same."""
    adopted = {row.reference for row in review.claimed}
    changes = [change for change in review.sells if change.reference in adopted]
    ctx.runs.data.put(run.id, "sells", BUCKETS, changes)


def claim_preexisting(ctx: AccountContext, review: PlanReview) -> None:
    """Take rows from before our time into the ledger, so that selling them goes the way of all sells."""
    ctx.ledger.swap(
        (
            row.reference,
            None,
            Entry(
                rendering=row.rendering,
                dealer=row.dealer_code or row.dealer_profile or NO_DEALER,
                status=row.status,
                flags=Flag.OWNED | Flag.IN_SOURCE,
                changed_at=row.changed_at,
            ),
        )
        for row in review.claimed
    )


# -- rows from before our time -------------------------------------------------------------------------------------


def own_provider(ctx: AccountContext, run: Run, outcomes: Sequence[PartitionResult]) -> str:
    """What the marketplace calls whoever made our rows: learned from rows of the ledger, else from those in the source.

    Its value is not documented (API docs, listings/list), so it is never taken from anywhere else.
    """
    pages = [*ctx.runs.parts.results(run.id, "first"), *ctx.runs.parts.results(run.id, "walk")]
    known = ctx.runs.account(run.account).provider
    for told in ([page.get("providers", {}) for page in pages], [outcome.providers for outcome in outcomes]):
        votes = merge_counts(told)
        if votes:
            return max(votes, key=lambda name: (votes[name], name == known, name))
        if known:
            break
    return known


def _preexisting(ctx: AccountContext, run: Run, provider: str) -> list[Remote]:
    """Live rows that the source lacks and that are ours by their provider; on a hint of it only a person may say so."""
    if not run.fact("taking_over") or run.fact("nameless") or not ctx.policy.sells:
        return []
    whose = provider or run.facts.get("partner_source", "")
    found = {row.reference: row for rows in ctx.runs.data.fetch(run.id, "preexisting", list[Remote]) for row in rows}
    return [found[name] for name in sorted(found) if whose and found[name].provider == whose]


def _take_over(preexisting: Sequence[Remote], provider: str) -> Held:
    whose = "" if provider else "; they bear the key's name, but no row there is known to be ours yet"
    reason = f"{len(preexisting)} live listings were there before us and are not in the source{whose}"
    return Held(guard="take_over", dealer=None, what=_TAKE_OVER, count=len(preexisting), reason=reason)


def _dealer_of(row: Remote, dealers: Mapping[str, DealerTotals]) -> bytes:
    """The dealer in the form in which the source names its own."""
    return row.dealer_code if row.dealer_code.hex() in dealers or not row.dealer_profile else row.dealer_profile


def _taken(row: Remote, dealers: Mapping[str, DealerTotals]) -> Planned:
    reason = "there before us, and not in the source"
    return Planned(row.reference, "sell", reason, -1, b"", _dealer_of(row, dealers))


# -- what waits ----------------------------------------------------------------------------------------------------


def _planned_sells(ctx: AccountContext, run: Run) -> Iterator[Planned]:
    for changes in ctx.runs.data.fetch(run.id, "sells", list[Planned]):
        yield from changes


def _items(ctx: AccountContext, run: Run, holds: Sequence[Held], sells: Sequence[Planned]) -> list[str]:
    """What exactly the holds make wait. Updates are only looked through when some of them are held."""
    changes = list(sells)
    if any(hold.what == "updates" for hold in holds):
        for place in json.loads(run.facts["slices"]):
            for planned in ctx.runs.data.fetch(run.id, f"sends:{place}", list[Planned]):
                changes += planned
        for losing in ctx.runs.data.fetch(run.id, "losing", list[Planned]):
            changes += losing
    return held_items(holds, changes)


def _carry(run: Run, review: PlanReview, plan: HeldPlan | None) -> None:
    """Only a walk of everything meets rows from before our time: until the next one their plan stands as it is."""
    if plan is None or not plan.takes_over or run.fact("walked_all"):
        return
    review.holds += [hold for hold in plan.holds if hold.what == _TAKE_OVER]
    review.items += [kept for kept in plan.items if kept.startswith(f"{_TAKE_OVER} ")]


def _is_released(ctx: AccountContext, run: Run, review: PlanReview, plan: HeldPlan | None) -> bool:
    if plan is None or not review.items or run.facts.get("approves") != plan.run:
        return False
    if plan.takes_over and not run.fact("walked_all"):
        return False
    return _covers(ctx, plan, review.items)


def _covers(ctx: AccountContext, plan: HeldPlan, items: Sequence[str]) -> bool:
    """Whether ``plan`` is what waits now; what a push or a sell by hand settled since does not outdate it."""

    def settled(gone: Collection[str]) -> set[str]:
        found = ctx.ledger.get(sorted({reference_of(one) for one in gone}))
        return {one for one in gone if (entry := found.get(reference_of(one))) and _is_done(one, entry, plan)}

    return covers(plan, items, settled=settled)


def _is_done(held_item: str, entry: Entry, plan: HeldPlan) -> bool:
    """Whether we wrote it ourselves since the plan was made; a car that is back in the source was not sold."""
    sells = held_item.startswith(("sell ", f"{_TAKE_OVER} "))
    return entry.sent_ms >= plan.created_ms and (entry.status == "sold" or not sells)
