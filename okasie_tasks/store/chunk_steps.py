"""The two trips to Redis around a bulk call: one before it is sent, and one after its answer.

Separate trips for locks, ledger, history and notes would cost more time than everything else about a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from okasie_tasks.core.fingerprint import reference_key
from okasie_tasks.core.ledger_entry import Entry
from okasie_tasks.core.pending import PendingChange
from okasie_tasks.core.records import SkippedImages
from okasie_tasks.store.history import Row
from okasie_tasks.store.ledger import Change
from okasie_tasks.store.scripts import Call, Command, Steps, of_commands
from okasie_tasks.store.write_locks import HeldLocks

if TYPE_CHECKING:
    from okasie_tasks.store.history import History
    from okasie_tasks.store.ledger import Ledger
    from okasie_tasks.store.parts import RunParts
    from okasie_tasks.store.urgent_queue import UrgentQueue
    from okasie_tasks.store.write_locks import WriteLocks


class ReadBefore(NamedTuple):
    """What is known of the listings of a chunk before it is sent, under their write locks."""

    locks: HeldLocks
    is_claimed: bool
    """The part is still this worker's."""
    entries: dict[str, Entry]
    changes: dict[str, PendingChange]
    """Of the urgent queue."""
    skipped: dict[str, SkippedImages]


class ChunkSteps:
    """The steps for one account. A chunk has at most 100 listings."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        parts: RunParts,
        ledger: Ledger,
        locks: WriteLocks,
        urgent_queue: UrgentQueue,
        history: History,
    ) -> None:
        self._parts, self._ledger, self._locks = parts, ledger, locks
        self._urgent_queue, self._history = urgent_queue, history
        self._before = Steps(client, "write_lock", "part_keep", "ledger_read", "commands")
        self._after = Steps(client, "ledger_swap", "history_add", "commands")

    @contextmanager
    def locked(self, run: str, stage: str, part: int, token: str, references: Sequence[str]) -> Iterator[ReadBefore]:
        """Lock the listings of a claimed part within the block, and read what is known of them.

        Raises `ListingLocked`, holding none, when one of them is being written.
        """
        replies: list[Any] = []

        def lock(call: Call) -> list[bytes]:
            keys = [reference_key(reference) for reference in references]
            commands = [self._urgent_queue.read_command(references), self._ledger.skipped_command(references)]
            replies[:] = self._before(
                call,
                self._parts.keep_call(run, stage, part, token),
                self._ledger.read_call(references, keys),
                of_commands(commands),
            )
            return list(replies[0] or ())

        with self._locks.all(references, lock=lock) as locks:
            _, claimed, joined, (changes, skipped) = replies
            yield ReadBefore(
                locks,
                bool(claimed),
                self._ledger.unpacked(references, joined),
                self._urgent_queue.unpacked(references, changes),
                self._ledger.read_skipped(references, skipped),
            )

    def settle(self, swaps: Sequence[Change], events: Sequence[Row], commands: Iterable[Command]) -> None:
        """Store ledger entries, events of the history and what else the answer settles.

        As in `Ledger.swap`, an entry that another process has changed since stays.
        """
        self._after(self._ledger.swap_call(swaps), self._history.add_call(events), of_commands(commands))
