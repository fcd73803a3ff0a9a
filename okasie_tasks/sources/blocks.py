"""What all sources share: the limits of a block, and reads of a source in one process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.ports import Block, SourceRow

BLOCK_ROWS: Final = 5_000
"""About 50 bulk calls, or 25 s of quota, are prepared at a time; a second of work, far below any time limit."""
BLOCK_BYTES: Final = 4_000_000


class BlockSource(ABC):
    """A source that offers blocks; see `okasie_tasks.ports.Source`."""

    sliceable = False
    remembers = True

    @abstractmethod
    def blocks(self) -> Iterator[Block]: ...

    @abstractmethod
    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]: ...

    def rows(self, start: int = 0, stop: int | None = None, *, known: RowCache | None = None) -> Iterator[SourceRow]:
        """Read and decode rows ``start <= index < stop`` in this process."""
        rows = (row for block in self.blocks() for row in self.decode(block, known=known))
        return islice(rows, start, stop)

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Return only these rows, and those whose reference cannot be read: the source is scanned."""
        only = frozenset(references)
        for block in self.blocks():
            yield from (row for row in self.decode(block, only=only) if row.reference is None or row.reference in only)
