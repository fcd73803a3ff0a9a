"""Records of runs, their parts and accounts, and how long they are kept. Written by `okasie_tasks.store.runs`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgspec

KEEP_RUN_SECONDS: Final = 30 * 86_400
KEEP_PARTS_SECONDS: Final = 2 * 86_400
KEEP_RUNS: Final = 200
FIRST_STAGE: Final = "first"
OPEN_STATES: Final = frozenset({"queued", "running"})


class Stage(NamedTuple):
    total: int = 0
    published: int = 0
    closed: int = 0
    failed: int = 0

    @property
    def finished(self) -> bool:
        return self.closed >= self.total

    @property
    def open(self) -> int:
        """Parts that were published and are not closed."""
        return self.published - self.closed


class Closed(IntEnum):
    """The result of closing a part."""

    NOT = 0
    YES = 1
    QUIETLY = 2
    """Closed, and enough published parts are open: publish nothing now."""
    LAST = 3
    """Closed, and it was the last part of the stage."""


class Account(NamedTuple):
    cursor: str = ""
    generation: str = "0"
    rows: int = 0
    """Rows of the source at its last complete read."""
    profiles: tuple[str, ...] = ()
    """Dealer profiles that the key could reach during the last run; empty if the marketplace did not list them."""
    take_over: str = ""
    """``open`` until a full run has read the whole marketplace and decided on its listings, then ``decided``."""
    provider: str = ""
    """The ``externalProvider`` of our own rows, once learned from them."""
    counted_ms: int = 0
    """When the marketplace's own counts were last compared with ours."""
    miscounts: int = 0
    """How many times in a row they differed."""
    lost_fields: str = ""
    """The fields that most of the marketplace's rows lacked in the last run, with commas between them."""
    source: str = ""
    """The version of the source at its last complete read; "" if it has none."""


class Run(msgspec.Struct, kw_only=True):
    """A run's record as read from Redis; times in ms since the epoch, Redis time."""

    id: str
    account: str
    mode: str
    state: str
    stage: str = ""
    plan_only: bool = False
    created_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    progress_ms: int = 0
    counts: dict[str, int] = {}
    facts: dict[str, str] = {}

    @property
    def open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def cancelling(self) -> bool:
        """Whether an operator cancelled it: none of its parts starts any more."""
        return "cancel_ms" in self.facts

    def fact(self, name: str, default: int = 0) -> int:
        return int(self.facts.get(name, default))


def read_run(run: str, raw: Iterable[tuple[bytes, bytes]]) -> Run:
    """Return the record of a run from the fields and values of its hash."""
    fields = {name.decode(): value.decode() for name, value in raw}
    counts = {name[2:]: int(fields.pop(name)) for name in list(fields) if name.startswith("n:")}
    own: dict[str, Any] = {name: fields.pop(name, "") for name in ("account", "mode", "state", "stage")}
    # Redis 7.2 stores 1764300000000, a script's number, as "1.7643e+12".
    own |= {name: int(float(fields.pop(name, 0))) for name in ("created_ms", "started_ms", "ended_ms", "progress_ms")}
    return Run(id=run, plan_only=fields.pop("plan_only", "") == "1", counts=counts, facts=fields, **own)


class Claim(NamedTuple):
    """``state``: claimed, closed (already done), busy (held by another worker), ended (the run moved on), spent (its
    claims are used up), cancelled or paused (by an operator; see `okasie_tasks.store.controls`).

    ``run``: the record, if the part was claimed. ``work``: what the part works on, as stored, if it was asked for.
    """

    state: str
    attempts: int = 0
    run: Run | None = None
    work: bytes | None = None

    @property
    def record(self) -> Run:
        """The run of a claimed part."""
        assert self.run is not None  # noqa: S101 - part_claim.lua and part_take.lua return it
        return self.run


class RunKeys(NamedTuple):
    """The names of the keys that hold runs and accounts."""

    prefix: str

    def run(self, run: str, *rest: str) -> str:
        return ":".join((f"{self.prefix}run:{run}", *rest))

    def account(self, account: str, *rest: str) -> str:
        return ":".join((f"{self.prefix}account:{account}", *rest))
