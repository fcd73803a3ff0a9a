"""The changes of a held plan as documents: each field with its old and its new value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import msgspec

from okasie_tasks.core.estimates import ITEMS_PER_BULK, forecast
from okasie_tasks.core.guards import TAKE_OVER, HeldPlan, action_of
from okasie_tasks.core.held_change import HeldChange
from okasie_tasks.core.history import NOT_KEPT, Change
from okasie_tasks.reports.listing import iso
from okasie_tasks.store.records import Run
from okasie_tasks.sync import plan_review
from okasie_tasks.sync.context import AccountContext


def plan_of_run(ctx: AccountContext, run: Run) -> HeldPlan | None:
    """Return the held plan that this run refers to; None once it is sent, dropped or expired."""
    plan = plan_review.held_plan(ctx)
    return plan if is_of_run(plan, run) else None


def is_of_run(plan: HeldPlan | None, run: Run) -> bool:
    """Return whether this plan is the one that the run held back, or found held already."""
    return plan is not None and plan.run in (run.id, run.facts.get("held_run"))


def items_document(changes: Sequence[HeldChange], count: int) -> dict[str, Any]:
    """Return held changes, and how many of ``count`` are not listed because their values are not kept."""
    return {
        "items": [
            {
                "reference": change.reference,
                "title": change.title or None,
                "action": change.action,
                "kind": kind_of(change),
                "reason": change.reason,
                "dealer": change.dealer or None,
                "image": change.image or None,
                "changes": {one[0]: _values(one) for one in change.changes},
            }
            for change in changes
        ],
        "items_left_out": max(0, count - len(changes)),
    }


def kind_of(change: HeldChange) -> str:
    """Return what kind of change this is: ``new``, ``gone``, ``price``, ``status`` or ``fields``, the first of them."""
    if change.action in ("create", "sell", TAKE_OVER):
        return "new" if change.action == "create" else "gone"
    fields = {name for name, _, _ in change.changes}
    return next((name for name in ("price", "status") if name in fields), "fields")


def held_plan_document(ctx: AccountContext) -> dict[str, Any] | None:
    """Return the account's held plan: why it is held, each change, totals by dealer and kind, and what sending takes.

    Values of at most `core.held_change.MOST_SHOWN` changes are kept: ``groups`` counts those, ``items_left_out`` the
    others. None: nothing is held.
    """
    plan = plan_review.held_plan(ctx)
    if plan is None:
        return None
    account = ctx.policy.account
    document = items_document(ctx.plans.changes(account), plan.count)
    dealers = {key.hex(): code for key, code in ctx.ledger.catalog.dealers().items()}
    links = ctx.history.links([item["reference"] for item in document["items"]])
    for item in document["items"]:
        item["dealer_name"] = dealers.get(item["dealer"] or "")
        item["listing_url"] = links.get(item["reference"])
    return {
        "account": account,
        "run": plan.run,
        "mode": plan.mode,
        "created_at": iso(plan.created_ms),
        "expires_at": iso(plan.expires_ms),
        "count": plan.count,
        "holds": [msgspec.to_builtins(hold) for hold in plan.holds],
        **document,
        "groups": _groups(document["items"]),
        "forecast": _forecast(ctx, plan),
    }


def _groups(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how many changes of each kind each dealer has, the largest first; prices are sums where both are known."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for item in items:
        key = (item["dealer"] or "", item["action"], item["kind"])
        names = {name: item[name] for name in ("dealer", "dealer_name", "action", "kind")}
        group = groups.setdefault(key, {**names, "count": 0, "price_old": None, "price_new": None})
        group["count"] += 1
        price = item["changes"].get("price")
        if price and isinstance(price["old"], int | float) and isinstance(price["new"], int | float):
            for name in ("old", "new"):
                group[f"price_{name}"] = round((group[f"price_{name}"] or 0) + price[name], 2)
    return sorted(groups.values(), key=lambda group: -group["count"])


def _forecast(ctx: AccountContext, plan: HeldPlan) -> dict[str, Any]:
    """Return the requests that send the plan: one at least to read the marketplace, bulk calls, and a DELETE a sell."""
    actions = [action_of(name) for name in plan.items]
    sells = sum(action in ("sell", TAKE_OVER) for action in actions)
    sends = sum(action in ("create", "update") for action in actions)
    prediction = forecast(1 + ceil(sends / ITEMS_PER_BULK) + sells, per_minute=ctx.policy.per_minute)
    built: dict[str, Any] = msgspec.to_builtins(prediction)
    return {**built, "upserts": sends, "sells": sells, "text": prediction.text}


def _values(change: Change) -> dict[str, Any]:
    """Return both values; ``old_known`` false: only a fingerprint of the old value is kept."""
    _, old, new = change
    return {"old": None, "new": new, "old_known": False} if old == NOT_KEPT else {"old": old, "new": new}
