"""What may be written and what may stand, told from outside: sections 4 and 5 of the design, without `core.reconcile`.

The model sees what the system sees (reads of the source, what was pushed, sold and edited) and every write. It holds
of each car what the ledger may know; where a fault or a death leaves that open, it allows both. What it complains of
is in `tests.sync.model_verdicts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from tests.sync.fake_marketplace import Row, Write
from tests.sync.model_cars import Bench, Car, Policy, Said, Stamp, brief
from tests.sync.model_verdicts import judge_push, judge_run, stands_wrongly
from tests.sync.stock import INVALID, SOLD, Reading, key_of

_WORDS: Final = frozenset({"spelling"})
"""Edits that look like the marketplace's way of writing what was sent."""
_NOT_COMPARED: Final = frozenset({"images", "sold", "revived"})
"""Edits that change no value which is compared."""


class Model:
    """The observer of a marketplace. ``wrong`` collects what must not be: a raise here would be taken for a fault."""

    def __init__(self, ctx: Bench, *, policy: Policy, missing_reads: int) -> None:
        self.ctx, self.policy, self.missing_reads = ctx, policy, missing_reads
        self.cars: dict[str, Car] = {}
        self.wrong: list[str] = []
        self.loads: list[Reading] = []
        """Reads of the source by the run at work."""
        self._missed_before: dict[str, int] = {}
        """Reference -> how many readings had lacked it before this run."""
        self.odd_rendering = False
        """The marketplace returns other spellings, or rounds."""
        self._rendered_anew = self._read_before = False
        self.calm = False
        """Nothing but the dealer has acted since the last clean run ended."""
        self.story: list[tuple[str, str]] = []
        """What happened, as ``(reference, what)``; "" for what concerns all."""
        self._sold_before: set[str] = set()
        """Sold there by someone, perhaps before anybody here named them."""
        self.written: list[str] = []
        """References written since the last action began."""
        self.listed_now: set[str] = set()

    def car(self, reference: str) -> Car:
        if reference not in self.cars:
            self.cars[reference] = Car(seller="someone" if reference in self._sold_before else "")
        return self.cars[reference]

    # -- what happens ----------------------------------------------------------------------------------------------

    def loaded(self, reading: Reading) -> None:
        self.loads.append(reading)
        if len(self.loads) == 1:
            self._missed_before = {name: car.missed for name, car in self.cars.items()}
        for reference in reading.says:
            named_before = reference in self.cars
            car = self.car(reference)
            car.appeared |= car.lacked or (self._read_before and not named_before)
            car.lacked = False
        for reference in self.cars:
            self.note(f"the run reads {brief(reading.says.get(reference))}, all: {reading.complete}", reference)
        for reference in self.cars.keys() - reading.says.keys():
            self.cars[reference].lacked = True
        if reading.complete:
            for reference in self.cars.keys() - reading.says.keys():
                self.cars[reference].appeared = False
            self._read_before = True
        for reference, car in self.cars.items():
            # A run whose worker died reads once more, and that reading counts instead of the one before.
            before = self._missed_before.get(reference, 0)
            car.missed = 0 if reference in reading.says else before + reading.complete

    def said(self, reference: str, said: Said) -> None:
        self.car(reference).said.append(said)
        self.note(f"accepted: {brief(said.content)}, given: {said.given}, {said.stamp}", reference)

    def edited(self, reference: str, kind: str, now_ms: int) -> None:
        self.calm = False
        self.note(f"edited there: {kind}", reference)
        if kind in ("sold", "revived"):
            (self._sold_before.add if kind == "sold" else self._sold_before.discard)(reference)
        car = self.cars.get(reference)
        if car is None:
            return
        if kind == "sold":
            car.seller, car.sold_ms = "someone", now_ms
        elif kind == "revived":
            car.seller, car.revived = "", True
            car.by_hand = car.by_hand and None  # whoever sold it here, somebody there says otherwise
        car.edit_ms, car.edit_seen, car.edit_run = now_ms, False, ""
        car.images_edited |= kind == "images"
        if kind in _NOT_COMPARED and car.edit:
            return  # what was edited before stands as it did
        car.edit = kind
        unread = car.echo_due or car.known is not True
        car.edit_excused = (unread and (kind in _WORDS or car.resent)) or (self.odd_rendering and kind in _WORDS)

    def rendered_otherwise(self, *, odd: bool) -> None:
        """From now on every row looks as if it had been edited."""
        self.calm, self.odd_rendering, self._rendered_anew = False, odd, True
        self.note(f"rendered otherwise, oddly: {odd}")
        for car in self.cars.values():
            car.edit, car.edit_seen = car.edit or "rendering", False

    def died(self) -> None:
        """The process is gone: nobody heard of what it had just written."""
        self.calm = False
        self.note("the process dies")
        for car in self.cars.values():
            car.edit_run = car.edit_run and "one that died"
        for reference in self.written:
            car = self.cars[reference]
            car.sure = False
            if car.before is not None:
                car.taught |= car.before.taught
                for name in ("known", "in_source", "by_hand"):
                    if getattr(car, name) is not getattr(car.before, name):
                        setattr(car, name, None)

    def flushed(self) -> None:
        """Nothing is known any more, neither to the ledger nor to the urgent queue."""
        self.note("Redis loses everything")
        for car in self.cars.values():
            seller = "someone" if car.seller else ""
            respelled = car.edit in _WORDS  # that still stands there, and is adopted as it stands
            edit = car.edit if respelled else ""
            vars(car).update(vars(Car(seller=seller, sold_ms=car.sold_ms, edit=edit, edit_excused=respelled)))

    def listed(self, row: Row) -> None:
        reference = row.body.get("externalReference") or row.identity
        self.listed_now.add(reference)
        car = self.cars.get(reference)
        if car is not None and car.edit and not car.edit_run:
            car.edit_run = self.ctx.running().id

    def refused(self, lane: str, reference: str, body: dict[str, Any]) -> None:
        self.calm = False
        self.car(reference).refused = key_of(body)
        self.note(f"{lane}: refused {brief(body)}", reference)

    def wrote(self, write: Write) -> None:
        car = self.cars.get(write.reference)
        if car is None:
            self._complain(write.reference, "nobody ever named it, and it was written")
            return
        found = judge_run(self, car, write) if write.lane == "bulk" else judge_push(car, write)
        there = write.before and brief(write.before.body)
        self.note(f"{write.lane} writes {brief(write.body)} over {there}, sure: {write.sure}", write.reference)
        for complaint in found:
            self._complain(write.reference, complaint)
        self.written.append(write.reference)
        settle(self, car, write)

    # -- the end of a run ------------------------------------------------------------------------------------------

    def began(self) -> None:
        self.loads.clear()
        self.listed_now.clear()

    def ended(self, rows: Mapping[str, Row], *, clean: bool, full: bool = False) -> None:
        """A run is over; ``clean``: nothing went wrong in it, and nothing else happened beside it."""
        self.note(f"the run is over, clean: {clean}")
        if self.loads:
            reading = self.loads[-1]
            for reference, car in self.cars.items():
                if self.ctx.waiting(reference) is None:
                    row = rows.get(reference)
                    if clean and (why := stands_wrongly(self, car, reference, reading, row)):
                        self._complain(reference, f"{why}, {brief(row and row.body)} stands")
                    learn(self, car, reference, row, clean=clean)
                else:
                    learn(self, car, reference, rows.get(reference), clean=False)
        self.loads.clear()
        self._rendered_anew &= not (clean and full)
        self.calm = clean and not self._rendered_anew

    def read_back(self, car: Car, reference: str) -> None:
        if reference in self.listed_now and reference not in self.written:
            car.echo_due, car.resent = False, False
            car.edit_seen = bool(car.edit)

    def note(self, what: str, reference: str = "") -> None:
        self.story.append((reference, what))

    def _complain(self, reference: str, what: str) -> None:
        self.wrong.append(f"{reference}: {what}; what happened before:\n{self.told(reference)}")

    def told(self, *references: str) -> str:
        """The story of these cars."""
        return "\n".join([f"{name} {line}" for name, line in self.story if name in ("", *references)][-60:])


