"""A marketplace in memory, for one thread: each request meets the next of the faults that wait."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from okasie_tasks.errors import ItemRejected, NoPermit, RateLimited, Unavailable
from okasie_tasks.ports import ItemAnswer, Lane, Page, WriteAnswer
from tests.sync.market import read_rows
from tests.sync.stock import PLACE, SOLD, Clock

OF_A_CALL: Final = ("lost", "done but lost", "500", "429", "no permit", "refused whole")
OF_AN_ITEM: Final = ("left out", "done but left out", "item 500")


@dataclasses.dataclass
class Row:
    """What the marketplace holds. ``provider``: whose it is; rows of others need no reference."""

    identity: str
    body: dict[str, Any]
    changed_ms: int
    provider: str = "us"

    @property
    def live(self) -> bool:
        return bool(self.body["status"] != SOLD)


@dataclasses.dataclass(frozen=True)
class Write:
    """A write as it reaches the marketplace. ``sure``: whether its sender hears of it. ``body`` None: a sell."""

    lane: Lane
    reference: str
    body: dict[str, Any] | None
    before: Row | None
    sure: bool


class Observer:
    """Whoever watches: told before a write takes effect, of refusals and of what was read."""

    def wrote(self, write: Write) -> None: ...
    def refused(self, lane: Lane, reference: str, body: dict[str, Any]) -> None: ...
    def listed(self, row: Row) -> None: ...


class FakeMarketplace:
    """The port ``Marketplace``. ``rows``: by reference, or by id for those without one."""

    def __init__(self, clock: Clock, observer: Observer, *, page_size: int) -> None:
        self.clock, self.observer, self.page_size = clock, observer, page_size
        self.rows: dict[str, Row] = {}
        self.faults: list[str] = []
        self.quirks: set[str] = set()
        self.refused_prices: set[int] = set()
        self.refused_dealers: set[str] = set()
        self.unnamed: set[str] = set()
        """References that no answer of a bulk call names, and that no bulk call writes."""
        self.writes = self.requests = 0
        self._lane: Lane = "bulk"

    def needs_more_workers(self, pace_seconds: float) -> bool:
        return False

    @contextmanager
    def permit(self, *, ticket: str, lane: Lane = "bulk", **_: bool) -> Iterator[FakeMarketplace]:
        self.clock.step()
        if self.faults[:1] == ["no permit"]:
            del self.faults[0]
            raise NoPermit("no room", seconds=0.2)
        self._lane = lane
        yield self

    def list_page(self, page: int, *, updated_since: datetime | None = None, known: Collection[bytes] = ()) -> Page:
        since_ms = updated_since.timestamp() * 1000 if updated_since else 0
        return self._request(lambda _: self._page(page, since_ms, known))  # type: ignore[no-any-return]

    def bulk_upsert(self, items: Sequence[tuple[str, bytes]]) -> WriteAnswer:
        bodies = [json.loads(body) for _, body in items]
        return self._request(lambda fault: self._upsert(bodies, fault, self.unnamed))  # type: ignore[no-any-return]

    def put(self, reference: str, body: bytes) -> WriteAnswer:
        whole = {**json.loads(body), "externalReference": reference}
        return self._request(lambda fault: self._put(whole, fault))  # type: ignore[no-any-return]

    def delete(self, reference: str) -> WriteAnswer:
        return self._request(lambda fault: self._sell(reference, fault))  # type: ignore[no-any-return]

    def _request(self, effect: Callable[[str], Any]) -> Any:
        """Sent, arrived, answered; the process may die between any two of them."""
        self.requests += 1
        fault = self.faults.pop(0) if self.faults else ""
        self.clock.step()
        if fault == "429":
            raise RateLimited("too many requests", seconds=1)
        if fault in ("lost", "500"):
            raise _unavailable(in_doubt=fault == "lost")
        answer = effect(fault)
        self.clock.step()
        if fault == "done but lost":
            raise _unavailable(in_doubt=True)
        return answer

    def _page(self, page: int, since_ms: float, known: Collection[bytes]) -> Page:
        rows = [row for row in self.rows.values() if row.changed_ms // 1000 * 1000 >= since_ms]
        shown = rows[(page - 1) * self.page_size : page * self.page_size]
        for row in shown:
            self.observer.listed(row)
        found, unread = read_rows(list(map(self.rendered, shown)), known)
        pages = max(1, -(-len(rows) // self.page_size))
        return Page(found, page, len(rows), pages, _moment(self.clock.now_ms), "r", known=unread)

    def rendered(self, row: Row) -> dict[str, Any]:
        """The row as reads return it."""
        raw = {name: value for name, value in row.body.items() if name not in PLACE}
        if "order" in self.quirks:
            raw["features"] = raw["features"][::-1]
        if "spaces" in self.quirks:
            raw["description"] += " \n"
        if "rounds" in self.quirks:
            raw["powerKw"] += 0.3
        if "spelling" in self.quirks:
            raw["title"] = raw["title"].upper()
        code = raw.pop("dealerLocationCode")
        return raw | {
            "id": row.identity, "externalProvider": row.provider, "updatedAt": _moment(row.changed_ms).isoformat(),
            "location": dict(PLACE), "dealer": {"id": f"profile-{code}", "locationCode": code},
            "images": [{"url": f"https://cdn.invalid/{n}", "position": n} for n, _ in enumerate(raw["images"])],
        }  # fmt: skip

    def _put(self, body: dict[str, Any], fault: str) -> WriteAnswer:
        answer = self._upsert([body], fault if fault in OF_A_CALL else "")
        told = answer.items[0]
        if told.outcome == "refused":
            raise ItemRejected(told.message or "", status=told.http_status, code=told.code)
        return answer

    def _upsert(self, bodies: list[dict[str, Any]], fault: str, unnamed: Collection[str] = ()) -> WriteAnswer:
        if fault == "refused whole" and len(bodies) > 1:
            raise ItemRejected("bad request", status=400)
        faults = [fault if number == 0 else "" for number, _ in enumerate(bodies)]
        pairs = zip(bodies, faults, strict=True)
        faults = ["left out" if body["externalReference"] in unnamed else one for body, one in pairs]
        if fault == "done but lost":
            faults = [fault] * len(bodies)
        return WriteAnswer(tuple(map(self._upsert_one, bodies, faults)), "r")

    def _upsert_one(self, body: dict[str, Any], fault: str) -> ItemAnswer:
        reference = body["externalReference"]
        status = 422 if body["price"] in self.refused_prices else 403
        if status == 422 or body["dealerLocationCode"] in self.refused_dealers:
            self.observer.refused(self._lane, reference, body)
            return ItemAnswer(reference, "refused", http_status=status, code="REFUSED", message="not like this")
        if fault == "item 500":
            return ItemAnswer(reference, "refused", http_status=500, code="UPSERT_FAILED")
        if fault == "left out":
            return ItemAnswer(reference, "unknown")
        created = reference not in self.rows
        self._write(reference, body, sure=not fault.startswith("done"))
        if fault == "done but left out":
            return ItemAnswer(reference, "unknown")
        return ItemAnswer(reference, "accepted", status=body["status"], created=created)

    def _sell(self, reference: str, fault: str) -> WriteAnswer:
        self._write(reference, None, sure=not fault.startswith("done"))
        if reference not in self.rows:
            raise ItemRejected("not found", status=404)
        return WriteAnswer((ItemAnswer(reference, "accepted", status=SOLD),), "r")

    def _write(self, reference: str, body: dict[str, Any] | None, *, sure: bool) -> None:
        self.writes += 1
        before = self.rows.get(reference)
        self.observer.wrote(Write(self._lane, reference, body, before and dataclasses.replace(before), sure))
        if body is not None:
            self.rows[reference] = Row(f"id-{reference}", body, self.clock.now_ms)
        elif before is not None:
            self.rows[reference] = dataclasses.replace(
                before, body=before.body | {"status": SOLD}, changed_ms=self.clock.now_ms
            )


def _unavailable(*, in_doubt: bool) -> Unavailable:
    error = Unavailable("no answer" if in_doubt else "a bad day", seconds=0)
    error.in_doubt = in_doubt
    return error


def _moment(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms // 1000, UTC)
