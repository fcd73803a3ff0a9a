"""The sandbox's endpoints as plain functions, independent of HTTP.

Each takes the `Caller` and the request, and returns the response: a document, its JSON, or ``(status, document)``.
Raises `Refusal` for a request that is refused.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from okasie_tasks.sandbox.listings import Dealer, Listing, image_urls
from okasie_tasks.sandbox.routing import Caller, Refusal, check_reference, integer, invalid, moment
from okasie_tasks.sandbox.store import Store, own_provider
from okasie_tasks.sandbox.validation import canonical, issues_of

STATUSES: Final = ("active", "pending", "sold", "draft")
PAGE_SIZES: Final = range(1, 201)
_WRITES_KEPT: Final = 100_000


class Write(NamedTuple):
    """One write of a listing. ``outcome``: created, updated, refused, or the status that was set."""

    at: float
    kind: str
    reference: str
    outcome: str


class Api:
    """All endpoints over one store. ``clock`` gives Unix time in seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self._clock = clock
        self.skip_images = False
        self.writes: defaultdict[str, deque[Write]] = defaultdict(lambda: deque(maxlen=_WRITES_KEPT))
        """Per partner, in order of arrival."""

    # -- reading ---------------------------------------------------------------------------------------------------

    def list_listings(self, caller: Caller, query: dict[str, str], location: str | None = None) -> bytes:
        """GET /listings and GET /locations/{id}/listings: the response as JSON bytes."""
        caller.require("read:listings")
        page = integer(query, 1, "page", "page_number")
        size = integer(query, 50, "pageSize", "page_size", "limit")
        if size not in PAGE_SIZES or page < 1:
            raise invalid("page" if size in PAGE_SIZES else "pageSize", "Out of range", "too_big")
        keep = self._filter(caller, query, location)
        quirks = self.store.quirks
        size = min(size, quirks.page_rows or size)
        if quirks.insert_during_walk and page > 1:
            self._insert(caller, quirks.insert_during_walk)
        rows = self.store.select(caller.partner, keep, shuffle=self.store.walks if quirks.shuffle_pages else None)
        shown = rows[(page - 1) * size : page * size]
        total = len(rows)
        tail = msgspec.json.encode({
            "pagination": {"page": page, "pageSize": size, "totalItems": total, "totalPages": -(-total // size)},
            "meta": {"partner": self._partner(caller), "filters": {}, "profileScope": {}},
        })  # fmt: skip
        return b'{"data":[' + b",".join(self.store.render(shown)) + b"]," + tail[1:]

    def _partner(self, caller: Caller) -> dict[str, Any]:
        profiles = list(self._reached(caller))
        return {
            "id": f"p-{caller.partner}", "name": caller.partner, "source": own_provider(caller.partner),
            "access": {"scope": "restricted", "rootProfileIds": profiles[:1], "profileIds": profiles},
        }  # fmt: skip

    def _reached(self, caller: Caller) -> dict[str, Dealer]:
        return {
            dealer.id: dealer
            for (partner, code), dealer in self.store.by_code.items()
            if partner == caller.partner and caller.reaches(code)
        }

    def _filter(self, caller: Caller, query: dict[str, str], location: str | None) -> Callable[[Listing], bool] | None:
        tests: list[Callable[[Listing], bool]] = []
        status = query.get("status", "active")
        if status != "all":
            if status not in STATUSES:
                raise invalid("status", "Invalid enum value", "invalid_enum_value")
            tests.append(lambda row: row.status == status)
        since = query.get("updatedSince", query.get("updated_since"))
        if since:
            begin = moment(since)
            # Inclusive, at the precision of a second that rows show.
            tests.append(lambda row: int(row.updated_at) >= begin)
        reached = self._reached(caller)
        dealers = self._dealers(reached, query, location)
        if dealers is not None:
            tests.append(lambda row: row.dealer in dealers)
        if caller.reach is not None:
            tests.append(lambda row: row.dealer in reached)
        return (lambda row: all(test(row) for test in tests)) if tests else None

    def _dealers(self, reached: dict[str, Dealer], query: dict[str, str], location: str | None) -> set[str] | None:
        dealers = [query[n] for n in ("dealerId", "locationId", "profileId", "userId") if n in query]
        parents = [query[n] for n in ("parentDealerId", "parentId", "companyId") if n in query]
        code = query.get("locationCode", query.get("location_code"))
        if location is not None:
            if location not in reached:
                raise Refusal(404, "NOT_FOUND", "Location not found")
            children = query.get("includeChildren", "false") == "true"
            return {d.id for d in reached.values() if d.id == location or (children and d.parent == location)}
        if dealers:
            return {dealers[0]}
        if parents:
            return {d.id for d in reached.values() if parents[0] in (d.id, d.parent)}
        if code:
            return {d.id for d in reached.values() if d.code.casefold() == code.casefold()}
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
        caller.require("read:locations")
        search = query.get("search", "").casefold()
        parent = query.get("parentId", query.get("parent_id"))
        children = query.get("includeChildren", "true") != "false"
        dealers = [d for d in self._reached(caller).values() if search in f"{d.name} {d.code}".casefold()]
        if parent:
            dealers = [d for d in dealers if d.id == parent or (children and d.parent == parent)]
        counts: dict[str, list[int]] = {}
        for row in self.store.select(caller.partner, None):
            tally = counts.setdefault(row.dealer, [0, 0])
            tally[0] += row.status == "active"
            tally[1] += 1
        data = [self._location(dealer, counts.get(dealer.id, [0, 0])) for dealer in dealers]
        return {"data": data, "meta": {"total": len(data), "profileIds": [d.id for d in dealers],
                                       "filters": {"parentId": parent, "search": search or None},
                                       "partner": self._partner(caller)}}  # fmt: skip

    def _location(self, dealer: Dealer, counts: list[int]) -> dict[str, Any]:
        return {
            "id": dealer.id, "parentId": dealer.parent, "isRoot": dealer.parent is None, "locationCode": dealer.code,
            "companyName": dealer.name, "fullName": dealer.name, "displayName": dealer.name, "parent": None,
            "stats": {"activeListings": counts[0] + self.store.quirks.count_error, "totalListings": counts[1]},
        }  # fmt: skip

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, caller: Caller, reference: str, body: object) -> tuple[int, dict[str, Any]]:
        """PUT /listings/{reference}."""
        caller.require("write:listings")
        check_reference(reference)
        if not isinstance(body, dict):
            raise Refusal(400, "INVALID_BODY", "Expected an object")
        data = self._write(caller, "put", reference, body)
        return (201 if data["created"] else 200), {"data": data}

    def bulk(self, caller: Caller, payload: object, *, leave_out: bool = False) -> dict[str, Any]:
        """POST /listings/bulk-upsert."""
        caller.require("write:listings")
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
                check_reference(reference)
                results.append({"index": index, **self._write(caller, "bulk", str(reference), item)})
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

    def _write(self, caller: Caller, kind: str, reference: str, raw: dict[str, Any]) -> dict[str, Any]:
        try:
            data = self._upsert(caller, reference, raw)
        except Refusal:
            self._record(caller, kind, reference, "refused")
            raise
        self._record(caller, kind, reference, "created" if data["created"] else "updated")
        return data

    def _record(self, caller: Caller, kind: str, reference: str, outcome: str) -> None:
        self.writes[caller.partner].append(Write(self._clock(), kind, reference, outcome))

    def _upsert(self, caller: Caller, reference: str, raw: dict[str, Any]) -> dict[str, Any]:
        if error := self.store.quirks.item_errors.get(reference):
            raise Refusal(error.status, error.code, error.message)
        body = canonical(raw)
        body.pop("externalReference", None)
        self._check(body)
        dealer = self._dealer(caller, body)
        self._check_reach(caller, self.store.by_reference.get((caller.partner, reference)))
        skipped = self._unfetched(image_urls(body))
        listing, created = self.store.upsert(caller.partner, reference, body, dealer, self._clock(), skipped=skipped)
        data: dict[str, Any] = {
            "listingId": listing.id, "externalReference": reference, "status": listing.status, "created": created,
        }  # fmt: skip
        if skipped:
            data["warnings"] = {"skippedImages": [{"source": url, "reason": "mirror_failed"} for url in skipped]}
        return data

    def _unfetched(self, urls: list[str]) -> list[str]:
        """The images that the sandbox reports as not fetched: see `Quirks` and the fault ``skip_images``."""
        mark = self.store.quirks.skip_images_with
        return [u for i, u in enumerate(urls) if (self.skip_images and i == 0) or (mark and mark in u)]

    def _check(self, body: dict[str, Any]) -> None:
        """Refuse a body that violates the contract, or the quirk ``refuse_word``."""
        word, issues = self.store.quirks.refuse_word, issues_of(body)
        if word and word in str(body.get("title")):
            issues.append({"path": "title", "message": f"Must not contain {word}", "code": "custom"})
        if issues:
            raise Refusal(422, "VALIDATION_FAILED", "Validation failed", issues)

    def _check_reach(self, caller: Caller, listing: Listing | None) -> None:
        """Refuse a listing of a dealer outside the key's access."""
        if listing is not None and not caller.reaches(self.store.dealers[listing.dealer].code):
            raise Refusal(403, "PROFILE_FORBIDDEN", "The listing is outside your access")

    def _dealer(self, caller: Caller, body: dict[str, Any]) -> Dealer:
        profile, code = body.get("dealerProfileId"), str(body.get("dealerLocationCode"))
        if profile:
            try:
                dealer = self.store.dealers.get(str(UUID(profile)))
            except ValueError:
                raise Refusal(400, "INVALID_PROFILE", "dealerProfileId is not a UUID") from None
            if dealer is None or dealer.id not in self._reached(caller):
                raise Refusal(403, "PROFILE_FORBIDDEN", "The profile is outside your access")
            return dealer
        if not caller.may_write_to(code):
            raise Refusal(403, "PROFILE_FORBIDDEN", "The location is outside your access")
        return self.store.add_dealer(caller.partner, code)

    def delete(self, caller: Caller, reference: str) -> dict[str, Any]:
        """DELETE /listings/{reference}: a soft delete, idempotent."""
        return self._status(caller, "delete", reference, "sold")

    def set_status(self, caller: Caller, reference: str, body: object) -> dict[str, Any]:
        """POST /listings/{reference}/status."""
        caller.require("write:listings")
        if not isinstance(body, dict):
            raise Refusal(400, "INVALID_BODY", "Expected an object")
        if body.get("status") not in STATUSES:
            raise invalid("status", "Invalid status", "invalid_enum_value")
        return self._status(caller, "status", reference, body["status"])

    def _status(self, caller: Caller, kind: str, reference: str, status: str) -> dict[str, Any]:
        caller.require("write:listings")
        check_reference(reference)
        try:
            data = self._set_status(caller, reference, status)
        except Refusal:
            self._record(caller, kind, reference, "refused")
            raise
        self._record(caller, kind, reference, status)
        return {"data": data}

    def _set_status(self, caller: Caller, reference: str, status: str) -> dict[str, Any]:
        listing = self.store.by_reference.get((caller.partner, reference))
        if listing is None:
            raise Refusal(404, "NOT_FOUND", "Listing not found for this partner")
        self._check_reach(caller, listing)
        if status in ("active", "pending"):
            self._check({**listing.body, "status": status})
        if listing.status != status:
            self.store.set_status(listing, status, self._clock())
        return {"listingId": listing.id, "externalReference": reference, "status": status}
