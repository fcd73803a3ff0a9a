"""The stores, clients and settings that a step of a run works with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from okasie_tasks.core.decision import Policy
from okasie_tasks.core.guards import Limits
from okasie_tasks.ports import Marketplace, Source, WriteBack

if TYPE_CHECKING:
    from okasie_tasks.store.chunk_steps import ChunkSteps
    from okasie_tasks.store.controls import HeldPlans
    from okasie_tasks.store.history import History
    from okasie_tasks.store.ledger import Ledger
    from okasie_tasks.store.requests import Requests
    from okasie_tasks.store.runs import Runs
    from okasie_tasks.store.urgent_queue import UrgentQueue
    from okasie_tasks.store.write_locks import WriteLocks

ATTEMPTS: Final = 3
"""Tries of a part before it fails (API docs, guides/incremental-sync)."""


class AccountPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The account settings that decisions depend on, as plain values."""

    account: str
    market: str
    """The marketplace that the ledger describes; see `okasie_tasks.celery.market_name`."""
    overlap_seconds: float
    conflict: Policy
    missing_reads: int
    sells: bool
    limits: Limits
    per_minute: int = 120
    """The configured limit, in requests."""
    take_over: bool = False
    """Sell pre-existing live listings that the source lacks, within the limits, without approval."""
    plan_expires_ms: int = 72 * 3600 * 1000


class AccountContext(NamedTuple):
    """Everything that a step uses. ``source`` opens the inventory; each part of a run opens it anew."""

    policy: AccountPolicy
    runs: Runs
    ledger: Ledger
    market: Marketplace
    source: Callable[[], Source]
    urgent_queue: UrgentQueue
    pushes: Requests
    locks: WriteLocks
    plans: HeldPlans
    write_back: Callable[[], WriteBack | None]
    history: History
    chunks: ChunkSteps
    publish: Callable[[str], object] = str
    """Publishes the parts of a run that are due; called by a part that adds parts while it works."""


class Part(NamedTuple):
    """One unit of work: part ``number`` of ``stage`` of ``run``; ``token`` fences it against a second worker."""

    run: str
    stage: str
    number: int
    token: str

    @property
    def ticket(self) -> str:
        """Identifies the part in the limiter's queue; the same for all its retries."""
        return f"{self.run}:{self.stage}:{self.number}"
