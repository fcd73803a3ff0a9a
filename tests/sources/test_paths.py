"""Paths into nested rows, and the rows of XML."""

from __future__ import annotations

import io
from typing import Any

import pytest

from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.sources.paths import compile_path
from okasie_tasks.sources.xml_reader import read_elements

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


def elements(text: str, path: str) -> list[dict[str, Any]]:
    return list(read_elements(io.BytesIO(text.encode()), path, name="feed.xml"))


def test_the_elements_of_a_path_are_read_with_attributes_and_local_names() -> None:
    document = """<?xml version="1.0"?>
    <s:stock xmlns:s="urn:x"><meta><vehicle><id>no</id></vehicle></meta>
      <s:vehicle s:nr="7"><s:id>D-1</s:id><km unit="K">61000</km><photo>1</photo><photo>2</photo><empty/></s:vehicle>
      <s:vehicle><s:id>D-2</s:id><price kind="retail"><amount>9900</amount></price>
        <price kind="trade"><amount>8000</amount></price></s:vehicle>
    </s:stock>"""
    first, second = elements(document, "stock/vehicle")
    assert first == {"@nr": "7", "id": "D-1", "km": {"@unit": "K", "#text": "61000"}, "photo": ["1", "2"], "empty": ""}
    read = {path: compile_path(path)(first) for path in ("@nr", "km", "km/@unit", "photo", "empty")}
    assert read == {"@nr": "7", "km": "61000", "km/@unit": "K", "photo": ["1", "2"], "empty": None}
    assert compile_path("price[@kind='trade']/amount")(second) == "8000"


def test_memory_does_not_grow_with_the_feed() -> None:
    import tracemalloc

    rows = "".join(f"<v><id>{number}</id><text>{'x' * 100}</text></v>" for number in range(20_000))
    file = io.BytesIO(f"<stock><list>{rows}</list></stock>".encode())
    tracemalloc.start()
    count = sum(1 for _ in read_elements(file, "stock/list/v", name="feed.xml"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 1024**2


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("<stock><vehicle><id>1</id></vehicle>", "cut", "feed.xml:1"),
        ("<stock>\n<vehicle><id>1</vehicle></stock>", "not_xml", "feed.xml:2"),
        ("<other/>", "no_list", "feed.xml"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><stock><vehicle>&a;</vehicle></stock>', "dtd", "feed.xml"),
        ('<!DOCTYPE x SYSTEM "http://x.test/a.dtd"><stock/>', "dtd", "feed.xml"),
        ("", "cut", "feed.xml:1"),
    ],
)
def test_a_document_that_is_not_read_to_its_end_is_an_error(text: str, code: str, where: str) -> None:
    with pytest.raises(SourceError) as error:
        elements(text, "stock/vehicle")
    assert (error.value.code, error.value.where) == (code, where)


def test_a_feed_without_vehicles_is_empty_and_not_an_error() -> None:
    assert elements("<stock/>", "stock/vehicle") == []
