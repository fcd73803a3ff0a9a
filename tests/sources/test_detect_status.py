"""Drafts for feeds that hold more than cars for sale: sold cars, total lines, cells that say that there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.settings import load_settings
from okasie_tasks.settings.placeholders import FILL_IN
from okasie_tasks.sources import open_source
from okasie_tasks.sources.detect import Draft, render
from tests.sources.test_detect import YEAR, drafted, feed, loaded

HEAD = "Voorraadnr;Merk;Model;Prijs;KM-stand"


def draft_of(tmp_path: Path, head: str, *cells: str) -> Draft:
    """The draft of a feed with these columns beside those of `HEAD`, a car for each of ``cells``."""
    cars = [f"A-{number};Skoda;Octavia;1745{number};88.20{number};{more}" for number, more in enumerate(cells)]
    return drafted(feed(tmp_path, "\n".join([f"{HEAD};{head}", *cars, ""])))


def statuses(tmp_path: Path, draft: Draft) -> list[str]:
    """The status of each row as the source reads it by the draft: skipped, rejected, or that of its listing."""
    loaded(tmp_path, draft)
    account = load_settings(tmp_path / "okasie.toml", environ={}).accounts["dex"]
    rows = open_source(account, cache_dir=tmp_path, current_year=YEAR).rows()
    return [row.left_out or (str(row.listing.status) if row.listing else "rejected") for row in rows]


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("Verkocht", ["nee", "ja", "verkocht", "n.v.t."], ["active", "sold", "sold", "active"]),
        ("Verkocht", ["", "x", "", ""], ["active", "sold", "active", "active"]),
        ("isSold", ["0", "1", "0", "0"], ["active", "sold", "active", "active"]),
        ("Vendu", ["non", "oui", "vendu", "peut-être"], ["active", "sold", "sold", "rejected"]),
        ("verkauft", ["nein", "ja", "nein", "nein"], ["active", "sold", "active", "active"]),
        ("Verkocht op", ["", "12-03-2026", "00-00-0000", "05-06-2026"], ["active", "sold", "active", "sold"]),
        ("Beschikbaar", ["ja", "nee", "ja", "verkocht"], ["active", "draft", "active", "sold"]),
        ("Online", ["1", "0", "1", "1"], ["active", "draft", "active", "active"]),
        ("Gereserveerd", ["nee", "ja", "", "nee"], ["active", "pending", "active", "active"]),
        ("Verkoopstatus", ["Te koop", "Verkocht", "In optie", "Te koop"], ["active", "sold", "pending", "active"]),
        ("Fahrzeugstatus", ["verfügbar", "verkauft", "reserviert", "verfügbar"], ["active", "sold", "pending", "active"]),
    ],
)  # fmt: skip
def test_what_says_whether_a_car_is_sold(tmp_path: Path, column: str, cells: list[str], expected: list[str]) -> None:
    assert statuses(tmp_path, draft_of(tmp_path, column, *cells)) == expected


@pytest.mark.parametrize(
    ("column", "cells", "later"),
    [("Verkocht", ["nee", "nee"], "ja"), ("Verkocht", ["", ""], "x"), ("Vendu", ["non", "non"], "OUI"), ("sold", ["n", "n"], "y")],
)  # fmt: skip
def test_a_car_that_is_sold_after_the_draft_was_made(tmp_path: Path, column: str, cells: list[str], later: str) -> None:
    draft = draft_of(tmp_path, column, *cells)
    (tmp_path / "feed.csv").write_text(f"{HEAD};{column}\nA-1;Skoda;Octavia;17451;88.201;{later}\n", encoding="utf-8")
    assert statuses(tmp_path, draft) == ["sold"]
    assert any(column in sentence and "values.status" in sentence for sentence in draft.decide)


def test_beside_a_status_the_rows_of_sold_cars_are_skipped(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, "Status;Verkocht", "actief;nee", "actief;ja", "gereserveerd;nee", "concept;nee")
    assert statuses(tmp_path, draft) == ["active", "skipped", "pending", "draft"]
    assert draft.skip == {"Verkocht": ["ja"]}


@pytest.mark.parametrize("column", ["Status", "Verkocht"])
def test_words_that_nobody_knows_are_for_an_operator(tmp_path: Path, column: str) -> None:
    """A default of ``active`` would bring the sold cars online."""
    draft = draft_of(tmp_path, column, "V1", "V2", "S9", "V1")
    assert (draft.defaults["status"], "defaults.status" in draft.fill_in()) == (FILL_IN, True)
    assert f'# status = "{column}"  # left out: Okasie expects active or draft' in render(draft)


@pytest.mark.parametrize("column", ["Website", "Gereserveerd", "Online sinds", "Dealer verkocht"])
def test_columns_that_say_no_such_thing(tmp_path: Path, column: str) -> None:
    draft = draft_of(tmp_path, column, "www.a.example", "www.b.example")
    assert (draft.defaults["status"], draft.skip) == ("active", {})


# -- total lines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "skip"),
    [
        ("Totaal;2 auto's;;34.900;;", {"Voorraadnr": ["Totaal"]}),
        ("TOTAL :;;;34.900;176.401;", {"Voorraadnr": ["TOTAL :"]}),
        (";;Summe;34.900;;", {"Model": ["Summe"]}),
    ],
)
def test_a_total_line_is_skipped(tmp_path: Path, line: str, skip: dict[str, Any]) -> None:
    path = feed(
        tmp_path, f"{HEAD};Kleur\nA-1;Skoda;Fabia;9.900;88.200;wit\nA-2;VW;Up;25.000;88.201;rood\n;;;;;\n{line}\n"
    )
    draft = drafted(path)
    assert (draft.skip, draft.valid, draft.tried) == (skip, 2, 2)
    assert statuses(tmp_path, draft) == ["active", "active", "skipped"]


# -- cells that say that there is nothing --------------------------------------------------------------------------


def test_one_cell_does_not_rule_out_its_column(tmp_path: Path) -> None:
    cells = ["Benzine;5;wit;ja", "n.v.t.;n/a;onbekend;-", "Diesel;4/5;N.V.T.;nee", "Diesel;5;rood;ja", "Diesel;3;-;ja"]
    draft = draft_of(tmp_path, "Brandstof;Deuren;Kleur;Onderhoudsboekje", *cells)
    assert not draft.left_out
    assert draft.values["doors"] == {"n/a": ""}
    assert any("1 of 5 rows: doors" in sentence and "'4/5'" in sentence for sentence in draft.decide)
    loaded(tmp_path, draft)
    account = load_settings(tmp_path / "okasie.toml", environ={}).accounts["dex"]
    rows = [row for row in open_source(account, cache_dir=tmp_path, current_year=YEAR).rows() if row.listing]
    assert [row.listing.color for row in rows if row.listing] == ["wit", None, None, "rood", None]
    assert [row.listing.doors for row in rows if row.listing] == [5, None, None, 5, 3]
    assert [row.listing.fuel_type for row in rows if row.listing][:2] == ["petrol", None]
    assert [len(row.warnings) for row in rows] == [0, 0, 1, 0, 0]


def test_remarks_that_say_nothing_are_not_sent(tmp_path: Path) -> None:
    cells = ["Eerste eigenaar", "n.v.t.", "NVT", "n/a", "-", "geen schade; n.v.t. op bumper"]
    rows = "".join(f'A-{number};Skoda Fabia;9.900;"{cell}"\n' for number, cell in enumerate(cells))
    draft = drafted(feed(tmp_path, f"Stocknr;Titel;Prijs;Opmerkingen\n{rows}"))
    assert draft.fields["description"] == "Opmerkingen"
    loaded(tmp_path, draft)
    account = load_settings(tmp_path / "okasie.toml", environ={}).accounts["dex"]
    found = [row.listing for row in open_source(account, cache_dir=tmp_path, current_year=YEAR).rows()]
    assert [listing and listing.description for listing in found] == [cells[0], None, None, None, None, cells[5]]


def test_names_of_cars_are_no_such_cells(tmp_path: Path) -> None:
    draft = drafted(feed(tmp_path, "id;merk;model;prijs\nA;Ford;Ka;4500\nB;Ford;Focus;9000\n"))
    assert draft.values == {}
    assert draft.fields["title"] == "{merk} {model}"


@pytest.mark.parametrize("column", ["dtoelating", "DET", "Datum toelating", "toelating"])
def test_the_date_of_admission(tmp_path: Path, column: str) -> None:
    draft = draft_of(tmp_path, column, "20140312", "", "20170701")
    assert draft.fields["firstRegistration"] == column
    assert not draft.left_out
