"""Values of nested rows and of several columns, as a feed's mapping names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import load_settings
from tests.sources.support import HEAD, one, source
from tests.sources.test_mapping import listing

CAR = {
    "ref": "J-1",
    "vehicle": {"make": "Skoda", "model": "Octavia", "year": 2020.0, "fuel": "Diesel"},
    "prices": [{"type": "retail", "amount": 17450}],
    "mileage": {"value": 88200, "unit": "KM"},
    "images": [{"url": "https://cdn.example/2.jpg", "order": 2}, {"url": "https://cdn.example/1.jpg", "order": 1}],
    "a.b": "dotted",
    "description": None,
}
FIELDS = """
items = "stock.vehicles"
type = "json"
[accounts.dex.source.fields]
title = "{vehicle.make} {vehicle.model} {vehicle.year}"
brand = "vehicle.make"
price = "prices[0].amount"
mileage = "mileage.value"
images = "images[].url"
variant = "a.b"
"""


def json_row(tmp_path: Path, car: dict[str, object], options: str = FIELDS) -> SourceRow:
    (tmp_path / "feed.json").write_text(json.dumps({"meta": {}, "stock": {"vehicles": [car]}}))
    return one(source(tmp_path, "feed.json", options).rows())


def test_fields_of_a_json_feed_may_be_paths(tmp_path: Path) -> None:
    found = json_row(tmp_path, CAR).listing
    assert found is not None
    assert (found.title, found.brand, found.price, found.mileage) == ("Skoda Octavia 2020", "Skoda", 17450, 88200)
    assert found.images == ("https://cdn.example/1.jpg", "https://cdn.example/2.jpg")
    assert found.variant == "dotted", "a member's own name goes before the path"


def test_a_path_without_a_value_is_an_empty_field(tmp_path: Path) -> None:
    row = json_row(tmp_path, CAR | {"prices": [], "images": None})
    assert [(issue.field, issue.code) for issue in row.issues] == [("price", "required")]


def test_several_values_for_one_field_are_not_guessed(tmp_path: Path) -> None:
    prices = [{"amount": 17450}, {"amount": 16000}]
    row = json_row(tmp_path, CAR | {"prices": prices}, FIELDS.replace("prices[0].amount", "prices[].amount"))
    assert [(issue.field, issue.code) for issue in row.issues] == [("price", "unreadable")]


@pytest.mark.parametrize("columns", ['["img1", "img2", "img10"]', '"img*"'])
def test_several_columns_make_one_list(tmp_path: Path, columns: str) -> None:
    cells = {f"img{n}": f"https://x.test/{n}.jpg" for n in (1, 2, 10)} | {"imgage": ""}
    found = listing(tmp_path, cells, f"[accounts.dex.source.fields]\nimages = {{ columns = {columns} }}")
    assert found.images == ("https://x.test/1.jpg", "https://x.test/2.jpg", "https://x.test/10.jpg")


def test_columns_of_a_list_may_each_hold_several(tmp_path: Path) -> None:
    options = '[accounts.dex.source.fields]\nfeatures = { columns = ["comfort", "safety"], split_on = "," }'
    found = listing(tmp_path, {"comfort": "airco, cruise", "safety": "ABS"}, options)
    assert [feature.name for feature in found.features] == ["airco", "cruise", "ABS"]


def test_in_a_wildcard_only_the_star_is_special(tmp_path: Path) -> None:
    options = '[accounts.dex.source.fields]\nimages = { columns = "p[1]?*" }'
    cells = {"p[1]?x": "https://x.test/1.jpg", "p1ax": "https://x.test/2.jpg"}
    assert listing(tmp_path, cells, options).images == ("https://x.test/1.jpg",)


@pytest.mark.parametrize("form", ["{}", '{ column = "a", columns = "b*" }', '{ split_on = "|" }'])
def test_the_long_form_names_a_column_or_several(tmp_path: Path, form: str) -> None:
    config = tmp_path / "okasie.toml"
    config.write_text(HEAD.format(url="feed.csv", options=f"[accounts.dex.source.fields]\nimages = {form}"))
    with pytest.raises(ConfigurationError, match="column"):
        load_settings(config, {"K": "key"})
