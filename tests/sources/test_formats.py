"""XML, XLSX and JSON documents as feeds: what is read, what is refused, and with which place and reason."""

from __future__ import annotations

import datetime
import io
import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from okasie_tasks.errors import SourceError
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import load_settings
from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.records import READERS
from tests.sources.support import brief, one, source

CASES = Path(__file__).parent / "cases"


def values(kind: str, data: bytes, options: str = "", *, name: str = "") -> list[Any]:
    """The values of a feed's records; of one that cannot be read, its error."""
    return [record.value if not record.error else record.error for record in records(kind, data, options, name=name)]


def records(kind: str, data: bytes, options: str = "", *, name: str = "") -> Iterator[Any]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "okasie.toml"
        config.write_text(
            f'[accounts.dex]\napi_key = "env:K"\n[accounts.dex.source]\nurl = "x"\ntype = "{kind}"\n{options}\n'
        )
        account = load_settings(config, {"K": "k"}).accounts["dex"]
    name = name or f"stock.{kind}"
    file = BoundedFile(io.BytesIO(data), Bounds(account), name, document=True)
    return READERS[kind](file, account.source, name=name)


def failure(kind: str, data: bytes, options: str = "") -> SourceError:
    with pytest.raises(SourceError) as raised:
        list(records(kind, data, options))
    return raised.value


# -- the dealers' files --------------------------------------------------------------------------------------------


def case(tmp_path: Path, name: str, options: str) -> list[SourceRow]:
    (tmp_path / name).write_bytes((CASES / name).read_bytes())
    return list(source(tmp_path, name, options).rows())


def test_a_nested_xml_export_with_attributes(tmp_path: Path) -> None:
    row = one(
        case(
            tmp_path, "xdv.xml",
            """type = "xml"
items = "voertuigen/voertuig"
fields.externalReference = "voertuignr"
fields.title = "{merk} {model}"
fields.mileage = "tellerstand"
fields.price = "verkoopprijs_particulier/prijzen/prijs[@soort='verkoop']/bedrag"
fields.images = "afbeeldingen/afbeelding/url"
""".replace('fields.externalReference = "voertuignr"\n', ""),
        )
        if False
        else case_with_reference(tmp_path, "xdv.xml", "voertuignr", XDV)
    )  # fmt: skip
    assert row.listing is not None, row.issues
