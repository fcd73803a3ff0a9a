"""The title and VIN of each listing, packed by bucket, and the search over them.

The ledger has fingerprints only. This is an index for people: a title that is not known is no error.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from okasie_tasks.core.records import BUCKETS, bucket_of

SHELVES: Final = 256
"""Packed values per account. Each has the listings of some neighbouring buckets of the ledger, so that one partition of
a run writes it; fewer would compress better, but a push writes a whole one."""
BUCKETS_PER_SHELF: Final = BUCKETS // SHELVES
_LEVEL: Final = 6
_FORMAT: Final = b"\1"
"""Names the dictionary below: bytes of another format are not read, and so written anew."""
_RAW: Final = -15
"""Deflate without header and checksum."""
_COMMON: Final = (
    b"\tFord Fiesta \tHyundai Tucson \tMazda \tNissan Qashqai \tKia Sportage \tToyota Yaris \tCorolla \tFiat 500 "
    b"\tMini Cooper \tOpel Astra \tCorsa \tSeat Ibiza \tLeon \tSkoda Octavia \tFabia \tDacia Duster \tSandero "
    b"\tCitro\xc3\xabn C3 \tPeugeot 208 \t2008 \t3008 \tRenault Clio \tCaptur \tMegane \tVolvo XC40 \tXC60 \tV60 "
    b"\tMercedes-Benz A 180 \tC 200 \tGLA \tBMW 118 \t320 \tX1 \tX3 \tAudi A1 \tA3 Sportback \tA4 Avant \tQ3 "
    b"\tVolkswagen Polo \tTiguan \tPassat Variant \tGolf 1.0 1.2 1.4 1.5 1.6 2.0 TSI TFSI TDI HDi BlueHDi dCi "
    b"hybrid plug-in electric benzine diesel automaat automatique manueel DSG Comfortline Highline Business Line "
    b"Edition Trendline Titanium Allure Style GPS navi camera garantie km kW pk xDrive quattro 4x4\tVF1\tVF3\tVF7"
    b"\tWDD\tWBA\tWAUZZZ\tWF0\tTMB\tVSS\tW0L\tWVWZZZ"
)
"""Common words in titles and beginnings of VINs, the commonest last: a dictionary for short values."""


class Titled(NamedTuple):
    """What is known of one listing; "" for unknown."""

    title: str = ""
    vin: str = ""


def shelf_of(reference: str) -> int:
    """Return the shelf of a reference, 0 to `SHELVES` - 1: the same in every release."""
    return bucket_of(reference) // BUCKETS_PER_SHELF


def pack_shelf(rows: Mapping[str, Titled]) -> bytes:
    """Encode the listings of one shelf: a line each, in order, compressed."""
    lines = "\n".join(f"{name}\t{row.title}\t{row.vin}" for name, row in sorted(rows.items()))
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, zdict=_COMMON)
    return _FORMAT + packer.compress(lines.encode()) + packer.flush()


def shelf_text(data: bytes) -> str:
    """Return the lines of a shelf: reference, title and VIN, separated by tabs. "" for bytes of another format."""
    if not data.startswith(_FORMAT):
        return ""
    unpacker = zlib.decompressobj(_RAW, zdict=_COMMON)
    return (unpacker.decompress(data[len(_FORMAT) :]) + unpacker.flush()).decode()


def unpack_shelf(data: bytes) -> dict[str, Titled]:
    """The reverse of `pack_shelf`."""
    lines = (line.split("\t") for line in shelf_text(data).split("\n") if line)
    return {name: Titled(title, vin) for name, title, vin in lines}


def titled(title: str | None, vin: str | None) -> Titled:
    """Return a title and VIN for the catalogue: what cannot be printed becomes a space."""
    return Titled(_line(title or ""), _line(vin or ""))


def _line(text: str) -> str:
    return text if text.isprintable() else " ".join("".join(c if c.isprintable() else " " for c in text).split())


def folded(text: str) -> str:
    """Return the text for comparing in a search: lower case, without accents."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in plain if not unicodedata.combining(character)).casefold()
