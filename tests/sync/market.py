"""A marketplace and a dealer's inventory in memory, whose every step is the scheduler's."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from okasie_tasks.core.listing import Listing
from okasie_tasks.core.remote_rows import KnownRow, RemoteListing, decode_rows
from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.core.validate import parse_listing
from okasie_tasks.errors import ItemRejected, NoPermit, Unavailable
from okasie_tasks.ports import Block, ItemAnswer, Lane, Page, SourceRow, WriteAnswer
from okasie_tasks.sources.blocks import BlockSource
from tests.sync.stock import pickled
from tests.sync.support import Scheduler

SOLD = "sold"
_PLACE = ("postalCode", "city", "province", "latitude", "longitude")


def raw_listing(reference: str, price: int) -> dict[str, Any]:
    """A listing in write shape; within a round a price is one content."""
    return {
        "externalReference": reference, "status": "active", "title": "Skoda Octavia", "price": price, "mileage": 88200,
        "dealerLocationCode": "GENT", "postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen",
    }  # fmt: skip


def listing(reference: str, price: int) -> Listing:
    return parse_listing(raw_listing(reference, price), current_year=2026).listing


class Request:
    """A write: when it was sent, took effect, and was over for its sender."""

    def __init__(self, who: str, references: Sequence[str], sent_ms: int) -> None:
        self.who, self.references, self.sent_ms = who, references, sent_ms
        self.effect_ms = self.over_ms = 0
        self.answer: Any = None
        self.refused: ItemRejected | None = None

    @property
    def end_ms(self) -> int:
        return max(self.effect_ms, self.over_ms)

    def __repr__(self) -> str:
        return f"{self.who} {self.references} {self.sent_ms}..{self.effect_ms}..{self.over_ms}"


class FakeMarket:
    """The port ``Marketplace``. ``rows``: reference -> body in write shape, with its status."""

    def __init__(self, scheduler: Scheduler, *, page_size: int) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.writes: list[Request] = []
        self.losses = self.refusals = 0
        """Answers still to be lost, permits still to be refused."""
        self._scheduler, self._page_size = scheduler, page_size

    def needs_more_workers(self, pace_seconds: float) -> bool:
        return False

    @contextmanager
    def permit(self, *, ticket: str, lane: Lane = "bulk", **_: bool) -> Iterator[FakeMarket]:
        self._scheduler.step()
        if self.refusals and self._scheduler.rng.random() < 0.2:
            self.refusals -= 1
            raise NoPermit("no room", seconds=0.2)
        yield self

    def stands(self) -> dict[str, int | str]:
        """Reference -> its price, or ``sold``."""
        return {name: SOLD if row["status"] == SOLD else row["price"] for name, row in self.rows.items()}

    # -- the port's calls ------------------------------------------------------------------------------------------

    def list_page(self, page: int, *, updated_since: datetime | None = None, known: Collection[bytes] = ()) -> Page:
        return self._request((), lambda: self._page(page, known))  # type: ignore[no-any-return]

    def bulk_upsert(self, items: Sequence[tuple[str, bytes]]) -> WriteAnswer:
        bodies = [json.loads(body) for _, body in items]
        return self._request([name for name, _ in items], lambda: self._upsert(bodies))  # type: ignore[no-any-return]

    def put(self, reference: str, body: bytes) -> WriteAnswer:
        bodies = [{**json.loads(body), "externalReference": reference}]
        return self._request([reference], lambda: self._upsert(bodies))  # type: ignore[no-any-return]

    def delete(self, reference: str) -> WriteAnswer:
        return self._request([reference], lambda: self._sell(reference))  # type: ignore[no-any-return]

    # -- the server ------------------------------------------------------------------------------------------------

    def _page(self, page: int, known: Collection[bytes]) -> Page:
        names = list(self.rows)[(page - 1) * self._page_size : page * self._page_size]
        raws = [{**self.rows[name], "id": f"id-{name}"} for name in names]
        for raw in raws:
            raw["location"] = {field: raw.pop(field, None) for field in _PLACE}
            raw["dealer"] = {"locationCode": raw.pop("dealerLocationCode")}
        rows, unread = read_rows(raws, known)
        pages = max(1, -(-len(self.rows) // self._page_size))
        moment = datetime.fromtimestamp(self._scheduler.now_ms // 1000, UTC)
        return Page(rows, page, len(self.rows), pages, moment, "r", known=unread)

    def _upsert(self, bodies: list[dict[str, Any]]) -> WriteAnswer:
        answers = [
            ItemAnswer(
                body["externalReference"], "accepted", status=body["status"],
                created=body["externalReference"] not in self.rows,
            ) for body in bodies
        ]  # fmt: skip
        self.rows.update((body["externalReference"], body) for body in bodies)
        return WriteAnswer(tuple(answers), "r")

    def _sell(self, reference: str) -> WriteAnswer:
        if reference not in self.rows:
            raise ItemRejected("not found", status=404)
        self.rows[reference] = {**self.rows[reference], "status": SOLD}
        return WriteAnswer((ItemAnswer(reference, "accepted", status=SOLD),), "r")

    # -- the network -----------------------------------------------------------------------------------------------

    def _fate(self) -> str:
        """Whether the answer of a write is lost, and when the request itself arrives."""
        if not self.losses or self._scheduler.rng.random() > 0.15:
            return "answered"
        self.losses -= 1
        return self._scheduler.rng.choice(("done", "soon", "slow"))

    def _request(self, references: Sequence[str], effect: Callable[[], Any]) -> Any:
        """Sent, arrived, answered: three moments, and others may act between them."""
        scheduler = self._scheduler
        scheduler.step()
        actor = scheduler.me
        request = Request(actor.name if actor else "", references, scheduler.now_ms)

        def arrive() -> None:
            try:
                request.answer = effect()
            except ItemRejected as refused:
                request.refused = refused
            scheduler.tick()
            request.effect_ms = scheduler.now_ms

        fate = self._fate() if references else "answered"
        scheduler.arrives(arrive, slow=fate == "slow")
        if references:
            self.writes.append(request)
        if fate != "answered":
            # With the answer lost nobody knows whether the request arrived, or is still to arrive.
            scheduler.wait(until=(lambda: request.effect_ms) if fate == "done" else None)
            lost = Unavailable("no answer", seconds=0)
            lost.in_doubt = True
            raise lost
        scheduler.wait(until=lambda: request.effect_ms)
        scheduler.step()
        request.over_ms = scheduler.now_ms
        if request.refused is not None:
            raise request.refused
        return request.answer


class Reading:
    """One read of the source: who opened it when and for what, and the prices it gave."""

    def __init__(self, who: str, label: tuple[str, str], opened_ms: int) -> None:
        self.who, self.label, self.opened_ms = who, label, opened_ms
        self.prices: dict[str, int] = {}
        self.complete = False


class FakeSource(BlockSource):
    """The port ``Source``, opened anew for each read. ``prices``: reference -> price, in the source's order."""

    def __init__(self, inventory: Inventory, reading: Reading) -> None:
        self._inventory, self._reading = inventory, reading

    def version(self) -> str:
        return ""

    def blocks(self) -> Iterator[Block]:
        return pickled(self._read(self._inventory.references), self._inventory.block_rows)

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        return iter(pickle.loads(block.data))

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        yield from self._read(references)

    def _read(self, references: Sequence[str]) -> Iterator[SourceRow]:
        self._inventory.readings.append(self._reading)
        whole = None if self._inventory.lazy else dict(self._inventory.prices)
        number = 0
        for reference in references:
            if whole is None:
                self._inventory.scheduler.step()
            price = (self._inventory.prices if whole is None else whole).get(reference)
            if price is None:
                continue
            self._reading.prices[reference] = price
            number += 1
            version = price if self._inventory.versioned else 0
            yield SourceRow(row=number, reference=reference, listing=listing(reference, price), version=version)
        self._reading.complete = True


