"""Feeds of every format in small: settings, readers, and writers of documents."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Record, SourceRow
from okasie_tasks.settings import AccountSettings, load_settings
from okasie_tasks.sources import open_source
from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.formats import READERS

HEAD = """\
[accounts.dex]
api_key = "env:K"
[accounts.dex.source]
type = "{kind}"
url = "{url}"
"""
DEFAULTS = """
[accounts.dex.source.defaults]
status = "active"
mileage = 10
postalCode = "9000"
city = "Gent"
province = "Oost-Vlaanderen"
dealerLocationCode = "GENT"
"""


def account(folder: Path, kind: str, options: str = "", *, url: str = "x") -> AccountSettings:
    config = folder / "okasie.toml"
    config.write_text(HEAD.format(kind=kind, url=url) + options + DEFAULTS, encoding="utf-8")
    return load_settings(config, {"K": "key"}).accounts["dex"]


def rows(folder: Path, kind: str, data: bytes, options: str = "", *, name: str = "") -> list[SourceRow]:
    """The rows of a feed with this content."""
    name = name or f"stock.{kind}"
    (folder / name).write_bytes(data)
    found = open_source(account(folder, kind, options, url=name), cache_dir=folder / "feeds", current_year=2026)
    return list(found.rows())


def records(folder: Path, kind: str, data: bytes, options: str = "") -> Iterator[Record]:
    """What the format's reader yields."""
    settings = account(folder, kind, options)
    file = BoundedFile(io.BytesIO(data), Bounds(settings), f"stock.{kind}", document=True)
    return READERS[kind](file, settings.source, name=f"stock.{kind}")


def values(folder: Path, kind: str, data: bytes, options: str = "") -> list[Any]:
    return [record.error or record.value for record in records(folder, kind, data, options)]


def failure(folder: Path, kind: str, data: bytes, options: str = "") -> SourceError:
    with pytest.raises(SourceError) as raised:
        list(records(folder, kind, data, options))
    return raised.value


def workbook(sheets: Mapping[str, Iterable[Sequence[Any]]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, lines in sheets.items():
        sheet = book.create_sheet(title)
        for line in lines:
            sheet.append(line)
    out = io.BytesIO()
    book.save(out)
    return repacked(out.getvalue(), {})


def repacked(data: bytes, changes: Mapping[str, bytes]) -> bytes:
    """The same zip with other content of some of its files, and without the time at which it was written."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in dict.fromkeys([*old.namelist(), *changes]):
            content = changes[name] if name in changes else old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"20\d\d-\d\d-\d\dT[\d:]+", b"2026-01-02T03:04:05", content)
            new.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()
