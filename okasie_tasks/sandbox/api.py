"""The sandbox's endpoints as plain functions, independent of HTTP.

Each takes the `Caller` and the request, and returns the response: a document, its JSON, or ``(status, document)``.
Raises `Refusal` for a request that is refused.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from uuid import UUID

from okasie_tasks.sandbox.codes import Refusal, invalid, refusal, validation_failed
from okasie_tasks.sandbox.listings import Dealer, Listing, image_urls
from okasie_tasks.sandbox.reading import STATUSES, Reader
from okasie_tasks.sandbox.routing import Caller, check_reference
from okasie_tasks.sandbox.store import Store
from okasie_tasks.sandbox.validation import canonical, issues_of

MOST_IMAGES: Final = 50
_WRITES_KEPT: Final = 100_000


class Write(NamedTuple):
    """One write of a listing. ``outcome``: created, updated, refused, or the status that was set."""

    at: float
    kind: str
    reference: str
    outcome: str


class Api(Reader):
    """All endpoints over one store. ``clock`` gives Unix time in seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        super().__init__(store, clock)
        self.skip_images = False
        self.writes: defaultdict[str, deque[Write]] = defaultdict(lambda: deque(maxlen=_WRITES_KEPT))
        """Per partner, in order of arrival."""

    def put(self, caller: Caller, reference: str, body: object) -> tuple[int, dict[str, Any]]:
        """PUT /listings/{reference}."""
        caller.require("write:listings")
        check_reference(reference)
        if not isinstance(body, dict):
            raise refusal("INVALID_BODY", "Expected an object")
        data = self._write(caller, "put", reference, body)
        return (201 if data["created"] else 200), {"data": data}

    def bulk(self, caller: Caller, payload: object, *, leave_out: bool = False) -> dict[str, Any]:
        """POST /listings/bulk-upsert."""
        caller.require("write:listings")
        items = payload.get("items") if isinstance(payload, dict) else payload
        if not isinstance(items, list):
            raise refusal("INVALID_BODY", "Expected an array of listings")
        if not items:
            raise refusal("EMPTY_PAYLOAD", "No items")
        if len(items) > 100:
            raise refusal("TOO_MANY_ITEMS", "At most 100 items")
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
        images = image_urls(body)
        skipped = self._unfetched(images)
        listing, created = self.store.upsert(caller.partner, reference, body, dealer, self._clock(), skipped=skipped)
        data: dict[str, Any] = {
            "listingId": listing.id, "externalReference": reference, "status": listing.status, "created": created,
        }  # fmt: skip
        return data | self._report(images, skipped)

    def _report(self, images: list[str], skipped: list[str]) -> dict[str, Any]:
        """The report of skipped images, in the first shape or, with the quirk ``image_error``, the second."""
        if error := self.store.quirks.image_error:
            failed = [{"url": url, "error": error} for url in skipped]
            return {"imagesProcessed": len(images) - len(skipped), "imagesFailed": len(skipped), "failedImages": failed}
        if not skipped:
            return {}
        return {"warnings": {"skippedImages": [{"source": url, "reason": "mirror_failed"} for url in skipped]}}

    def _unfetched(self, urls: list[str]) -> list[str]:
        """The images that the sandbox reports as not fetched: see `Quirks` and the fault ``skip_images``."""
        mark = self.store.quirks.skip_images_with
        return [
            url
            for index, url in enumerate(urls)
            if index >= MOST_IMAGES or (self.skip_images and index == 0) or (mark and mark in url)
        ]

    def _check(self, body: dict[str, Any]) -> None:
        """Refuse a body that violates the contract, or the quirk ``refuse_word``."""
        word, issues = self.store.quirks.refuse_word, issues_of(body)
        if word and word in str(body.get("title")):
            issues.append({"path": "title", "message": f"Must not contain {word}", "code": "custom"})
        if issues:
            raise validation_failed(issues, self.store.quirks.error_codes)

    def _check_reach(self, caller: Caller, listing: Listing | None) -> None:
        """Refuse a listing of a dealer outside the key's access."""
        if listing is not None and not caller.reaches(self.store.dealers[listing.dealer].code):
            raise self._refusal("FORBIDDEN", "The listing is outside your access")

    def _dealer(self, caller: Caller, body: dict[str, Any]) -> Dealer:
        profile, code = body.get("dealerProfileId"), str(body.get("dealerLocationCode"))
        if profile:
            try:
                dealer = self.store.dealers.get(str(UUID(profile)))
            except ValueError:
                raise refusal("INVALID_PROFILE", "dealerProfileId is not a UUID") from None
            if dealer is None or dealer.id not in self._reached(caller):
                raise self._refusal("FORBIDDEN", "The profile is outside your access")
            return dealer
        if not caller.may_write_to(code):
            known = (caller.partner, code.casefold()) in self.store.by_code
            raise self._refusal(
                "FORBIDDEN" if known else "INVALID_LOCATION_CODE", "The location is outside your access"
            )
        return self.store.add_dealer(caller.partner, code)

    def delete(self, caller: Caller, reference: str) -> dict[str, Any]:
        """DELETE /listings/{reference}: a soft delete, idempotent."""
        return self._status(caller, "delete", reference, "sold")

    def set_status(self, caller: Caller, reference: str, body: object) -> dict[str, Any]:
        """POST /listings/{reference}/status."""
        caller.require("write:listings")
        if not isinstance(body, dict):
            raise refusal("INVALID_BODY", "Expected an object")
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
            raise self._refusal("LISTING_NOT_FOUND", "Listing not found for this partner")
        self._check_reach(caller, listing)
        if status in ("active", "pending"):
            self._check({**listing.body, "status": status})
        if listing.status != status:
            self.store.set_status(listing, status, self._clock())
        return {"listingId": listing.id, "externalReference": reference, "status": status}
