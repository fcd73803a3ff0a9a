"""A feed nobody has described: the draft loads, makes valid listings of its rows, and says what a person must decide."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings import ColumnSettings, SourceSettings, load_settings
from okasie_tasks.sources import open_source
from okasie_tasks.sources.detect import FILL_IN, Draft, propose, read_head, render
from okasie_tasks.sources.detect.render import comment, key, quoted
from okasie_tasks.sources.detect.vocabulary import WORDS, meaning_of, value_of
from tests.system.test_foreign_feed import EXAMPLE, generated, write

YEAR = 2026

DUTCH = """\
Voorraadnummer;Merk;Model;Uitvoering;Prijs (EUR);Kilometerstand;Bouwjaar;Datum eerste toelating;Brandstof;Transmissie;Carrosserie;Vermogen (pk);Aantal deuren;Kleur;BTW/Marge;Opties;Foto's;Vestiging;Opmerkingen;Gewijzigd
A-1001;Volkswagen;Golf;1.5 TSI;18.950,00;45.300;2020;2020-03-12;Benzine;Handgeschakeld;Hatchback;150;5;Zwart;BTW;airco, navigatie;https://f.example/1.jpg,https://f.example/2.jpg;GENT;Eerste eigenaar;2026-01-02
A-1002;Škoda;Octavia;Combi;16.450,00;88.200;2019;2019-11-02;Diesel;Automaat;Break;115;5;Wit;Marge;airco;https://f.example/3.jpg;BRUGGE;;2026-01-02
A-1003;Tesla;Model 3;;31.900,00;23.000;2022;2022-06-30;Elektrisch;Automaat;Berline;;4;Rood;BTW;autopilot, leder;;GENT;"Nieuw; net binnen";2026-01-03
A-1004;Toyota;C-HR;Hybrid;21.750,00;51.200;2021;2021-01-15;Hybride;Automaat;SUV;122;5;Grijs;Marge;;;GENT;;2026-01-03
A-1005;Hyundai;Nexo;;42.000,00;12.000;2021;2021-02-15;Zonne-energie;Automaat;SUV;163;5;Grijs;Marge;;;GENT;;2026-01-03
"""
FRENCH = """\
Référence\tMarque\tModèle\tFinition\tPrix TTC\tKilométrage\tAnnée\tDate 1ère mise en circulation\tCarburant\tBoîte de vitesses\tType carrosserie\tPuissance (ch)\tPortes\tTVA récupérable\tÉtat\tMotricité\tphoto1\tphoto2\tphoto3\tCode postal\tVille\tModifié le
VO-1\tPeugeot\t308\tAllure\t15990\t61 200\t2019\t12/03/2019\tEssence\tManuelle\tBerline\t130\t5\tnon\tOccasion\tTraction\thttps://p.example/1a.jpg\thttps://p.example/1b.jpg\t\t7000\tMons\t2026-01-02 10:00:00
VO-2\tRenault\tMégane\tIntens\t13990,50\t80 100\t2018\t05/06/2018\tGazole\tManuelle\tBreak\t115\t5\toui\tOccasion\tTraction\thttps://p.example/2a.jpg\t\t\t7000\tMons\t2026-01-02 10:00:00
VN-3\tCitroën\tC4\tShine\t28990\t15\t2026\t02/01/2026\tÉlectrique\tAutomatique\tBerline\t136\t5\toui\tNeuf\tTraction\t\t\t\t7000\tMons\t2026-01-02 10:00:00
VD-4\tBMW\tX3\tM Sport\t52990\t8 000\t2025\t02/01/2025\tHybride rechargeable\tAutomatique\tSUV\t292\t5\toui\tVéhicule de démonstration\tTransmission intégrale\t\t\t\t7000\tMons\t2026-01-02 10:00:00
"""
GERMAN = """\
Fahrzeugnummer,Hersteller,Modell,Typ,Bruttopreis,Laufleistung,Erstzulassung,Kraftstoff,Getriebe,Aufbau,Leistung (kW),Leistung (PS),Anzahl Türen,Sitze,Farbe,MwSt. ausweisbar,Zustand,Antrieb,Polster,Bilder,PLZ,Ort,Fahrgestellnummer
F-1,VW,Passat,2.0 TDI,"22.990,00","98.000",2019-05,Diesel,Automatik,Kombi,110,150,5,5,grau,ja,Gebrauchtwagen,Frontantrieb,Stoff,https://b.example/1.jpg https://b.example/2.jpg,4700,Eupen,WVWZZZ3CZKE000001
F-2,Opel,Corsa,Elegance,"14.500,00","12.000",2023-02,Benzin,Schaltgetriebe,Kleinwagen,74,101,5,5,weiß,nein,Vorführwagen,Frontantrieb,Stoff,,4700,Eupen,W0VZZZ3CZKE000002
F-3,Audi,A4,Avant,"31.250,50","45.000",2021-09,Elektro/Benzin,Automatik,Kombi,185,252,5,5,schwarz,ja,Jahreswagen,Allrad,Teilleder,,4700,Eupen,WAUZZZ3CZKE000003
"""


def drafted(path: Path, *, account: str = "dex") -> Draft:
    return propose(read_head(str(path)), account=account, url=path.name, current_year=YEAR)


def loaded(tmp_path: Path, draft: Draft) -> SourceSettings:
    """The source's settings as the text of the draft says."""
    config = tmp_path / "okasie.toml"
    config.write_text(render(draft).replace(FILL_IN, "KTR-1"), encoding="utf-8")
    return load_settings(config, environ={}).accounts[draft.account].source