class Inventory:
    """What the dealer has. ``lazy``: a read sees each row as it is when it comes to it.

    ``versioned``: rows tell their own version, which is their price: a car only gets dearer.
    """

    def __init__(
        self, scheduler: Scheduler, *, references: Sequence[str], lazy: bool, block_rows: int, versioned: bool
    ) -> None:
        self.scheduler, self.lazy, self.block_rows, self.versioned = scheduler, lazy, block_rows, versioned
        self.references = list(references)
        self.prices: dict[str, int] = {}
        self.readings: list[Reading] = []
        self.labels: dict[str, tuple[str, str]] = {}
        """Actor -> what it reads for: ``(run, stage)`` or ``("push", id)``."""

    def open(self) -> FakeSource:
        actor = self.scheduler.me
        assert actor is not None
        return FakeSource(self, Reading(actor.name, self.labels[actor.name], self.scheduler.now_ms))


def read_rows(
    raws: Sequence[dict[str, Any]], known: Collection[bytes]
) -> tuple[tuple[RemoteListing, ...], tuple[KnownRow, ...]]:
    """The rows of a page as a client reads them from its bytes: those decoded, and those that are known."""
    page = decode_rows(json.dumps({"data": raws, "pagination": {}}).encode(), known=known)
    assert page is not None
    decoded = tuple(row for row in page.data if isinstance(row, RemoteListing))
    return decoded, tuple(row for row in page.data if isinstance(row, KnownRow))
