"""A dealer's stock as a csv file or a table, every version that was ever to be read, and how a file is mangled."""

from __future__ import annotations

import csv
import io
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from tests.sync.http_scenario import Row

WRITABLE: Final = {"price": "price_eur", "mileage": "km", "color": "colour"}
"""The fields that people edit on the marketplace, and their columns."""
_WRITE_SECONDS: Final = 1.2
"""How long a program that writes in place pauses in the middle: less than a file must be at rest."""
_AT_REST_SECONDS: Final = 2.0
"""`settle_seconds`. The clock goes on by itself, so on a machine that is starved the half file may stand longer: then
nobody can know that it is one, and it counts as a version."""


class Version(NamedTuple):
    """What the source held from ``since`` on. ``rows`` None: nothing that proves what is absent."""

    since: float
    rows: dict[str, Row] | None


class Feed:
    """The source. ``rows`` is the dealer's stock; `publish` shows it, the other methods show something else."""

    def __init__(self, path: Path, rows: Sequence[Row], clock: Callable[[], float], rng: Random) -> None:
        self.path, self.clock, self.rng = path, clock, rng
        self.rows = {row["stock_no"]: dict(row) for row in rows}
        self.columns = list(rows[0])
        self.versions: list[Version] = []
        self.written: list[tuple[str, str, str]] = []
        """What was written back: reference, column, value."""
        self._rest: tuple[float, bytes] | None = None
        self._half: Version | None = None
        self._stored: dict[str, Row] = {}

    @property
    def is_table(self) -> bool:
        return self.path.suffix == ".db"

    # -- what the dealer's program does ----------------------------------------------------------------------------

    def publish(self) -> None:
        """The stock as it is, replaced at once."""
        self._show(self.rows)

    def mangle(self) -> str:
        """One of the accidents; returns its name."""
        kinds: list[Callable[[], None]] = [self.shortened, self.reordered, self.rekeyed]
        if not self.is_table:
            kinds += [self.in_place, self.in_place, self.cut, self.emptied, self.markup, self.column_gone, self.doubled]
        kind = self.rng.choice(kinds)
        kind()
        return kind.__name__

    def shortened(self) -> None:
        """A part of the stock is gone."""
        kept = self.rng.sample(sorted(self.rows), max(1, int(len(self.rows) * self.rng.uniform(0.3, 0.95))))
        self._show({name: self.rows[name] for name in sorted(kept)})

    def reordered(self) -> None:
        names = sorted(self.rows)
        self.rng.shuffle(names)
        self._show({name: self.rows[name] for name in names})

    def rekeyed(self) -> None:
        """All or many of the cars have another reference."""
        share = self.rng.choice((0.4, 1.0))
        found = {}
        for name, row in self.rows.items():
            new = f"N-{name}" if self.rng.random() < share else name
            found[new] = row | {"stock_no": new}
        self._show(found)

    def in_place(self) -> None:
        """The file is truncated and written anew; its end comes a moment later."""
        self.finish()
        data = self._csv(self.rows)
        lines = data.splitlines(keepends=True)
        count = self.rng.randrange(1, len(lines))
        half = b"".join(lines[:count])
        with self.path.open("wb") as file:
            file.write(half)
        self._half = Version(self.clock(), _copy(dict(list(self.rows.items())[: count - 1])))
        self.versions.append(Version(self._half.since, None))
        self._rest = (self._half.since + _WRITE_SECONDS, data)

    def cut(self) -> None:
        """The file ends in the middle of a row, which everybody can see."""
        data = self._csv(self.rows)
        place = data.rindex(b";", 0, self.rng.randrange(len(data) // 3, len(data)))
        self._replace(data[:place], None)

    def emptied(self) -> None:
        self._replace(b"", None)

    def markup(self) -> None:
        self._replace(b"<!doctype html><html><body>Maintenance</body></html>", None)

    def column_gone(self) -> None:
        """The header and the rows lack a column that the mapping needs."""
        gone = self.rng.choice(("price_eur", "km", "colour", "stock_no"))
        columns = [name for name in self.columns if name != gone]
        self._replace(self._csv(self.rows, columns), None)

    def doubled(self) -> None:
        """Every row stands there twice."""
        data = self._csv(self.rows)
        self._replace(data + b"".join(data.splitlines(keepends=True)[1:]), self.rows)

    def step(self) -> None:
        """Time has passed: the program that writes in place may go on."""
        if self._rest is not None and self.clock() >= self._rest[0]:
            self.finish()

    def finish(self) -> None:
        if self._rest is not None:
            self._look_at_half()
            data, self._rest = self._rest[1], None
            with self.path.open("r+b") as file:
                at = os.fstat(file.fileno()).st_size
                file.seek(at)
                file.write(data[at:])
            self.versions.append(Version(self.clock(), _copy(self.rows)))

    def _look_at_half(self) -> None:
        """A half file that has been at rest for long counts as a version. Called while it is the last."""
        if self._rest is not None and self._half is not None:
            stood = self.clock() - self._half.since
            self.versions[-1] = self._half if stood >= _AT_REST_SECONDS else self._half._replace(rows=None)

    # -- what the oracle asks --------------------------------------------------------------------------------------

    def since(self, moment: float) -> list[Version]:
        """The versions that could be read from ``moment`` on."""
        self._look_at_half()
        before = [version for version in self.versions if version.since <= moment]
        return before[-1:] + [version for version in self.versions if version.since > moment]

    def absorb(self) -> None:
        """Take what was written to the table since the last look into the stock, and note it."""
        if not self.is_table or not self._stored:
            return
        with closing(sqlite3.connect(self.path)) as base:
            base.row_factory = sqlite3.Row
            found = base.execute("SELECT * FROM cars").fetchall()
        for row in found:
            name, known = row["stock_no"], self._stored[row["stock_no"]]
            for column in self.columns:
                if str(row[column]) != known[column]:
                    known[column] = str(row[column])
                    self.written.append((name, column, known[column]))
                    if stock := self.rows.get(name.removeprefix("N-")):
                        stock[column] = known[column]

    # -- parts -----------------------------------------------------------------------------------------------------

    def _show(self, rows: dict[str, Row]) -> None:
        if self.is_table:
            self.absorb()
            self._store(rows)
            self._stored = _copy(rows)
            self.versions.append(Version(self.clock(), _copy(rows)))
        else:
            self._replace(self._csv(rows), rows)

    def _replace(self, data: bytes, rows: dict[str, Row] | None) -> None:
        self._look_at_half()
        self._rest = None
        part = self.path.with_suffix(".part")
        part.write_bytes(data)
        part.replace(self.path)
        self.versions.append(Version(self.clock(), None if rows is None else _copy(rows)))

    def _csv(self, rows: dict[str, Row], columns: Sequence[str] | None = None) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns or self.columns, delimiter=";", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows.values())
        return text.getvalue().encode()

    def _store(self, rows: dict[str, Row]) -> None:
        names = ", ".join(f'"{name}" {"INTEGER" if name in ("price_eur", "km") else "TEXT"}' for name in self.columns)
        marks = ", ".join("?" for _ in self.columns)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as base:
            base.execute("PRAGMA journal_mode=WAL")  # a read that is under way sees what was there when it began
            base.execute("BEGIN IMMEDIATE")
            base.execute(f"CREATE TABLE IF NOT EXISTS cars ({names})")
            base.execute("DELETE FROM cars")
            base.executemany(
                f"INSERT INTO cars VALUES ({marks})", [[row[name] for name in self.columns] for row in rows.values()]
            )
            base.execute("COMMIT")


def _copy(rows: dict[str, Row]) -> dict[str, Row]:
    return {name: dict(row) for name, row in rows.items()}