def listings(tmp_path: Path, draft: Draft) -> list[dict[str, Any] | None]:
    """Every row as the real source reads it by the draft; None for an invalid one."""
    loaded(tmp_path, draft)
    account = load_settings(tmp_path / "okasie.toml", environ={}).accounts[draft.account]
    rows = open_source(account, cache_dir=tmp_path, current_year=YEAR).rows()
    names = ("external_reference", "title", "price", "mileage", "fuel_type", "transmission", "body_type", "power_kw")
    more = ("vehicle_type", "condition", "first_registration", "images", "features", "drive_type", "interior_material")
    return [row.listing and {name: getattr(row.listing, name) for name in (*names, *more)} for row in rows]


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, "id;make;price\nA-1;Opel;9900\n")
    return out.getvalue()


def feed(tmp_path: Path, text: str, *, name: str = "feed.csv", encoding: str = "utf-8") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


# -- whole feeds ---------------------------------------------------------------------------------------------------


def test_a_dutch_feed(tmp_path: Path) -> None:
    draft = drafted(feed(tmp_path, DUTCH))
    golf, octavia, *_, nexo = (found or {} for found in listings(tmp_path, draft))
    assert golf == {
        "external_reference": "A-1001", "title": "Volkswagen Golf 1.5 TSI", "price": 18_950, "mileage": 45_300,
        "fuel_type": "petrol", "transmission": "manual", "body_type": "hatchback", "power_kw": 110.32,
        "vehicle_type": "btw", "condition": None, "first_registration": "2020-03", "drive_type": None,
        "interior_material": None, "images": ("https://f.example/1.jpg", "https://f.example/2.jpg"),
        "features": golf["features"],
    }  # fmt: skip
    assert [feature.name for feature in golf["features"]] == ["airco", "navigatie"]
    assert (octavia["body_type"], octavia["transmission"], octavia["vehicle_type"]) == ("wagon", "automatic", "margin")
    assert nexo["fuel_type"] == "other"
    assert (draft.decimal, draft.head.delimiter, draft.units, draft.updated_at) == (
        ",", ";", {"powerKw": "hp"}, "Gewijzigd",
    )  # fmt: skip
    assert draft.unknown == {"fuelType": {"Zonne-energie": 1}}
    text = render(draft)
    assert '# Zonne-energie = ""  # 1 row' in text
    assert 'dealerLocationCode = "Vestiging"' in text, "a person must say what Okasie calls the branches"


def test_a_french_feed_of_an_old_spreadsheet(tmp_path: Path) -> None:
    draft = drafted(feed(tmp_path, FRENCH, encoding="cp1252"))
    peugeot, renault, citroen, bmw = (found or {} for found in listings(tmp_path, draft))
    assert (draft.head.encoding, draft.head.delimiter, draft.decimal) == ("cp1252", "\t", ",")
    assert (peugeot["title"], peugeot["mileage"], peugeot["images"]) == (
        "Peugeot 308 Allure", 61_200, ("https://p.example/1a.jpg", "https://p.example/1b.jpg"),
    )  # fmt: skip
    assert (renault["title"], renault["price"], renault["fuel_type"]) == ("Renault Mégane Intens", 13_990.5, "diesel")
    assert (citroen["fuel_type"], citroen["condition"]) == ("electric", "new")
    assert (bmw["fuel_type"], bmw["condition"], bmw["drive_type"]) == ("hybrid", "demo", "AWD")
    assert [row["vehicle_type"] for row in (peugeot, renault)] == ["margin", "btw"]
    assert (peugeot["first_registration"], draft.left_out) == ("2019-03", []), "from 12/03/2019"
    assert "postalCode" not in draft.defaults
    assert draft.defaults["province"] == FILL_IN
    assert draft.updated_at == "Modifié le"


