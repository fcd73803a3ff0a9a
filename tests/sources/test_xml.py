"""XML feeds: what is read, what is refused, and with which place and reason."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import pytest

from okasie_tasks.sources.bounds import BoundedFile, Bounds
from okasie_tasks.sources.xml_reader import likely_elements, read_xml
from tests.sources.formats import account, failure, records, rows, values

DUTCH = b"""<?xml version="1.0" encoding="UTF-8"?>
<voertuigen><voertuig><voertuignr>D-1</voertuignr><merk>Opel</merk><model>Corsa</model><brandstof>B</brandstof><tellerstand eenheid="K">61000</tellerstand><bouwjaar>2019</bouwjaar><verkoopprijs_particulier><prijzen><prijs soort="verkoop"><bedrag>9900</bedrag></prijs></prijzen></verkoopprijs_particulier><afbeeldingen><afbeelding nr="1"><url>https://cdn.example/1.jpg</url></afbeelding></afbeeldingen></voertuig></voertuigen>"""
DUTCH_FIELDS = """
reference = "voertuignr"
items = "{items}"
[accounts.dex.source.fields]
title = "{{merk}} {{model}}"
mileage = "tellerstand"
price = "verkoopprijs_particulier/prijzen/prijs[@soort='verkoop']/bedrag"
images = "afbeeldingen/afbeelding/url"
"""
FRENCH = b"""<vehicules><vehicule><reference>S-1</reference><marque>Renault</marque><modele>Clio</modele><prix>9900</prix><photos><photo>https://cdn.example/1.jpg</photo></photos></vehicule></vehicules>
"""


@pytest.mark.parametrize("items", ["voertuigen/voertuig", "voertuig", "/voertuigen/voertuig", "voertuigen.voertuig"])
def test_an_export_with_attributes_and_nested_prices(tmp_path: Path, items: str) -> None:
    (row,) = rows(tmp_path, "xml", DUTCH, DUTCH_FIELDS.format(items=items))
    listing = row.listing
    assert listing is not None, row.issues
    assert (row.reference, listing.price, listing.mileage, listing.title) == ("D-1", 9900, 61000, "Opel Corsa")
    assert [image.url if hasattr(image, "url") else image for image in listing.images] == ["https://cdn.example/1.jpg"]
    assert row.where == f"stock.xml:{items.strip('/').replace('.', '/')}[1]"


def test_a_feed_without_declaration(tmp_path: Path) -> None:
    fields = """
items = "vehicules/vehicule"
reference = "reference"
fields = { title = "{marque} {modele}", price = "prix", images = "photos/photo" }
"""
    (row,) = rows(tmp_path, "xml", FRENCH, fields)
    assert row.listing is not None, row.issues
    assert (row.listing.price, len(row.listing.images)) == (9900, 1)


@pytest.mark.parametrize("encoding", ["windows-1252", "iso-8859-1", "utf-16", "utf-8", "utf-8-sig", "us-ascii"])
def test_the_encoding_that_is_declared(tmp_path: Path, encoding: str) -> None:
    town = "Lier" if encoding == "us-ascii" else "Liège"
    text = (
        f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?><s><v><id>1</id><town>{town}</town></v></s>'
    )
    assert values(tmp_path, "xml", text.encode(encoding), 'items = "v"') == [{"id": "1", "town": town}]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "shift_jis"])
def test_the_encoding_that_is_configured_overrides_a_wrong_declaration(tmp_path: Path, encoding: str) -> None:
    town = "東京" if encoding == "shift_jis" else "Liège"
    text = f'<?xml version="1.0" encoding="ISO-8859-2"?><s><v><town>{town}</town></v></s>'.encode(encoding)
    assert values(tmp_path, "xml", text, f'items = "v"\nencoding = "{encoding}"') == [{"town": town}]


