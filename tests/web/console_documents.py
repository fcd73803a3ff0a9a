"""Documents as the reports make them, for the templates."""

from __future__ import annotations

from typing import Any

HOSTILE = """</td><script>alert(1)</script><img src=x onerror=alert(2)>"'&{{ 7*7 }}"""
AT = "2026-11-28T15:05:12.000Z"
FORECAST = {"requests": 12, "seconds": 240.0, "at_least": False, "text": "about 4 min at this quota"}
QUOTA = {
    "limit": 120, "used_last_minute": 31, "remaining": 89, "learned_limit": None, "foreign": 0, "caution": False,
    "probing": False, "pause_seconds": 0, "pause_reason": None,
}  # fmt: skip
LISTINGS = {
    "local": 1268, "remote": 1500, "unchanged": 821, "created": 12, "updated": 445, "sold": 3, "rejected": 2, "held": 0,
    "drifted": 0, "conflicts": 0, "foreign": 0, "skipped": 0, "already_sold": 0, "warnings": 0, "sells_waiting": 0,
}  # fmt: skip


def run(**other: Any) -> dict[str, Any]:
    return {
        "run": "01JDA0000000000000000000RN", "account": "dex", "mode": "incremental", "state": "done", "purpose": "approved", "approved": None,
        "listings": LISTINGS, "requests": {"list": 8, "bulk": 9, "put": 0, "delete": 0, "retried": 3, "rate_limited": 1, "minimum": 13},
        "seconds": 11.7, "cursor": AT, "created_at": AT, "started_at": AT, "ended_at": AT, "new_rejects": 2, "skipped_images": 0,
        "held": [], "held_run": None, "replaced_by": None, "control": None, "notes": [], "note_details": [], "error": None,
        "waits_for_approval": False,
        "requested_by": "console:jan", "approved_by": None, "dropped_by": None, "cancelled_by": None,
    } | other  # fmt: skip


def account(name: str, **other: Any) -> dict[str, Any]:
    return {
        "account": name, "active": None, "waiting": None, "paused_since": None, "cursor": AT, "last_run": run(),
        "last_success_run": "01J", "stale_seconds": 190.0, "rejects": 2, "rows_without_reference": 0, "sells_waiting": 0,
        "sells_wait_for": None, "skipped_images": 0, "held": [], "quota": QUOTA, "lanes": {"urgent": 0, "bulk": 0},
        "held_plan": {"run": "01J", "hash": "x", "count": 200, "created_at": AT, "expires_at": AT}, "pushes_waiting": 0,
        "conflicts": [], "forecast": {"active": None, "incremental": FORECAST, "full": FORECAST},
    } | other  # fmt: skip


def progress(**other: Any) -> dict[str, Any]:
    return {
        "run": "01J", "account": "dex", "mode": "full", "state": "running", "stage": "apply", "cars_done": 1200,
        "cars_total": 4000, "percent": 30, "seconds_left": 200.0, "text": "", "requests": 18, "rejected": 2, "waits_for": None,
    } | other  # fmt: skip


def item(number: int, **other: Any) -> dict[str, Any]:
    return {
        "reference": f"DG-{number:05d}", "title": f"Volkswagen Golf 1.0 TSI {number}", "action": "update", "kind": "price",
        "reason": "changed in the source", "dealer": "ab12", "dealer_name": "DEMO-GENT",
        "image": "https://photos.invalid/DG/1.jpg", "listing_url": "https://www.okasie.be/x",
        "changes": {"price": {"old": 17950, "new": 8950}, "mileage": {"old": 12000, "new": None}},
    } | other  # fmt: skip


def plan(**other: Any) -> dict[str, Any]:
    items = [item(n) for n in range(1, 9)]
    items.append(item(9, action="sell", kind="gone", changes={"status": {"old": "active", "new": "sold"}}))
    items.append(
        item(
            10,
            changes={"description": {"old": None, "new": "Mooie wagen. " * 60, "old_known": False}},
            kind="fields",
            image=None,
        )
    )
    return {
        "account": "dex", "run": "01JDA0000000000000000000PL", "mode": "incremental", "created_at": AT, "expires_at": AT, "count": 200,
        "holds": [{"guard": "price_change", "dealer": "ab12", "what": "updates", "count": 200, "reason": "200 prices move by more than max_price_change_percent = 50: DG-00001 from 17950 to 8950", "fields": []}],
        "items": items, "items_left_out": 190, "forecast": FORECAST,
        "groups": [
            {"dealer": "ab12", "dealer_name": "DEMO-GENT", "action": "update", "kind": "price", "count": 199, "price_old": 3500000, "price_new": 1700000},
            {"dealer": "ab12", "dealer_name": "DEMO-GENT", "action": "sell", "kind": "gone", "count": 1, "price_old": 17950, "price_new": None},
        ],
    } | other  # fmt: skip


def listing(number: int, **other: Any) -> dict[str, Any]:
    return {
        "reference": f"DG-{number:05d}", "title": f"Skoda Octavia Combi 2.0 D {number}", "vin": "TMBZZZ1Z0A1234567", "status": "active",
        "price": 13900 + number, "listing_url": "https://www.okasie.be/advert/1", "state": ["live", "sold", "rejected", "held"][number % 4], "updated_at": AT,
        "online": True,
    } | other  # fmt: skip


def reject(number: int, **other: Any) -> dict[str, Any]:
    return {
        "reference": f"DG-{number:05d}", "title": "Peugeot 208", "state": "invalid", "where": f"dex.csv line {number}", "code": "not_a_number", "fields": ["price"],
        "message": "price: expected a number, got '17.x'", "request_id": "", "attempts": 0, "first_seen": AT, "last_seen": AT,
        "contract": None, "holds_sells": False, "online": True,
        "issues": [{"field": "price", "code": "not_a_number", "value": "17.x"}, {"field": "status", "code": "not_allowed", "value": "weg"}],
    } | other  # fmt: skip


def why(**other: Any) -> dict[str, Any]:
    return {
        "reference": "DG-00007", "account": "dex", "title": "Skoda Octavia Combi 2.0 D", "vin": "TMBZZZ1Z0A1234567", "state": "rejected", "online": True,
        "listing_url": "https://www.okasie.be/advert/1", "ledger": {"status": "active"}, "reject": reject(7), "waiting": None,
        "held_run": "01J", "sell_waits_for": None, "skipped_images": {"count": 2, "images": [], "tries": 1, "next_try": AT, "given_up": False},
        "events": [
            {"at": AT, "kind": "pushed", "reason": "changed in the source", "run": None, "by": "console:jan", "request_id": "r1", "changes": [{"field": "price", "before": 13900, "after": 12900}, {"field": "title", "after": "Skoda"}], "changes_left_out": 1, "code": None, "message": None, "warnings": []},
            {"at": AT, "kind": "drift", "reason": "changed on the marketplace, ours sent again", "run": "01JDA", "by": None, "request_id": "r1", "changes": [{"field": "mileage", "ours": 13900, "theirs": 12900}], "changes_left_out": 0, "code": None, "message": None, "warnings": []},
            {"at": AT, "kind": "created", "reason": "new in the source", "run": "01JDA", "by": None, "request_id": "r1", "changes": [], "changes_left_out": 0, "code": None, "message": None, "warnings": []},
        ],
        "next": "its row is invalid: nothing is sent until the row is fixed; the marketplace keeps its version",
    } | other  # fmt: skip