def test_a_german_feed(tmp_path: Path) -> None:
    draft = drafted(feed(tmp_path, GERMAN))
    passat, corsa, audi = (found or {} for found in listings(tmp_path, draft))
    assert (passat["price"], passat["mileage"], passat["power_kw"]) == (22_990, 98_000, 110), "kW beats PS"
    assert draft.units == {}
    assert passat["images"] == ("https://b.example/1.jpg", "https://b.example/2.jpg")
    assert (corsa["condition"], corsa["transmission"], corsa["vehicle_type"]) == ("demo", "manual", "margin")
    assert (audi["price"], audi["fuel_type"], audi["interior_material"]) == (31_250.5, "hybrid", "Leder/Stof")
    assert (draft.reference, draft.fields["vin"]) == ("Fahrzeugnummer", "Fahrgestellnummer")


def test_the_sample_dealers_feed(tmp_path: Path) -> None:
    path = tmp_path / "dex.csv"
    write_csv(path, cars(300, seed=3))
    draft = drafted(path)
    assert (draft.valid, draft.reference, draft.branch) == (300, "stock_no", "branch")
    found = [row for row in listings(tmp_path, draft) if row is not None]
    assert len(found) == 300
    assert {row["vehicle_type"] for row in found} == {"margin", "btw"}
    assert {row["fuel_type"] for row in found} == {"petrol", "diesel", "hybrid", "electric"}
    assert all(len(row["images"]) >= 2 for row in found)


