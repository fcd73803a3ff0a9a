"""An inventory in a database, through SQLAlchemy: one query, streamed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.masking import know_url
from okasie_tasks.ports import Block, Record, SourceRow
from okasie_tasks.settings import AccountSettings, without_passwords
from okasie_tasks.sources.blocks import BlockSource
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.records import cut_records, decode_records
from okasie_tasks.sources.sql_cells import SqlCells

if TYPE_CHECKING:
    from sqlalchemy import Engine

_ROWS_PER_FETCH: Final = 1_000


class SqlSource(BlockSource):
    """The rows of ``query``. Every read is one statement, so it sees a consistent state of the database."""

    def __init__(self, account: AccountSettings, url: str, *, current_year: int, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds(account)
        self._account = account
        self._url = url
        self._year = current_year
        self._where = f"query of {account.name}"

    def version(self) -> str:
        """Return "", unknown: a database has no version of its content."""
        return ""

    def blocks(self) -> Iterator[Block]:
        """Execute the query once; see `okasie_tasks.ports.Source`."""
        from sqlalchemy import text  # noqa: PLC0415 - an extra
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

        engine = open_engine(self._url, self._where)
        query = text(self._account.source.query or "")
        try:
            with (
                engine.connect().execution_options(stream_results=True, yield_per=_ROWS_PER_FETCH) as connection,
                connection.execute(query) as result,
            ):
                columns = list(result.keys())
                _, mapping = self._reader(columns)
                mapping.check_columns(self._where)
                rows = enumerate(self._bounds.timed(result.mappings(), self._where), start=1)
                records = (Record(f"{self._where}, row {number}", dict(raw)) for number, raw in rows)
                yield from cut_records(records, head=msgspec.msgpack.encode(columns))
        except SQLAlchemyError as error:
            raise database_error(error, self._url, self._where) from None
        finally:
            engine.dispose()

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Yield the rows of a block; see `okasie_tasks.ports.Source`."""
        cells, mapping = self._reader(msgspec.msgpack.decode(block.head, type=list[str]), only)
        return decode_records(block, mapping, known, prepare=cells.read)

    def _reader(self, columns: list[str], only: Collection[str] | None = None) -> tuple[SqlCells, RowMapping]:
        needed = RowMapping(self._account, columns=columns, current_year=self._year).needed
        cells = SqlCells(columns, needed)
        return cells, RowMapping(self._account, columns=cells.columns, current_year=self._year, only=only)


def open_engine(url: str, where: str) -> Engine:
    """Return an engine without connecting. Raises `ConfigurationError`, whose text never holds the URL."""
    try:
        from sqlalchemy import create_engine  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError('type = "sql" needs an extra: pip install "okasie-tasks[sql]"', where=where) from error
    try:
        return create_engine(url)
    except ImportError as error:
        raise ConfigurationError(f"its database driver is not installed: {error.name}", where=where) from None
    except Exception as error:
        raise ConfigurationError(f"the SQLAlchemy URL cannot be used ({type(error).__name__})", where=where) from None


def database_error(error: Exception, url: str, where: str) -> SourceError:
    """Return an error with the driver's text. SQLAlchemy's text would hold the statement and its values."""
    know_url(url)
    cause = without_passwords(str(getattr(error, "orig", None) or ""))
    return SourceError(
        f"the database returned an error: {type(error).__name__}" + (f" ({cause})"[:200] if cause else ""), where=where
    )