# -- what is known after it ----------------------------------------------------------------------------------------


def settle(model: Model, car: Car, write: Write) -> None:
    """The car after a write that took effect."""
    content = None if write.body is None else key_of(write.body)
    heard = car.last if car.sure or car.before is None else car.before.last
    car.before = dataclasses.replace(car, taught=set(car.taught), before=None)
    urgent, sure = write.lane == "urgent", write.sure
    if urgent:
        said = max((said for said in car.said if said.content == content), key=lambda said: said.stamp.seen_ms)
    else:
        seen_ms = model.ctx.running().source_began_ms
        own = model.loads[-1].versions.get(write.reference, 0) if model.loads and content else 0
        said = Said(content, Stamp(own, seen_ms))
    if heard is not None and heard.content == content and not urgent:
        said = heard  # ours again, because it was changed there: no newer than it was
    car.resent = car.last is not None and car.last.content == content
    car.last, car.sure, car.urgent = said, sure, urgent
    car.edit, car.edit_excused, car.revived, car.images_edited = "", False, False, False
    if content is None:
        _sold(car, write, urgent=urgent)
        return
    sold = write.body is not None and write.body["status"] == SOLD
    car.seller, car.by_hand, car.echo_due = "run" if sold else "", False, True
    car.known = True if sure else car.known or None
    car.refused = None if sure else car.refused
    if not said.given:
        car.taught = {content} if sure else car.taught | {content}
        car.missed = 0 if sure else car.missed
        car.row_known |= sure
        car.in_source = True if sure else car.in_source or None
    elif car.missed:
        car.in_source = None  # whether its absence was met before or after is open


