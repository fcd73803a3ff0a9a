"""What may stand at the end, from the statements made about a car and their order; it knows nothing of the ledger.

A statement is as new as the moment at which it was accepted, or at which its read of the source began (design,
section 4). Where the order of what happened inside leaves two ends open by design, both are allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from tests.sync.market import SOLD

Stand = int | str
"""A price, or `SOLD`: not for sale, whether sold or never listed."""


class Statement(NamedTuple):
    at_ms: int
    kind: Literal["given", "read", "sell", "run"]
    price: int | None = None
    """None: a sell, or a run whose read lacked the row."""
    sure: bool = True
    """Whether it was made for certain: the process that made it may have died before it could."""
    quiet: bool = False
    """A run beside which nothing else happened."""
    asked_ms: int = 0
    """When a read was requested: a sell that was requested later is not undone by it."""


class Car:
    """One reference; statements are told in the order of their moments."""

    def __init__(self) -> None:
        self.stands: set[Stand] = {SOLD}
        self._by_hand: bool | None = False
        """Sold through ``sell`` and not seen absent since; None: that is open."""
        self._rows: set[int] = set()
        """What reads of the source may have taught the ledger. A push that was overtaken taught it nothing."""
        self._taught: set[int] = set()
        """What runs taught it for certain."""
        self._doubted: set[int] = set()
        """Of these, what a run read beside others: a row is left alone, and not learned, where a sell waits for it."""
        self._in_source: bool | None = False
        self._newest = ""
        self._sold_ms = 0
        self._absent = self._ever_sold = False

    def tell(self, statement: Statement) -> None:
        before = set(self.stands)
        if statement.kind == "run":
            if statement.price is None:
                self._run_without_row(quiet=statement.quiet)
            else:
                self._run_with_row(statement.price, quiet=statement.quiet)
        else:
            self._urgent(statement)
        if not statement.sure:
            self.stands |= before
            self._by_hand = self._in_source = None

    def _urgent(self, statement: Statement) -> None:
        sells = statement.price is None
        if sells:
            self._sold_ms = statement.at_ms
        elif statement.kind == "read" and statement.asked_ms < self._sold_ms:
            # The sell was requested later. Where something else was sent in between, either may have come first.
            self.stands |= set() if self._by_hand else {statement.price}
            return
        self.stands = {SOLD if statement.price is None else statement.price}
        self._by_hand = sells
        self._ever_sold |= sells
        if sells:
            self._taught -= self._doubted
            self._in_source = None if self._absent else self._in_source
        self._newest = statement.kind
        if statement.kind == "read" and statement.price is not None:
            self._rows.add(statement.price)
            self._in_source = self._in_source or None

    def _run_with_row(self, price: int, *, quiet: bool) -> None:
        if self._by_hand is not True:
            self.stands = {stand for before in self.stands for stand in self._with_row(before, price, quiet=quiet)}
        self._rows.add(price)
        if quiet or not self._ever_sold:
            self._taught.add(price)
            if not quiet:
                self._doubted.add(price)
        self._in_source = True

    def _with_row(self, before: Stand, price: int, *, quiet: bool) -> Iterable[Stand]:
        if before == SOLD:
            return (price,) if self._by_hand is False else (price, SOLD)
        if self._rows == self._taught == {price}:
            return (before,)  # the row did not change: what was pushed stands
        if price in self._rows or (self._ever_sold and not quiet):
            # Whether the ledger knew the row is open; and a run leaves a row alone for whose reference a sell waits.
            return before, price
        return (price,)

    def _run_without_row(self, *, quiet: bool) -> None:
        # A run that meets a sold car has nothing to sell: what was pushed before it and is sent after it stands.
        met_sold = (self._ever_sold or self._absent) and not quiet
        gone = self._in_source is True and not (self._newest == "given" and self._absent) and not met_sold
        gone |= quiet and self._newest == "read"
        if gone:
            self.stands = {SOLD}
        elif self._in_source is not False:
            self.stands |= {SOLD}
        self._by_hand = None if self._by_hand is True else self._by_hand
        self._in_source = False if gone else None
        self._absent = True


def may_stand(statements: Iterable[Statement]) -> set[Stand]:
    """What may stand at the marketplace after these."""
    car = Car()
    for statement in sorted(statements, key=lambda statement: statement.at_ms):
        car.tell(statement)
    return car.stands
