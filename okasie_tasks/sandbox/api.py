"""The sandbox's endpoints as plain functions of a request: what the marketplace answers, without HTTP around it.

Each takes the `Caller` and what was sent, and returns ``(status, document)``; refusals are `Refusal`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import unquote
from uuid import UUID

import msgspec

from okasie_tasks.sandbox.store import Dealer, Listing, Store
from okasie_tasks.sandbox.validation import REFERENCE, canonical, issues_of

SCOPES: Final = ("read:listings", "read:locations", "write:listings")
STATUSES: Final = ("active", "pending", "sold", "draft")
PAGE_SIZES: Final = range(1, 201)


class Refusal(Exception):
    """An error answer: status, code, message and, for validation, issues."""

    def __init__(self, status: int, code: str, message: str, issues: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.issues = status, code, message, issues

    def document(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.issues:
            error["issues"] = self.issues
        return {"error": error}


class Caller(NamedTuple):
    """Who is calling: the partner behind a key, its scopes, and the dealers it may touch (None: any, made as named)."""

    partner: str
    scopes: frozenset[str]
    codes: tuple[str, ...] | None


class Api:
    """All endpoints over one store. ``clock`` gives Unix time in seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self._clock = clock
        self._walks = Random(0)  # noqa: S311 - page order for tests
        self.skip_images = False

    # -- reading ---------------------------------------------------------------------------------------------------

    def list_listings(self, caller: Caller, query: dict[str, str], location: str | None = None) -> bytes:
        """GET /listings and GET /locations/{id}/listings: the answer as JSON bytes."""
        _scope(caller, "read:listings")
        page = _integer(query, 1, "page", "page_number")
        size = _integer(query, 50, "pageSize", "page_size", "limit")
        if size not in PAGE_SIZES or page < 1:
            raise Refusal(
                422,
                "VALIDATION_FAILED",
                "Validation failed",
                [
                    {
                        "path": "pageSize" if size not in PAGE_SIZES else "page",
                        "message": "Out of range",
                        "code": "too_big",
                    }
                ],
            )
        keep = self._filter(caller, query, location)
        quirks = self.store.quirks
        if quirks.insert_during_walk and page > 1:
            self._insert(caller, quirks.insert_during_walk)
        rows = self.store.select(caller.partner, keep, shuffle=self._walks if quirks.shuffle_pages else None)
        shown = rows[(page - 1) * size : page * size]
        total = len(rows)
        tail = msgspec.json.encode({
            "pagination": {"page": page, "pageSize": size, "totalItems": total, "totalPages": -(-total // size)},
            "meta": {"partner": self._partner(caller), "filters": {}, "profileScope": {}},
        })  # fmt: skip
        return b'{"data":[' + b",".join(self.store.render(shown)) + b"]," + tail[1:]

    def _partner(self, caller: Caller) -> dict[str, Any]:
        profiles = [dealer.id for (partner, _), dealer in self.store.by_code.items() if partner == caller.partner]
        return {
            "id": f"p-{caller.partner}", "name": caller.partner, "source": f"sandbox-{caller.partner}",
            "access": {"scope": "restricted", "rootProfileIds": profiles[:1], "profileIds": profiles},
        }  # fmt: skip

    def _filter(self, caller: Caller, query: dict[str, str], location: str | None) -> Callable[[Listing], bool] | None:
        tests: list[Callable[[Listing], bool]] = []
        status = query.get("status", "active")
        if status != "all":
            if status not in STATUSES:
                raise Refusal(
                    422,
                    "VALIDATION_FAILED",
                    "Validation failed",
                    [{"path": "status", "message": "Invalid enum value", "code": "invalid_enum_value"}],
                )
            tests.append(lambda row: row.status == status)
        since = query.get("updatedSince", query.get("updated_since"))
        if since:
            moment = _moment(since)
            # Inclusive, at the second precision that is shown.
            tests.append(lambda row: int(row.updated_at) >= moment)
        dealers = self._dealers(caller, query, location)
        if dealers is not None:
            tests.append(lambda row: row.dealer in dealers)
        return (lambda row: all(test(row) for test in tests)) if tests else None

    def _dealers(self, caller: Caller, query: dict[str, str], location: str | None) -> set[str] | None:
        wanted = [query[n] for n in ("dealerId", "locationId", "profileId", "userId") if n in query]
        parents = [query[n] for n in ("parentDealerId", "parentId", "companyId") if n in query]
        code = query.get("locationCode", query.get("location_code"))
        mine = {d.id: d for (partner, _), d in self.store.by_code.items() if partner == caller.partner}
        if location is not None:
            if location not in mine:
                raise Refusal(404, "NOT_FOUND", "Location not found")
            children = query.get("includeChildren", "false") == "true"
            return {d.id for d in mine.values() if d.id == location or (children and d.parent == location)}
        if wanted:
            return {wanted[0]}
        if parents:
            return {d.id for d in mine.values() if parents[0] in (d.id, d.parent)}
        if code:
            return {d.id for d in mine.values() if d.code.casefold() == code.casefold()}
        return None

    def _insert(self, caller: Caller, count: int) -> None:
        dealer = self.store.add_dealer(caller.partner, "FOREIGN")
        for _ in range(count):
            row = self.store.add_foreign(
                caller.partner, None, {"title": "Inserted during the walk"}, dealer, self._clock()
            )
            order = self.store.select(caller.partner, None)
            order.insert(0, order.pop(order.index(row)))

    def list_locations(self, caller: Caller, query: dict[str, str]) -> dict[str, Any]:
        """GET /locations."""
        _scope(caller, "read:locations")
        search = query.get("search", "").casefold()
        parent = query.get("parentId", query.get("parent_id"))
        children = query.get("includeChildren", "true") != "false"
        found = [d for (partner, _), d in self.store.by_code.items() if partner == caller.partner]
        found = [d for d in found if search in f"{d.name} {d.code}".casefold()]
        if parent:
            found = [d for d in found if d.id == parent or (children and d.parent == parent)]
        counts: dict[str, list[int]] = {}
        for row in self.store.select(caller.partner, None):
            tally = counts.setdefault(row.dealer, [0, 0])
            tally[0] += row.status == "active"
            tally[1] += 1
        data = [self._location(dealer, counts.get(dealer.id, [0, 0])) for dealer in found]
        return {"data": data, "meta": {"total": len(data), "profileIds": [d.id for d in found],
                                       "filters": {"parentId": parent, "search": search or None},
                                       "partner": self._partner(caller)}}  # fmt: skip

    def _location(self, dealer: Dealer, counts: list[int]) -> dict[str, Any]:
        return {
            "id": dealer.id, "parentId": dealer.parent, "isRoot": dealer.parent is None, "locationCode": dealer.code,
            "companyName": dealer.name, "fullName": dealer.name, "displayName": dealer.name, "parent": None,
            "stats": {"activeListings": counts[0], "totalListings": counts[1]},
        }  # fmt: skip

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, caller: Caller, reference: str, body: object) -> tuple[int, dict[str, Any]]:
        """PUT /listings/{reference}."""
        _scope(caller, "write:listings")
        _reference(reference)
        if not isinstance(body, dict):
            raise Refusal(400, "INVALID_BODY", "Expected an object")
        data = self._write(caller, reference, body)
        return (201 if data["created"] else 200), {"data": data}

    def bulk(self, caller: Caller, payload: object, *, leave_out: bool = False) -> dict[str, Any]:
        """POST /listings/bulk-upsert."""
        _scope(caller, "write:listings")
        items = payload.get("items") if isinstance(payload, dict) else payload
        if not isinstance(items, list):
            raise Refusal(400, "INVALID_BODY", "Expected an array of listings")
        if not items:
            raise Refusal(400, "EMPTY_PAYLOAD", "No items")
        if len(items) > 100:
            raise Refusal(400, "TOO_MANY_ITEMS", "At most 100 items")
        results, errors = [], []
        for index, item in enumerate(items):
            reference = (
                item.get("externalReference", item.get("external_reference")) if isinstance(item, dict) else None
            )
            try:
                _reference(reference)
                results.append({"index": index, **self._write(caller, str(reference), item)})
            except Refusal as refused:
                error = {"index": index, "code": refused.code, "message": refused.message, "status": refused.status}
                if isinstance(reference, str):
                    error["externalReference"] = reference
                if refused.issues:
                    error["issues"] = refused.issues
                errors.append(error)
        if leave_out:
            results = results[::2]
        return {"data": {"successCount": len(results), "errorCount": len(errors), "results": results, "errors": errors}}

    def _write(self, caller: Caller, reference: str, raw: dict[str, Any]) -> dict[str, Any]:
        body = canonical(raw)
        body.pop("externalReference", None)
        if issues := issues_of(body):
            raise Refusal(422, "VALIDATION_FAILED", "Validation failed", issues)
        dealer = self._dealer(caller, body)
        listing, created = self.store.upsert(caller.partner, reference, body, dealer, self._clock())
        data: dict[str, Any] = {
            "listingId": listing.id, "externalReference": reference, "status": listing.status, "created": created,
        }  # fmt: skip
        if self.skip_images and body.get("images"):
            first = body["images"][0]
            source = first.get("url", first.get("imageUrl")) if isinstance(first, dict) else first
            data["warnings"] = {"skippedImages": [{"source": source, "reason": "mirror_failed"}]}
        return data

    def _dealer(self, caller: Caller, body: dict[str, Any]) -> Dealer:
        profile, code = body.get("dealerProfileId"), str(body.get("dealerLocationCode"))
        if profile:
            try:
                found = self.store.dealers.get(str(UUID(profile)))
            except ValueError:
                raise Refusal(400, "INVALID_PROFILE", "dealerProfileId is not a UUID") from None
            if found is None or (caller.partner, found.code.casefold()) not in self.store.by_code:
                raise Refusal(403, "PROFILE_FORBIDDEN", "The profile is outside your access")
            return found
        if caller.codes is not None and code.casefold() not in {c.casefold() for c in caller.codes}:
            raise Refusal(403, "PROFILE_FORBIDDEN", "The location is outside your access")
        return self.store.add_dealer(caller.partner, code)

    def delete(self, caller: Caller, reference: str) -> dict[str, Any]:
        """DELETE /listings/{reference}: a soft delete, idempotent."""
        return self._status(caller, reference, "sold")

    def set_status(self, caller: Caller, reference: str, body: object) -> dict[str, Any]:
        """POST /listings/{reference}/status."""
        _scope(caller, "write:listings")
        if not isinstance(body, dict):
            raise Refusal(400, "INVALID_BODY", "Expected an object")
        if body.get("status") not in STATUSES:
            raise Refusal(
                422,
                "VALIDATION_FAILED",
                "Validation failed",
                [{"path": "status", "message": "Invalid status", "code": "invalid_enum_value"}],
            )
        return self._status(caller, reference, body["status"])

    def _status(self, caller: Caller, reference: str, status: str) -> dict[str, Any]:
        _scope(caller, "write:listings")
        _reference(reference)
        listing = self.store.by_reference.get((caller.partner, reference))
        if listing is None:
            raise Refusal(404, "NOT_FOUND", "Listing not found for this partner")
        if status in ("active", "pending") and (issues := issues_of({**listing.body, "status": status})):
            raise Refusal(422, "VALIDATION_FAILED", "Validation failed", issues)
        if listing.status != status:
            self.store.set_status(listing, status, self._clock())
        return {"data": {"listingId": listing.id, "externalReference": reference, "status": status}}


# -- small parts ---------------------------------------------------------------------------------------------------


def _scope(caller: Caller, scope: str) -> None:
    if scope not in caller.scopes:
        raise Refusal(403, "SCOPE_DENIED", f"The key lacks the scope {scope}")


def _reference(reference: object) -> None:
    if not isinstance(reference, str) or not REFERENCE.fullmatch(unquote(reference)):
        raise Refusal(400, "INVALID_REFERENCE", "The reference is missing or not allowed")


def _integer(query: dict[str, str], default: int, *names: str) -> int:
    for name in names:
        if name in query:
            try:
                return int(query[name])
            except ValueError:
                raise Refusal(
                    422,
                    "VALIDATION_FAILED",
                    "Validation failed",
                    [{"path": name, "message": "Expected integer", "code": "invalid_type"}],
                ) from None
    return default


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(
            422,
            "VALIDATION_FAILED",
            "Validation failed",
            [{"path": "updatedSince", "message": "Expected an ISO 8601 time", "code": "invalid_string"}],
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