def _sold(car: Car, write: Write, *, urgent: bool) -> None:
    car.seller, car.sold_ms, car.echo_due = ("hand" if urgent else "run"), 0, False
    if urgent:
        car.by_hand = True if write.sure else None
        car.known = True if write.sure else car.known or None
    else:
        car.in_source = False if write.sure else None


def learn(model: Model, car: Car, reference: str, row: Row | None, *, clean: bool) -> None:
    """The car after a run that has read the source."""
    reading, run = model.loads[-1], model.ctx.running()
    says = reading.says.get(reference)
    sold = row is not None and not row.live
    live = row is not None and row.live  # of a car that was sold as gone a bad row proves nothing yet
    if says is None:
        if reading.complete:
            car.by_hand = False if clean else car.by_hand and None
            if car.in_source is True and (not clean or car.missed >= model.missing_reads):
                car.in_source = None
    elif says == INVALID:
        if car.known is False and sold and reference in model.listed_now:
            car.known = None  # taken over as sold
        car.in_source = True if clean and car.known and live else car.in_source or None
    else:
        pushed = bool(car.last and car.urgent and car.last.stamp.seen_ms > run.source_began_ms)
        adopted = reference in model.listed_now and car.seller != "someone" and says != car.refused
        known = car.known or adopted
        quietly = pushed or car.by_hand is not False or model.policy != "local" or sold or says == car.refused
        answered = car.revived and car.by_hand is not False  # its status was decided on, its row not yet
        if clean and known and says != car.refused and not answered:
            car.taught, car.row_known = {says}, True
        elif clean or quietly or (row is not None and key_of(row.body) == says):
            car.taught.add(says)
        car.known = True if clean and known else car.known or None
        met = live or says != car.refused
        car.in_source = True if clean and car.known and met else car.in_source or None
    if clean:
        car.appeared = False
        undecided = car.in_source is not False if says is None else says in (INVALID, car.refused)
        if not undecided:
            model.read_back(car, reference)
