"""Paths into nested rows, and the rows of XML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.sources.paths import compile_path
from tests.sources.formats import values

ROW = {
    "id": "J-1",
    "engine": {"power_kw": 85, "empty": None, "blank": ""},
    "prices": [{"type": "retail", "amount": 17450}, {"type": "trade", "amount": 15000}],
    "photos": [{"url": "b", "order": 2}, {"url": "c", "order": 10}, {"url": "a", "order": 1}],
    "plain": [{"url": "z"}, {"url": "y"}],
    "tags": ["x", "y"],
    "one": [{"url": "only"}],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("engine.power_kw", 85),
        ("engine/power_kw", 85),
        ("engine.empty", None),
        ("engine.blank", None),
        ("engine.none.deeper", None),
        ("prices[0].amount", 17450),
        ("prices[1].amount", 15000),
        ("prices[2].amount", None),
        ("prices[@type='trade'].amount", 15000),
        ("prices[].amount", [17450, 15000]),
        ("photos[].url", ["a", "b", "c"]),
        ("plain[].url", ["z", "y"]),
        ("one[].url", ["only"]),
        ("one.url", "only"),
        ("tags[]", ["x", "y"]),
        ("none[].url", []),
        ("id[0]", "J-1"),
    ],
)
def test_a_path_reads_a_member_of_a_member(path: str, value: Any) -> None:
    assert compile_path(path)(ROW) == value


@pytest.mark.parametrize("path", ["a[b]", "a[-1]", "a[@x]", "a[@x='y]", "a]b", "a[0"])
def test_an_invalid_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid path"):
        compile_path(path)


def test_the_elements_of_a_path_are_read_with_attributes_and_local_names(tmp_path: Path) -> None:
    document = """<?xml version="1.0"?>
    <s:stock xmlns:s="urn:x"><meta><vehicle><id>no</id></vehicle></meta>
      <s:vehicle s:nr="7"><s:id>D-1</s:id><km unit="K">61000</km><photo>1</photo><photo>2</photo><empty/></s:vehicle>
      <s:vehicle><s:id>D-2</s:id><price kind="retail"><amount>9900</amount></price>
        <price kind="trade"><amount>8000</amount></price></s:vehicle>
    </s:stock>"""
    first, second = values(tmp_path, "xml", document.encode(), 'items = "stock/vehicle"')
    assert first == {"@nr": "7", "id": "D-1", "km": {"@unit": "K", "#text": "61000"}, "photo": ["1", "2"], "empty": ""}
    read = {path: compile_path(path)(first) for path in ("@nr", "km", "km/@unit", "photo", "empty")}
    assert read == {"@nr": "7", "km": "61000", "km/@unit": "K", "photo": ["1", "2"], "empty": None}
    assert compile_path("price[@kind='trade']/amount")(second) == "8000"
