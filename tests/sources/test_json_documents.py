"""JSON documents as feeds: where the vehicles are, what is refused, and with which place and reason."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.json_reader import read_json
from tests.sources.formats import account, failure, records, rows, values
from tests.sources.test_xml import Endless

NESTED = json.dumps({
    "meta": {"total": 2},
    "stock": {"vehicles": [
        {"id": "J-1", "vehicle": {"make": "Skoda", "model": "Octavia", "year": 2020, "fuel": "Diesel"},
         "prices": [{"type": "retail", "amount": 17450}], "mileage": {"value": 88200, "unit": "KM"},
         "images": [{"url": "https://cdn.example/2.jpg", "order": 2}, {"url": "https://cdn.example/1.jpg", "order": 1}],
         "description": None},
        {"id": "J-2", "vehicle": {"make": "VW", "model": "Polo", "year": 2019, "fuel": "Benzine"},
         "prices": [{"type": "retail", "amount": 11900}], "mileage": {"value": 61000, "unit": "KM"}, "images": [],
         "description": "ok"},
    ]},
}).encode()  # fmt: skip
NESTED_FIELDS = """
items = "stock.vehicles"
reference = "id"
[accounts.dex.source.fields]
title = "{vehicle.make} {vehicle.model}"
brand = "vehicle.make"
price = "prices[0].amount"
mileage = "mileage.value"
images = "images[].url"
description = "description"
"""


def test_a_nested_list_with_paths(tmp_path: Path) -> None:
    first, second = rows(tmp_path, "json", NESTED, NESTED_FIELDS)
    assert first.listing is not None, first.issues
    assert second.listing is not None, second.issues
    listing = first.listing
    assert (listing.brand, listing.price, listing.mileage, listing.title) == ("Skoda", 17450, 88200, "Skoda Octavia")
    assert [url.rpartition("/")[2] for url in listing.images] == ["1.jpg", "2.jpg"]
    assert (first.where, second.where) == ("stock.json:stock.vehicles[0]", "stock.json:stock.vehicles[1]")


@pytest.mark.parametrize(
    ("document", "items", "wheres"),
    [
        ([{"a": 1}], None, ["[0]"]),
        ({"s": {"A": {"a": 1}, "B": {"a": 2}}}, "s", ["s.A", "s.B"]),
        ({"A": {"a": 1}}, ".", ["A"]),
        ([{"cars": [{"a": 1}]}, {"cars": []}, {"cars": [{"a": 2}]}], "[].cars", ["[0].cars[0]", "[2].cars[0]"]),
        ({"dealers": [{"cars": [{"a": 1}]}, {"cars": {"X": {}}}]}, "dealers[].cars",
         ["dealers[0].cars[0]", "dealers[1].cars.X"]),
        ({"s": []}, "s", []),
        ({"s": {}}, "s", []),
    ],
)  # fmt: skip
def test_where_the_vehicles_are(tmp_path: Path, document: Any, items: str | None, wheres: list[str]) -> None:
    options = "" if items is None else f'items = "{items}"'
    found = list(records(tmp_path, "json", json.dumps(document).encode(), options))
    assert [record.where for record in found] == [f"stock.json:{where}" for where in wheres]


def test_an_object_by_id_has_its_key_as_a_member(tmp_path: Path) -> None:
    text = b'{"s": {"A": {"x": 1}, "B": {"@key": "own"}, "C": 3}}'
    assert values(tmp_path, "json", text, 'items = "s"') == [
        {"x": 1, "@key": "A"}, {"@key": "own"}, 3,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "options", "code", "where", "reason"),
    [
        (b"", "", "cut", "stock.json:1", "ends in the middle"),
        (b"[", "", "cut", "stock.json:1 ([0])", "ends in the middle"),
        (b'[{"a": 1},\n {"a": tru', "", "cut", "stock.json:2 ([1])", "ends in the middle"),
        (b'[{"a": 1},\n {"a": "x', "", "cut", "stock.json:2 ([1])", "ends in the middle"),
        (b'[{"a": 1}', "", "cut", "stock.json:1 ([0])", "ends in the middle"),
        (b'[{"a": 1},\n\n {"a": nil}, {}]', "", "not_json", "stock.json:3 ([1])", "expecting value"),
        (b'{"items": [{}, {}, {}, {"a" 1}]}', 'items = "items"', "not_json", "stock.json:1 (items[3])", "delimiter"),
        (b'[{"a": 1} {"a": 2}]', "", "not_json", "stock.json:1 ([0])", "expected , or ]"),
        (b"[{},]", "", "not_json", "stock.json:1 ([0])", "expected a value after the comma"),
        (b"[] []", "", "not_json", "stock.json:1", "expected the end"),
        (b'[{"a": NaN}]', "", "not_json", "stock.json:1 ([0])", "NaN is not a JSON number"),
        (b'[{"a": "\x01"}]', "", "not_json", "stock.json:1 ([0])", "control character"),
        (b'[{"a": 1},\n{"a": "\xff"}]', "", "encoding", "stock.json:2", "byte 0xff is not utf-8"),
        (b'{"a": [], "b": {}}', "", "no_list", "stock.json", "name it with `items`; the members are a, b"),
        (b'{"a": {"x": [1], "y": 1}}', 'items = "a.cars"', "no_list", "stock.json", "no member cars at a; its members are x, y"),
        (b'{"a": null}', 'items = "a"', "no_list", "stock.json", "expected a list at a, got null"),
        (b'{"a": [1]}', 'items = "a.b"', "no_list", "stock.json", "expected an object at a, got a list"),
        (b'"x"', "", "no_list", "stock.json", "got a text"),
        (b"[" + b'{"a":' * 200 + b"1" + b"}" * 200 + b"]", "", "not_json", "stock.json:1 ([0])", "deeper than 100"),
        (b"[" + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"]", "", "not_json", "stock.json:1 ([0])", "deeper than 100"),
        (b'{"b": ' + b"[" * 90_000 + b"]" * 90_000 + b', "a": []}', 'items = "a"', "not_json", "stock.json:1", "deeper than 100"),
        (b"[{}]", 'encoding = "klingon"', "source", "stock.json", "'klingon' is unknown"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, text: bytes, options: str, code: str, where: str, reason: str
) -> None:
    error = failure(tmp_path, "json", text, options)
    assert (error.code, error.where, reason in error.message) == (code, where, True), error.message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    options = 'encoding = "cp1252"' if encoding == "cp1252" else ""
    assert values(tmp_path, "json", '[{"town": "Liège"}]'.encode(encoding), options) == [{"town": "Liège"}]


def test_numbers_stay_what_they_are_and_half_a_surrogate_costs_one_row(tmp_path: Path) -> None:
    text = (
        rb'[{"a": 12345678901234567890123, "b": 2.50, "c": 2020.0, "d": 1e3}, {"a": "\ud83d"}, {"a": "\ud83d\ude97"}]'
    )
    first, second, third = values(tmp_path, "json", text)
    assert first == {"a": 12345678901234567890123, "b": 2.5, "c": 2020.0, "d": 1000.0}
    assert "half of a surrogate pair" in second
    assert third == {"a": "\U0001f697"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    before=st.dictionaries(st.sampled_from("abc"), JSON, max_size=2),
    vehicles=st.lists(st.dictionaries(st.sampled_from(["id", "x", "y"]), JSON, max_size=3), max_size=5),
    after=st.dictionaries(st.sampled_from("def"), JSON, max_size=2),
    indent=st.sampled_from([None, 1]), ascii_only=st.booleans(), chunk=st.integers(1, 40),
)  # fmt: skip
def test_the_vehicles_are_those_that_another_decoder_finds(
    tmp_path_factory: pytest.TempPathFactory, before: Any, vehicles: Any, after: Any, indent: int | None,
    ascii_only: bool, chunk: int,
) -> None:  # fmt: skip
    """Whatever surrounds them, and wherever the pieces of a read end."""
    document = json.dumps({**before, "cars": vehicles, **after}, indent=indent, ensure_ascii=ascii_only).encode()
    expected = msgspec.json.decode(document)["cars"]
    settings = account(tmp_path_factory.mktemp("json"), "json", 'items = "cars"')
    file = BoundedFile(Pieces(document, chunk), Bounds(settings), "x", document=True)  # type: ignore[arg-type]
    assert [record.value for record in read_json(file, settings.source, name="x")] == expected
    cut = BoundedFile(Pieces(document[:-1], chunk), Bounds(settings), "x", document=True)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="ends in the middle"):
        list(read_json(cut, settings.source, name="x"))


class Pieces(io.BytesIO):
    """A file that returns fewer bytes than were asked for."""

    def __init__(self, data: bytes, chunk: int) -> None:
        super().__init__(data)
        self._chunk = chunk

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(self._chunk, size) if size and size > 0 else self._chunk)


@pytest.mark.parametrize(
    ("head", "piece", "reason"),
    [
        (b'{"cars": [{"a": 1}, {"a": [', b"1," * 4000, "cars[1]: has a row of more than 1000 kB"),
        (b'{"cars": [{"a": "', b"x" * 8000, "cars[0]: has a row of more than 1000 kB"),
        (b'{"', b"x" * 8000, "has a row of more than 1000 kB"),
        (b'{"logo": "', b"x" * 8000, "is larger than 3 MB (accounts.dex.source.max_document_mb)"),
        (b"", b" " * 8000, "is larger than 20 MB (accounts.dex.source.max_mb)"),
        (b'{"a": [', b'"' + b"x" * 900 + b'",', "is larger than 20 MB (accounts.dex.source.max_mb)"),
    ],
)  # fmt: skip
def test_what_never_ends_is_bounded(tmp_path: Path, head: bytes, piece: bytes, reason: str) -> None:
    settings = account(tmp_path, "json", 'items = "cars"\nmax_mb = 20\nmax_document_mb = 3')
    file = BoundedFile(Endless(head, piece), Bounds(settings), "stock.json", document=True)  # type: ignore[arg-type]
    tracemalloc.start()
    with pytest.raises(Exception, match=r"more than|larger than") as raised:
        list(read_json(file, settings.source, name="stock.json"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason in str(raised.value)
    assert peak < 25_000_000


def test_memory_does_not_grow_with_the_document(tmp_path: Path) -> None:
    car = b'{"id": 1, "text": "' + b"x" * 100 + b'"}'
    text = b'{"options": [' + car + (b"," + car) * 50_000 + b'], "cars": [' + car + (b"," + car) * 50_000 + b"]}"
    found = records(tmp_path, "json", text, 'items = "cars"')
    tracemalloc.start()
    count = sum(1 for _ in found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 50_001
    assert peak < 2_000_000
