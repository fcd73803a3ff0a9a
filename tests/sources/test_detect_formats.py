"""Drafts for feeds of other formats and shapes: where the vehicles are, the paths of fields, photos, dialects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.sources.detect import Draft, render
from tests.sources.formats import workbook
from tests.sources.test_detect import archive, drafted, feed, listings, loaded
from tests.sources.test_json_documents import NESTED
from tests.sources.test_xml import DUTCH, FRENCH

CSV = """\
voorraadnr;merk;model;prijs;kmstand;bouwjaar;brandstof
A-1;Skoda;Octavia;17450;88200;2020;Diesel
A-2;Volkswagen;Polo;11900;61000;2019;Benzine
A-3;BMW;i3;19900;43500;2021;Elektrisch
"""


def draft_of(tmp_path: Path, name: str, data: bytes) -> Draft:
    (tmp_path / name).write_bytes(data)
    return drafted(tmp_path / name)


def check(tmp_path: Path, draft: Draft, cars: int) -> None:
    """The draft, as it would be written, brings every car."""
    assert (draft.valid, draft.tried) == (cars, cars), draft.decide
    found = listings(tmp_path, draft)
    assert len(found) == cars
    assert all(row is not None and row["price"] > 1 for row in found), found


def test_a_dutch_xml_export(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, "stock.xml", DUTCH)
    assert (draft.head.kind, draft.head.items, draft.reference) == ("xml", "voertuigen/voertuig", "voertuignr")
    fields = {name: draft.fields[name] for name in ("price", "mileage", "year", "images", "brand")}
    assert fields == {
        "price": "verkoopprijs_particulier/prijzen/prijs[@soort='verkoop']/bedrag", "mileage": "tellerstand",
        "year": "bouwjaar", "images": "afbeeldingen/afbeelding/url", "brand": "merk",
    }  # fmt: skip
    check(tmp_path, draft, 1)


def test_a_french_xml_export(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, "stock.xml", FRENCH)
    assert (draft.head.items, draft.reference, draft.fields["images"]) == (
        "vehicules/vehicule",
        "reference",
        "photos/photo",
    )
    check(tmp_path, draft, 1)


def test_an_xml_export_with_several_prices_and_a_dealer(tmp_path: Path) -> None:
    car = """<vehicle id="{0}"><dealer><name>Janssens</name><city>Gent</city><id>7</id></dealer><make><name>Opel</name>
        </make><model>Corsa</model><prices><price type="trade"><value>8000</value></price><price type="consumer">
        <value>99{0}0</value></price></prices><odometer unit="km">61000</odometer><pictures><picture><url>
        https://x.example/{0}.jpg</url><thumb>https://x.example/t{0}.jpg</thumb></picture><picture><url>
        https://x.example/{0}b.jpg</url><thumb>https://x.example/tb.jpg</thumb></picture></pictures></vehicle>"""
    text = (
        f"<feed><made>today</made><vehicles>{''.join(car.format(number) for number in range(1, 4))}</vehicles></feed>"
    )
    draft = draft_of(tmp_path, "stock.xml", text.encode())
    assert (draft.head.items, draft.reference) == ("feed/vehicles/vehicle", "@id")
    assert draft.fields["price"] == "prices/price[@type='consumer']/value"
    assert (draft.fields["mileage"], draft.fields["brand"], draft.fields["city"]) == (
        "odometer",
        "make/name",
        "dealer/city",
    )
    assert draft.fields["images"] == "pictures/picture/url"
    check(tmp_path, draft, 3)


def test_a_nested_json_document(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, "stock.json", NESTED)
    fields = {name: draft.fields[name] for name in ("brand", "price", "mileage", "images")}
    assert fields == {
        "brand": "vehicle.make", "price": "prices[@type='retail'].amount", "mileage": "mileage.value",
        "images": "images[].url",
    }  # fmt: skip
    check(tmp_path, draft, 2)


CAR = {"ref": "A", "make": "Opel", "model": "Corsa", "price": 9900, "km": 1, "year": 2020}


@pytest.mark.parametrize(
    ("document", "items", "cars"),
    [
        ({"stock": {f"K{n}": {**CAR, "ref": f"R-{n}"} for n in range(3)}}, "stock", 3),
        ({f"K{n}": {**CAR, "ref": f"R-{n}"} for n in range(3)}, ".", 3),
        ({"dealers": [{"name": "x", "cars": [{**CAR, "ref": f"R-{d}{n}"} for n in range(2)]} for d in range(2)]}, "dealers[].cars", 4),
        ({"options": [{"code": n, "name": "x"} for n in range(9)], "cars": [CAR]}, "cars", 1),
        ([{**CAR, "photos": [{"url": f"https://x/{n}.jpg", "nr": n} for n in range(9)]}], "", 1),
    ],
)  # fmt: skip
def test_where_the_vehicles_of_a_json_document_are(tmp_path: Path, document: Any, items: str, cars: int) -> None:
    draft = draft_of(tmp_path, "stock.json", json.dumps(document).encode())
    assert (draft.head.items, draft.reference) == (items, "ref")
    check(tmp_path, draft, cars)