def test_a_real_exports_schema_is_drafted_as_a_person_mapped_it(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv.gz"
    write(path, generated())
    draft = drafted(path)
    by_hand = tomllib.loads(EXAMPLE.read_text())["accounts"]["autoscout24"]["source"]
    assert loaded(tmp_path, draft).fields == by_hand["fields"]
    assert (draft.reference, draft.units) == (by_hand["reference"], by_hand["units"])
    for field, table in draft.values.items():
        wanted = {word.casefold(): value for word, value in by_hand["values"][field].items()}
        assert {w.casefold(): v for w, v in table.items() if w != "*"}.items() <= wanted.items() | {
            ("ethanol", "other")
        }, field
    assert list(draft.unknown) == ["fuelType"]
    assert (draft.valid, draft.tried, len(draft.head.rows), draft.head.whole) == (4_999, 5_000, 6_005, True)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_json_with_lists_and_names_that_are_okasies_own_but_mean_something_else(tmp_path: Path, kind: str) -> None:
    rows = [
        {
            "id": number, "make": "Audi", "model": "A3", "price": 10_000 + number, "fuel": "Diesel", "nested": {"a": 1},
            "features": [{"category": "comfort", "name": "airco"}], "images": ["https://x.example/1.jpg"],
            "vehicleType": "car", "condition": "mint",
        }
        for number in range(5)
    ]  # fmt: skip
    text = (
        json.dumps({"meta": {"n": 5}, "stock": {"cars": rows}}) if kind == "json" else "\n".join(map(json.dumps, rows))
    )
    draft = drafted(feed(tmp_path, text + "\n", name=f"feed.{kind}"))
    assert (draft.head.kind, draft.head.items) == (kind, "stock.cars" if kind == "json" else "")
    found = [row for row in listings(tmp_path, draft) if row is not None]
    assert len(found) == 5
    assert {(row["vehicle_type"], row["condition"]) for row in found} == {(None, None)}
    assert [left[0] for left in draft.left_out] == ["vehicleType", "condition"]
    assert draft.unused == ["nested.a"]


def test_it_is_the_same_every_time(tmp_path: Path) -> None:
    path = feed(tmp_path, DUTCH)
    assert len({render(drafted(path)) for _ in range(3)}) == 1


# -- what is odd ---------------------------------------------------------------------------------------------------


def test_a_price_that_is_no_number_is_told(tmp_path: Path) -> None:
    draft = drafted(feed(tmp_path, "id,make,price\nA,Audi,POA\nB,BMW,POA\n"))
    assert draft.valid == 0
    assert any("2 of 2 rows" in told and "'POA'" in told for told in draft.decide)
    loaded(tmp_path, draft)


def test_a_feed_without_reference_price_or_name_says_so_and_loads(tmp_path: Path) -> None:
    draft = drafted(feed(tmp_path, "a,b\n1,x y\n1,x y\n"))
    said = " ".join(draft.decide)
    assert all(word in said for word in ("`reference`", "title", "price"))
    assert draft.fill_in()[:3] == ["reference", "fields.title", "fields.price"]
    loaded(tmp_path, draft)


def test_a_header_alone_is_enough(tmp_path: Path) -> None:
    draft = drafted(feed(tmp_path, "stock_no;merk;prijs\n"))
    assert (draft.reference, draft.fields["price"]) == ("stock_no", "prijs")
    loaded(tmp_path, draft)


def test_some_doubled_references_do_not_make_the_column_the_wrong_one(tmp_path: Path) -> None:
    rows = cars(300, seed=1)
    path = tmp_path / "dex.csv"
    write_csv(path, [*rows, rows[0]])
    assert drafted(path).reference == "stock_no"


def test_a_reference_that_has_no_name_of_its_own_is_found_and_told(tmp_path: Path) -> None:
    draft = drafted(feed(tmp_path, "xkey,make,price\nA,Audi,1\nB,Audi,1\n"))
    assert draft.reference == "xkey"
    assert any("'xkey'" in told for told in draft.decide)


def test_words_for_the_status_that_are_not_known_reject_their_rows(tmp_path: Path) -> None:
    text = "id;make;price;status\nA;Audi;1;te koop\nB;BMW;1;Gereserveerd\nC;VW;1;verkocht\nD;Opel;1;showroom\n"
    draft = drafted(feed(tmp_path, text))
    assert draft.values["status"] == {"te koop": "active", "Gereserveerd": "pending", "verkocht": "sold"}
    assert (draft.unknown["status"], draft.valid) == ({"showroom": 1}, 3)


@pytest.mark.parametrize(
    ("prices", "decimal"),
    [
        (["12.500", "8.900"], ","), (["12,500", "8,900"], "."), (["12.500,00", "900"], ","), (["12,500.00", "1"], "."),
        (["12500", "8900"], "."), (["12500.50", "8,900"], "."), (["1.234.567"], ","), (["12500,5"], ","), (["12,50", "8,900"], ","),
    ],
)  # fmt: skip
def test_the_decimal_sign(tmp_path: Path, prices: list[str], decimal: str) -> None:
    text = "id;price\n" + "".join(f"A{number};{price}\n" for number, price in enumerate(prices))
    assert drafted(feed(tmp_path, text)).decimal == decimal


def test_hostile_names_and_cells_stay_text(tmp_path: Path) -> None:
    names = ["id", "price", 'ma"ke\n[x]', "model{", "fuel", "\x7f", "", "a'b\\"]
    cells = ["A-1", "5", "Audi", "A3", 'die"sel\n[accounts.x]\napi_key = "y"', "z", "", "q"]
    text = io.StringIO()
    csv.writer(text).writerows([names, cells])
    draft = drafted(feed(tmp_path, text.getvalue()))
    source = loaded(tmp_path, draft)
    assert list(load_settings(tmp_path / "okasie.toml", environ={}).accounts) == ["dex"]
    assert source.values["fuelType"] == {"*": "other"}
    assert source.fields["model"] == ColumnSettings(column="model{")


@pytest.mark.parametrize("text", ["\x7f", "\x00\x1f", "\u2028\u0085", "\ud800", '"""', "\\u0041", "# no", "\r\n"])
def test_signs_that_toml_does_not_take_as_they_are(text: str) -> None:
    whole = text.encode("utf-8", "replace").decode()
    assert tomllib.loads(f"{comment(text)}\n{key(text)} = {quoted(text)}\n") == {whole: whole}


@given(st.text(), st.text())
def test_any_text_survives_as_string_and_key_and_ends_no_comment(name: str, value: str) -> None:
    text = f"{key(name)} = {quoted(value)}\n{comment(value)}\nlast = 1\n"
    whole = [part.encode("utf-8", "replace").decode() for part in (name, value)]
    assert tomllib.loads(text) == {whole[0]: whole[1], "last": 1} or name == "last"


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"<!doctype html><p>404", "a.csv", "web page"),
        (b"", "a.csv", "empty"),
        (b"\xef\xbb\xbf \n", "a.csv", "empty"),
        (b'{"a": 1', "a.json", "not a JSON document"),
        (b'{"a": 1}', "a.json", "no list of objects"),
        (b"\x1f\x8bnonsense", "a.csv.gz", "damaged"),
        (gzip.compress(b"id;price\nA;9000\n" * 50, mtime=0)[:-12], "a.csv.gz", "ends in the middle"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "a.xls", "password"),
        (b"PK\x03\x04nonsense", "a.zip", "damaged or incomplete zip"),
        (b"<stock/>", "a.xml", "no element with others in it"),
        (b"<stock><car><a></car></stock>", "a.xml", "not well-formed"),
        (archive("a.csv", "b.csv"), "a.zip", "a.csv, b.csv"),
        (archive("vé.csv").replace("é".encode(), b"\xff\xff"), "a.zip", "damaged or incomplete zip"),
    ],
)
def test_what_is_no_feed_is_refused_with_the_reason(tmp_path: Path, content: bytes, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as refused:
        read_head(str(tmp_path / name))
    assert said in str(refused.value)
    with pytest.raises(ConfigurationError):
        read_head(str(tmp_path / "nowhere.csv"))


def test_a_feed_of_which_only_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("okasie_tasks.sources.detect.head._MOST_BYTES", 400)
    text = "id;make;price\n" + "".join(f"A{number:03d};Citroën;{number}\n" for number in range(100))
    for name, content in (("a.csv", text.encode()), ("a.csv.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(content)
        head = read_head(str(tmp_path / name))
        assert (head.whole, head.encoding, head.rows[-1]["make"], 10 < len(head.rows) < 40) == (
            False,
            "utf-8",
            "Citroën",
            True,
        )
    lines = "".join(f'{{"id": {number}, "make": "Audi"}}\n' for number in range(100))
    head = read_head(str(feed(tmp_path, lines, name="a.jsonl")))
    assert (head.whole, head.columns) == (False, ("id", "make"))
    with pytest.raises(SourceError, match="must be read whole"):
        read_head(str(feed(tmp_path, json.dumps([{"id": n} for n in range(100)]), name="a.json")))


# -- the tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "field", "unit"),
    [
        ("Prijs (EUR)", "price", ""), ("priceInCents", "price", "cent"), ("prix TTC (€)", "price", ""),
        ("Leistung (PS)", "powerKw", "hp"), ("Leistung (kW)", "powerKw", ""), ("puissance_ch", "powerKw", "hp"),
        ("mileage_mi", "mileage", "mi"), ("km-stand", "mileage", ""), ("Anzahl Türen", "doors", ""),
        ("Nombre de portes", "doors", ""), ("Date de première immatriculation", "firstRegistration", ""),
        ("CO2 (g/km)", "co2Emission", ""), ("fuel_type", "fuelType", ""), ("VehicleModel", "model", ""),
        ("Verbrauch (l/100km)", "fuelConsumption", ""), ("Euronorm", "emissionClass", ""),
    ],
)  # fmt: skip
def test_names_of_columns(column: str, field: str, unit: str) -> None:
    found = meaning_of(column)
    assert found is not None
    assert (found.field, found.unit) == (field, unit)


@pytest.mark.parametrize("column", ["", "foo", "puissance fiscale", "Telefon", "IBAN", "date"])
def test_names_that_mean_nothing_here(column: str) -> None:
    assert meaning_of(column) is None


@pytest.mark.parametrize(
    ("field", "word", "value"),
    [
        ("fuelType", "Electric/Gasoline", "hybrid"), ("fuelType", "Benzine", "petrol"), ("fuelType", "-/- (Fuel)", None),
        ("transmission", "Semi-automaat", "semi-automatic"), ("transmission", "Automatique 8 vitesses", "automatic"),
        ("vehicleType", "BTW niet aftrekbaar", "margin"), ("vehicleType", "niet echt aftrekbaar", None),
        ("bodyType", "SUV / Geländewagen", "suv"), ("condition", "Employee's car", "used"), ("condition", "mint", None),
    ],
)  # fmt: skip
def test_words_in_cells(field: str, word: str, value: str | None) -> None:
    assert value_of(field, word) == value


def test_every_value_is_one_of_the_contract() -> None:
    from okasie_tasks.core.fields import FIELDS

    for field, words in WORDS.items():
        choices = FIELDS[field].choices
        assert choices is None or set(words.values()) <= choices, field


def test_a_column_that_its_field_cannot_hold_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """Its values would only be warnings, in every row."""
    head, *lines = DUTCH.splitlines()
    path = tmp_path / "feed.csv"
    path.write_text("\n".join([head, *(line.replace(";5;", ";4/5;") for line in lines)]) + "\n", encoding="utf-8")
    draft = drafted(path)
    ((field, column, reason),) = draft.left_out
    assert (field, column) == ("doors", "Aantal deuren")
    assert "expected a number, got '4/5'" in reason
    assert draft.valid == draft.tried == len(lines)
