"""Drafts for feeds with several prices of a car: a consumer pays none of those between traders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from okasie_tasks.settings.placeholders import FILL_IN
from okasie_tasks.sources.detect import Draft
from tests.sources.test_detect_formats import draft_of


def of_xml(tmp_path: Path, prices: str) -> Draft:
    cars = "".join(f"<car id='A-{number}'><merk>Kia</merk>{prices}</car>" for number in range(3))
    return draft_of(tmp_path, "stock.xml", f"<cars>{cars}</cars>".encode())


@pytest.mark.parametrize(
    ("prices", "path"),
    [
        (
            "<prijzen><prijs soort='inkoop'>8000</prijs><prijs soort='verkoop'><bedrag>9900</bedrag></prijs></prijzen>",
            "prijzen/prijs[@soort='verkoop']/bedrag",
        ),
        ("<price type='net'>8000</price><price type='list'>9900</price>", "price[@type='list']"),
        ("<prijs soort='Prijs handel'>8000</prijs>", FILL_IN),
        ("<prices><purchasePrice><amount>8000</amount></purchasePrice></prices>", FILL_IN),
        ("<prix><achat><amount>8000</amount></achat><public><amount>9900</amount></public></prix>",
         "prix/public/amount"),
    ],
)  # fmt: skip
def test_what_a_trader_pays_is_not_the_price(tmp_path: Path, prices: str, path: str) -> None:
    assert of_xml(tmp_path, prices).fields["price"] == path


def test_json(tmp_path: Path) -> None:
    prices = [{"type": "b2b", "amount": 8000}, {"type": "A", "amount": 9900}]
    cars = [{"id": f"A-{number}", "make": "Kia", "prices": prices} for number in range(3)]
    assert draft_of(tmp_path, "stock.json", json.dumps(cars).encode()).fields["price"] == "prices[@type='A'].amount"


def test_one_of_several_unknown_prices_is_for_an_operator(tmp_path: Path) -> None:
    draft = of_xml(tmp_path, "<prijs soort='A'>8000</prijs><prijs soort='B'>9900</prijs>")
    assert draft.fields["price"] == "prijs[@soort='A']"
    assert any("prijs[@soort='A']" in line and "prijs[@soort='B']" in line for line in draft.decide)
