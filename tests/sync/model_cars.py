"""What the model of `tests.sync.model` knows of a car."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from tests.sync.stock import INVALID

Policy = Literal["local", "remote", "newest"]


class Stamp(NamedTuple):
    """How new a content is: its own version where it has one, else when it was read or accepted."""

    own: int = 0
    seen_ms: int = 0

    def older(self, other: Stamp) -> bool:
        if self.own and other.own and self.own != other.own:
            return self.own < other.own
        return self.seen_ms < other.seen_ms


class Said(NamedTuple):
    """What was pushed. ``content`` None: sold by hand."""

    content: str | None
    stamp: Stamp
    given: bool = False


@dataclasses.dataclass
class Car:
    """One reference that the source or a push has named. Of three-valued facts None is: that is open."""

    taught: set[str] = dataclasses.field(default_factory=set)
    """Contents of which each may be the row that the ledger knows."""
    row_known: bool = False
    """The ledger surely knows a row, so that it can tell another one from it."""
    known: bool | None = False
    """The ledger has an entry."""
    in_source: bool | None = False
    """The row stood in the last source read that counted."""
    missed: int = 0
    appeared: bool = False
    """Its row is new: an earlier read lacked it."""
    lacked: bool = False
    """The last read lacked it."""
    by_hand: bool | None = False
    seller: Literal["", "run", "hand", "someone"] = ""
    sold_ms: int = 0
    refused: str | None = None
    last: Said | None = None
    """What was last written, and whether its sender heard of it."""
    sure: bool = True
    urgent: bool = False
    resent: bool = False
    """What was last written had been written before: ours, sent again."""
    echo_due: bool = False
    revived: bool = False
    """Somebody there made a sold one live, since what was last written."""
    edit: str = ""
    edit_ms: int = 0
    edit_seen: bool = False
    edit_run: str = ""
    """The run that first listed the edit."""
    images_edited: bool = False
    edit_excused: bool = False
    """It could not be told from the marketplace's own rendering."""
    said: list[Said] = dataclasses.field(default_factory=list)
    before: Car | None = None
    """As it was before what was last written: what the ledger still holds when nobody lived to tell it."""


class Running(NamedTuple):
    """A run as it is told from outside."""

    id: str
    began_ms: int
    source_began_ms: int
    full: bool
    """Every page was walked, not only what has changed."""
    plan: Mapping[str, str]
    """Reference -> action."""


class Bench:
    """Where the model asks for what it cannot see; see `tests.sync.simulation`."""

    running: Callable[[], Running]
    waiting: Callable[[str], Stamp | None]
    """How new the change is that waits for a reference."""


def brief(content: str | Mapping[str, Any] | None) -> str:
    """A content in a few words."""
    if content is None or content == INVALID:
        return str(content)
    body = json.loads(content) if isinstance(content, str) else content
    extra = f"{len(body['features'])}f {len(body['images'])}i {body['mileage']}km"
    return f"<{body['status']} {body['price']} {body['title']} {body['dealerLocationCode']} {extra}>"
