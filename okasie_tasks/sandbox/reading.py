"""The sandbox's endpoints that read: lists of listings and of locations, independent of HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from okasie_tasks.sandbox.codes import Refusal, invalid, refusal
from okasie_tasks.sandbox.listings import Dealer, Listing
from okasie_tasks.sandbox.rendering import profile
from okasie_tasks.sandbox.routing import Caller, boolean, integer, moment, parameter
from okasie_tasks.sandbox.store import Store, own_provider

STATUSES: Final = ("active", "pending", "sold", "draft")
PAGES: Final = range(1, 2**31)
PAGE_SIZES: Final = range(1, 201)


class Reader:
    """The reading endpoints over one store. ``clock`` gives Unix time in seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self._clock = clock

    def _refusal(self, code: str, message: str) -> Refusal:
        return refusal(code, message, self.store.quirks.error_codes)

    def list_listings(self, caller: Caller, query: dict[str, str], location: str | None = None) -> bytes:
        """GET /listings and GET /locations/{id}/listings: the response as JSON bytes."""
        caller.require("read:listings")
        page = integer(query, 1, PAGES, "page", "page_number")
        size = integer(query, 50, PAGE_SIZES, "pageSize", "page_size", "limit")
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
        since = parameter(query, "updatedSince", "updated_since")
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
        """The dealers whose listings are asked for; None: all. Filters that come together all apply."""
        dealer = parameter(query, "dealerId", "locationId", "profileId", "userId")
        parent = parameter(query, "parentDealerId", "parentId", "companyId")
        code = parameter(query, "locationCode", "location_code")
        if location is not None:
            if location not in reached:
                raise self._refusal("LOCATION_NOT_FOUND", "Location not found")
            children = boolean(query, False, "includeChildren")
            dealer, parent = (None, location) if children else (location, None)
        if not (dealer or parent or code):
            return None
        return {
            found.id
            for found in reached.values()
            if (not dealer or found.id == dealer.lower())
            and (not parent or parent.lower() in (found.id, found.parent))
            and (not code or found.code.casefold() == code.casefold())
        }

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
        parent = parameter(query, "parentId", "parent_id")
        children = boolean(query, True, "includeChildren")
        with_counts = boolean(query, True, "withCounts")
        dealers = [d for d in self._reached(caller).values() if search in f"{d.name} {d.code}".casefold()]
        if parent:
            dealers = [d for d in dealers if parent.lower() in (d.id, d.parent if children else None)]
        elif not children:
            dealers = [d for d in dealers if d.parent is None]
        data = [self._location(dealer) for dealer in dealers]
        if with_counts:
            counts = self._counts(caller)
            for location in data:
                active, total = counts.get(location["id"], (0, 0))
                active += self.store.quirks.count_error
                location["stats"] = {"activeListings": active, "totalListings": total}
        meta = {
            "total": len(data),
            "profileIds": [dealer.id for dealer in dealers],
            "rootProfileIds": [dealer.id for dealer in dealers if dealer.parent is None],
            "filters": {"parentId": parent, "search": query.get("search")},
            "partner": self._partner(caller),
        }
        return {"data": data, "meta": meta}

    def _counts(self, caller: Caller) -> dict[str, tuple[int, int]]:
        """Per dealer: its active listings, and all of them."""
        counts: dict[str, tuple[int, int]] = {}
        for row in self.store.select(caller.partner, None):
            active, total = counts.get(row.dealer, (0, 0))
            counts[row.dealer] = active + (row.status == "active"), total + 1
        return counts

    def _location(self, dealer: Dealer) -> dict[str, Any]:
        return {**profile(dealer, self.store.dealers.get(dealer.parent or "")), "isRoot": dealer.parent is None}
