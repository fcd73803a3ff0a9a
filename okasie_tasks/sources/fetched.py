"""A feed that a transport fetches: brought to a local file, then read like any file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property

from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.ports import Block, SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.blocks import BlockSource
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.files import FileSource
from okasie_tasks.sources.formats import format_of
from okasie_tasks.sources.transports import Fetched, Transport


class FetchedSource(BlockSource):
    """A feed that ``transport`` fetches. Each object fetches at most once, and blocks are decoded without it."""

    def __init__(self, account: AccountSettings, transport: Transport, *, current_year: int, bounds: Bounds) -> None:
        self._account, self._transport, self._year, self._bounds = account, transport, current_year, bounds
        self._format = format_of(account, current_year=current_year, bounds=bounds)

    def version(self) -> str:
        """Return the SHA-256 of the current feed."""
        return self._feed.version

    @property
    def settle_seconds(self) -> float:
        return self._account.source.settle_seconds

    def settles_in(self, before: str) -> float:  # noqa: ARG002 - a rename on the server cannot be seen
        """Return how long to wait until the feed is old enough, as far as the server says how old it is."""
        return min(max(0.0, self.settle_seconds - self._feed.age_seconds), self.settle_seconds)

    def blocks(self) -> Iterator[Block]:
        """Read the feed as fetched by this object; see `okasie_tasks.ports.Source`."""
        feed = self._feed
        file = FileSource(self._account, feed.path, name=feed.name, current_year=self._year, bounds=self._bounds)
        return file.blocks()

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Yield the rows of a block; see `okasie_tasks.ports.Source`."""
        return self._format.decode(block, known=known, only=only)

    @cached_property
    def _feed(self) -> Fetched:
        return self._transport.fetch(self._bounds)
