"""A feed that a transport fetches: brought to a local file, then read like any file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.files import FileSource
from okasie_tasks.sources.transports import Fetched, Transport


class FetchedSource:
    """Each object fetches at most once; several parts of a run share the file on disk."""

    sliceable = False
    remembers = True

    def __init__(self, account: AccountSettings, transport: Transport, *, current_year: int, bounds: Bounds) -> None:
        self._account, self._transport, self._year, self._bounds = account, transport, current_year, bounds
        self._fetched: Fetched | None = None

    def version(self) -> str:
        """Return the SHA-256 of the current feed."""
        return self._feed().version

    @property
    def settle_seconds(self) -> float:
        return self._account.source.settle_seconds

    def settles_in(self, before: str) -> float:  # noqa: ARG002 - a rename on the server cannot be seen
        """Return how long to wait until the feed is old enough, as far as the server says how old it is."""
        return min(max(0.0, self.settle_seconds - self._feed().age_seconds), self.settle_seconds)

    def rows(self, start: int = 0, stop: int | None = None, *, known: RowCache | None = None) -> Iterator[SourceRow]:
        """Return rows of the feed as fetched by this object; see `okasie_tasks.ports.CachingSource`."""
        return self._reader().rows(start, stop, known=known)

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Return only these rows: the feed is scanned."""
        return self._reader().get(references)

    def _feed(self) -> Fetched:
        if self._fetched is None:
            self._fetched = self._transport.fetch(self._bounds)
        return self._fetched

    def _reader(self) -> FileSource:
        feed = self._feed()
        return FileSource(self._account, feed.path, name=feed.name, current_year=self._year, bounds=self._bounds)
