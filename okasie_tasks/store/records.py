"""What is read of runs, their parts and accounts, and how long it is kept. Written by `okasie_tasks.store.runs`."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

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


class Claim(NamedTuple):
    """``state``: claimed, closed (done by somebody), busy (somebody is at it), ended (the run moved on), spent (begun
    too often), cancelled or paused (by a person; see `okasie_tasks.store.controls`).
    """

    state: str
    attempts: int = 0


class Closed(IntEnum):
    """What became of a part that was to be closed."""

    NOT = 0
    YES = 1
    QUIETLY = 2
    """And enough published parts are open: nothing is to be published after it."""
    LAST = 3
    """And no part of the stage is left."""


class Account(NamedTuple):
    cursor: str = ""
    generation: str = "0"
    rows: int = 0
    """Rows of the source at its last complete read."""
    profiles: tuple[str, ...] = ()
    """Dealer profiles that the key could reach at the last run; empty when the marketplace did not tell."""
    take_over: str = ""
    """``open`` until a full run has met the whole marketplace and what it found there was decided, then ``decided``."""
    provider: str = ""
    """The ``externalProvider`` of our own rows, once learned from them."""
    counted_ms: int = 0
    """When the marketplace's own counts were last compared with ours."""
    miscounts: int = 0
    """How often in a row they differed."""


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
        """Whether a person has asked it to end: nothing of it begins any more."""
        return "cancel_ms" in self.facts

    def fact(self, name: str, default: int = 0) -> int:
        return int(self.facts.get(name, default))


class RunKeys(NamedTuple):
    """The names of the keys that hold runs and accounts."""

    prefix: str

    def run(self, run: str, *rest: str) -> str:
        return ":".join((f"{self.prefix}run:{run}", *rest))

    def account(self, account: str, *rest: str) -> str:
        return ":".join((f"{self.prefix}account:{account}", *rest))