def test_a_workbook_with_a_title_and_dates(tmp_path: Path) -> None:
    data = workbook({"Stock": [["Voorraadlijst"], [], *(line.split(";") for line in CSV.splitlines())]})
    draft = draft_of(tmp_path, "stock.xlsx", data)
    assert (draft.head.kind, draft.head.skip_lines, draft.reference) == ("xlsx", 2, "voorraadnr")
    check(tmp_path, draft, 3)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (f"sep=;\n{CSV}", {"delimiter": ";", "skip_lines": 0}),
        (f"Voorraadlijst Garage Janssens 27/11/2026;;;;;;\n{CSV}", {"delimiter": ";", "skip_lines": 1}),
        (f"Voorraadlijst\n\nvan vandaag\n{CSV}", {"delimiter": ";", "skip_lines": 3}),
        (CSV.replace("\n", ";\n").replace("brandstof;", "brandstof"), {"delimiter": ";", "skip_lines": 0}),
        (CSV + ";;;;;;\n   \n", {"delimiter": ";", "skip_lines": 0}),
        (CSV.replace(";", "\t"), {"delimiter": "\t", "skip_lines": 0}),
    ],
)
def test_the_dialect_of_a_csv(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    draft = drafted(feed(tmp_path, text))
    source = loaded(tmp_path, draft)
    assert {name: getattr(source, name) for name in options} == options
    assert draft.reference == "voorraadnr"
    check(tmp_path, draft, 3)


def test_a_csv_without_a_header_is_noticed_and_its_columns_are_shown(tmp_path: Path) -> None:
    draft = drafted(feed(tmp_path, "".join(CSV.splitlines(keepends=True)[1:])))
    assert (draft.head.header, draft.reference, draft.fill_in()[:2]) == (False, "1", ["fields.title", "fields.price"])
    text = render(draft)
    assert "header = false" in text
    assert '# column "4": 17450, 11900, 19900' in text
    (tmp_path / "filled.csv").write_text("")
    draft.fields = {"title": "{2} {3}", "price": "4", "mileage": "5"}
    found = listings(tmp_path, draft)
    assert [row and row["price"] for row in found] == [17450, 11900, 19900]


def test_twenty_columns_of_photos(tmp_path: Path) -> None:
    names = ";".join(f"img{n}" for n in range(1, 21))
    urls = ";".join(f"https://x.example/{n}.jpg" for n in range(1, 21))
    draft = drafted(feed(tmp_path, f"id;merk;prijs;{names}\nA;Opel;9900;{urls}\nB;Opel;9900;{urls}\n"))
    assert draft.fields["images"] == {"columns": "img*"}
    found = listings(tmp_path, draft)
    assert found[0] is not None
    assert found[0]["images"] == tuple(f"https://x.example/{n}.jpg" for n in range(1, 21))
    draft = drafted(
        feed(tmp_path, "id;merk;prijs;foto2;fotos_datum;foto1\nA;Opel;9900;https://x/2.jpg;2020;https://x/1.jpg\n")
    )
    assert draft.fields["images"] == {"columns": ["foto1", "foto2"]}


@pytest.mark.parametrize("name", ["PictureRefs", "media", "Afbeeldingen"])
def test_photos_in_one_cell(tmp_path: Path, name: str) -> None:
    draft = drafted(
        feed(tmp_path, f"id;merk;prijs;{name}\nA;Opel;9900;https://x.example/1.jpg,https://x.example/2.jpg\n")
    )
    assert draft.fields["images"] == {"column": name, "split_on": ","}


def test_a_feed_in_a_zip_and_two_columns_of_one_name(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, "stock.zip", archive("photos.txt.jpg", "stock.csv"))
    assert (draft.head.kind, draft.reference) == ("csv", "id")
    draft = drafted(feed(tmp_path, "id;merk;prijs;prijs\nA;Opel;1;2\nB;Opel;1;2\n"))
    assert "fields.price" in draft.fill_in()
    assert any("two columns are called 'prijs'" in sentence for sentence in draft.decide)
