"""What a story of few cars in memory needs of the system: guards that never hold, and a ledger of few buckets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from okasie_tasks.core.records import bucket_of
from okasie_tasks.services import policy_of
from okasie_tasks.settings.model import AccountSettings, GuardSettings
from okasie_tasks.store.ledger import Ledger
from okasie_tasks.sync.context import AccountPolicy
from tests.sync.model_cars import Policy

ACCOUNT: Final = "dex"
ANCHOR: Final = "ANCHOR"
"""A car that nobody touches: an empty source sells nothing."""
_MANY: Final = 1_000_000
_GUARD: Final = GuardSettings(
    max_sold_percent=100, max_sold_count=_MANY, free_sold_count=_MANY, max_source_shrink_percent=100,
    max_changed_percent=100, free_changed_count=_MANY, max_field_loss_percent=100, max_price_change_percent=None,
    free_field_loss_count=_MANY,
)  # fmt: skip
"""So wide that no guard ever holds a plan: what is held is another test's story."""


class SmallLedger(Ledger):
    """The ledger, which asks no bucket in which no car of these stories can lie: a third of the time went into that."""

    _IN_USE: Final = frozenset(map(bucket_of, [ANCHOR, *(f"{letter}{n}" for letter in "RF" for n in range(10))]))

    def packed_buckets(self, buckets: Iterable[int]) -> dict[str, bytes]:
        return super().packed_buckets(sorted(self._IN_USE.intersection(buckets)))


def account_policy(conflict: Policy, missing_reads: int) -> AccountPolicy:
    account = AccountSettings(
        name=ACCOUNT, api_key="env:MODEL_KEY", base_url="http://127.0.0.1:1", conflict=conflict, guard=_GUARD
    )
    return msgspec.structs.replace(policy_of(account), missing_reads=missing_reads, overlap_seconds=60.0)
