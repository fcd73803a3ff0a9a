"""Damaged feeds of every format: a read ends with its rows or with an error that names a place and a reason.

300 seeded variants of each format; ``OKASIE_DAMAGED=10000 pytest tests/sources/test_damage.py`` reads 10,000.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.ports import SourceRow
from okasie_tasks.sources import open_source
from okasie_tasks.sources.detect import propose, read_head, render
from tests.sources.formats import account, workbook

VARIANTS = int(os.environ.get("OKASIE_DAMAGED", "300"))
_FIELDS = """
reference = "ref"
[accounts.dex.source.fields]
title = "title"
price = "price"
images = { column = "photos", split_on = "|" }
"""
_CARS = [
    {"ref": f"R-{number}", "title": f"Škoda Octavia «{number}»", "price": str(9_000 + number), "photos": photo}
    for number in range(12)
    for photo in [f"https://photos.example/{number}.jpg|https://photos.example/{number}b.jpg"]
]
_COLUMNS = list(_CARS[0])


def as_csv() -> bytes:
    quoted = [[f'"{cell}"' if "«" in cell else cell for cell in car.values()] for car in _CARS]
    return "".join(",".join(line) + "\r\n" for line in [_COLUMNS, *quoted]).encode()


def as_xml() -> bytes:
    cars = "".join(f"<car>{''.join(f'<{k}>{v}</{k}>' for k, v in car.items())}</car>\n" for car in _CARS)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<cars>\n{cars}</cars>\n'.encode()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("photo.jpg", bytes(range(256))), ("stock.csv", as_csv())):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


FEEDS: dict[str, tuple[str, str, bytes]] = {
    "csv": ("csv", "", as_csv()),
    "jsonl": ("jsonl", "", "".join(json.dumps(car) + "\n" for car in _CARS).encode()),
    "json": ("json", 'items = "cars"', json.dumps({"at": "today", "cars": _CARS}, ensure_ascii=False).encode()),
    "xml": ("xml", 'items = "car"', as_xml()),
    "xlsx": ("xlsx", "", workbook({"Cars": [_COLUMNS, *(list(car.values()) for car in _CARS)]})),
    "gz": ("csv", "", gzip.compress(as_csv(), mtime=0)),
    "zip": ("csv", "", zipped()),
}
"""Name -> type, options, content."""
_PROVEN = ("json", "xml", "xlsx", "gz", "zip")
"""Formats of which every cut is seen."""
_LINE_ENDS = {"csv": (b"\n", b"\r"), "jsonl": (b"\n", b"}")}
"""After which a last row is complete."""

Damage = Callable[[bytes, Random], bytes]


def changed(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 50))):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def replaced(data: bytes, rng: Random) -> bytes:
    """A sign that has a meaning, in place of another byte."""
    at = rng.randrange(len(data))
    return (
        data[:at]
        + rng.choice((b'"', b"'", b"<", b">", b"&", b"{", b"}", b"[", b"]", b",", b"\\", b"\n", b"\0"))
        + data[at + 1 :]
    )


def cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def doubled(data: bytes, rng: Random) -> bytes:
    begin, end = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    return rng.choice((data + data, data[:end] + data[begin:], data[:begin] + data[end:]))


def reencoded(data: bytes, rng: Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(
        rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "utf-8-sig", "utf-7", "cp037")), "replace"
    )


DAMAGES: tuple[Damage, ...] = (changed, replaced, cut, doubled, reencoded)


@pytest.mark.parametrize("name", FEEDS)
def test_a_damaged_feed_yields_rows_or_an_error_with_place_and_reason(tmp_path: Path, name: str) -> None:
    kind, options, data = FEEDS[name]
    path = tmp_path / f"stock.{name}"
    settings = account(tmp_path, kind, options + _FIELDS, url=path.name)
    path.write_bytes(data)
    assert len(read(settings, tmp_path)) == len(_CARS)
    ends: Counter[str] = Counter()
    for seed in range(VARIANTS):
        rng = Random(f"{name}:{seed}")
        damage = rng.choice(DAMAGES)
        path.write_bytes(content := damage(data, rng))
        place = f"{name}, seed {seed}, {damage.__name__}"
        try:
            rows = read(settings, tmp_path)
        except SourceError as error:
            assert error.where, place
            assert error.where.startswith(path.name), place
            assert len(error.message) > 10, place
            ends[f"{damage.__name__}: {error.code}"] += 1
            continue
        ends[f"{damage.__name__}: read"] += 1
        assert all(row.listing is not None or row.issues or row.left_out for row in rows), place
        assert all(row.where.startswith(path.name) for row in rows), place
        if damage is cut and content.rstrip() != data.rstrip():
            assert name not in _PROVEN, f"{place}: {len(content)} of {len(data)} bytes count as complete"
            whole = content.endswith(_LINE_ENDS[name])
            assert whole or not rows or rows[-1].unterminated, place
    assert sum(ends.values()) == VARIANTS
    assert any(end.endswith(": read") for end in ends) or name in ("gz", "xlsx", "zip"), ends


@pytest.mark.parametrize("name", FEEDS)
def test_a_draft_from_a_damaged_feed_is_made_or_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    """What `okasie init` does, with a tenth of the variants."""
    path = tmp_path / f"stock.{name}"
    for seed in range(VARIANTS // 10):
        rng = Random(f"init:{name}:{seed}")
        damage = rng.choice(DAMAGES)
        path.write_bytes(damage(FEEDS[name][2], rng))
        place = f"{name}, seed {seed}, {damage.__name__}"
        try:
            render(propose(read_head(str(path)), account="dex", url=path.name, current_year=2026))
        except (SourceError, ConfigurationError) as error:
            assert error.where, place
            assert len(error.message) > 5, place


def read(settings: object, folder: Path) -> list[SourceRow]:
    source = open_source(settings, cache_dir=folder / "feeds", current_year=2026)  # type: ignore[arg-type]
    return list(source.rows())