@pytest.mark.parametrize(
    ("text", "options", "code", "where", "reason"),
    [
        (b'<?xml version="1.0" encoding="klingon"?><s/>', "", "encoding", "stock.xml", "klingon"),
        (b'<?xml version="1.0" encoding="shift_jis"?><s/>', "", "encoding", "stock.xml", "`encoding` overrides"),
        (b"<s><v>\xff</v></s>", "", "not_xml", "stock.xml:1", "not well-formed"),
        (b"<s>\n<v>\xff</v></s>", 'encoding = "utf-8"', "encoding", "stock.xml", "is not utf-8"),
        (b"<s><v><id>1</id></v>", "", "cut", "stock.xml:1", "no element found"),
        (b"", "", "cut", "stock.xml:1", "no element found"),
        (b'<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><s><v>&c;</v></s>', "", "dtd", "stock.xml", "document type"),
        (b'<?xml version="1.0"?>\n<!-- x -->' + b" " * 100_000 + b"<!DOCTYPE s><s/>", "", "dtd", "stock.xml", "document type"),
        (b"<s><v>&a;</v></s>", "", "not_xml", "stock.xml:1", "undefined entity"),
        (b"<s><car><id>1</id></car><car/></s>", "", "no_list", "stock.xml", "has no element v; there are car (2)"),
        (b"<s><list><car/></list></s>", 'items = "cars/car"', "no_list", "stock.xml", "cars/car; there is s/list/car"),
        (b"<s><cars><car/></cars></s>", 'items = "car"', "no_list", "stock.xml", "no element car; there is s/cars/car"),
        (b"<s><list><x/></list></s>", 'items = "cars/car"', "no_list", "stock.xml", "has no element cars/car"),
        (b"<a>" * 150, "", "too_deep", "stock.xml:v[1]", "nested deeper than 100"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, text: bytes, options: str, code: str, where: str, reason: str
) -> None:
    error = failure(tmp_path, "xml", text, options if "items" in options else f'items = "v"\n{options}')
    assert (error.code, error.where) == (code, where)
    assert reason in error.message


def test_without_items_the_error_names_the_elements_that_repeat(tmp_path: Path) -> None:
    car = b"<car><id>1</id><make>Opel</make><photos><photo><url>a</url><nr>1</nr></photo></photos></car>"
    error = failure(tmp_path, "xml", b"<stock><date>today</date><cars>" + car * 3 + b"</cars></stock>")
    assert "needs `items`" in error.message
    assert "stock/cars/car (3)" in error.message


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (DUTCH, "voertuigen/voertuig"),
        (FRENCH, "vehicules/vehicule"),
        (b"<a><dealer><name>x</name><cars><car><id>1</id><make>a</make><km>1</km></car><car/></cars></dealer><dealer/></a>",
         "a/dealer/cars/car"),
        (b'<a><info x="1" y="2" z="3"/><car id="1" make="x"/><car id="2" make="x"/></a>', "a/car"),
    ],
)  # fmt: skip
def test_the_element_that_is_one_vehicle_is_found(tmp_path: Path, text: bytes, path: str) -> None:
    settings = account(tmp_path, "xml")
    file = BoundedFile(io.BytesIO(text), Bounds(settings), "x", document=True)
    assert likely_elements(file, settings.source, name="x")[0].path == path


@pytest.mark.parametrize(
    ("element", "value"),
    [
        (b'<v><p t="a"/></v>', {"p": {"@t": "a", "#text": ""}}),
        (b"<v><d>Een <b>mooie</b> wagen</d></v>", {"d": {"b": "mooie", "#text": "Een mooie wagen"}}),
        (b"<v><d><![CDATA[a < b]]></d></v>", {"d": "a < b"}),
        (b"<v/>", {"#text": ""}),
        (b'<v id="7"/>', {"@id": "7", "#text": ""}),
        (b"<v><o>1</o><x/><o>2</o></v>", {"o": ["1", "2"], "x": ""}),
    ],
)
def test_elements_become_values(tmp_path: Path, element: bytes, value: object) -> None:
    assert values(tmp_path, "xml", b"<s>" + element + b"</s>", 'items = "v"') == [value]


def test_an_element_of_the_same_name_elsewhere_is_no_vehicle(tmp_path: Path) -> None:
    text = b"<s><v><id>1</id><v><id>2</id></v></v><other><v><id>3</id></v></other><v><id>4</id></v></s>"
    found = list(records(tmp_path, "xml", text, 'items = "s/v"'))
    assert [(record.where, record.value["id"]) for record in found] == [
        ("stock.xml:s/v[1]", "1"),
        ("stock.xml:s/v[2]", "4"),
    ]


class Endless(io.RawIOBase):
    """A file that goes on for ever."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self._head, self._piece = head, piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = (self._head or self._piece)[: len(buffer)]
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


@pytest.mark.parametrize(
    ("head", "piece", "where"),
    [
        (b"<s><v><id>1</id></v><v>", b"<a>b</a>" * 1000, "stock.xml:v[2]"),
        (b"<s><v>", b"x" * 8000, "stock.xml:v[1]"),
        (b"<s><v/><!--", b"x" * 8000, "stock.xml:v[2]"),
        (b'<s a="', b"x" * 8000, "stock.xml:v[1]"),
        (b"<s>", b"x" * 8000, "stock.xml:v[1]"),
        (b"<!-- ", b"x" * 8000, "stock.xml:v[1]"),
    ],
)  # fmt: skip
def test_what_never_ends_is_bounded_like_a_row(tmp_path: Path, head: bytes, piece: bytes, where: str) -> None:
    settings = account(tmp_path, "xml", 'items = "v"')
    file = BoundedFile(Endless(head, piece), Bounds(settings), "stock.xml", document=True)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="has a row of more than 1000 kB") as raised:
        list(read_xml(file, settings.source, name="stock.xml"))
    assert str(raised.value).startswith(where)


def test_memory_does_not_grow_with_what_lies_beside_the_vehicles(tmp_path: Path) -> None:
    beside = b"<meta><list>" + b"<option><code>1</code><name>Airco</name></option>" * 60_000 + b"</list></meta>"
    text = b"<s>" + beside + b"<v><id>1</id></v>" * 20_000 + b"</s>"
    found = records(tmp_path, "xml", text, 'items = "v"')
    tracemalloc.start()
    count = sum(1 for _ in found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 4_000_000


def test_a_feed_without_vehicles_is_empty_and_not_an_error(tmp_path: Path) -> None:
    for text in (b"<stock/>", b"<stock><date>today</date></stock>"):
        assert values(tmp_path, "xml", text, 'items = "stock/vehicle"') == []
