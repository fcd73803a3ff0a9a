"""Drafts for feeds that state the unit beside the value: horsepower is not sent as kilowatts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.sources.detect import Draft
from tests.sources.test_detect import listings
from tests.sources.test_detect_formats import draft_of


def of_xml(tmp_path: Path, *values: str) -> Draft:
    cars = "".join(f"<car id='A-{n}'><merk>Kia</merk><prijs>9000</prijs>{text}</car>" for n, text in enumerate(values))
    return draft_of(tmp_path, "stock.xml", f"<cars>{cars}</cars>".encode())


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("<engine><power unit='hp'>150</power></engine>", {"powerKw": "hp"}),
        ("<vermogen eenheid='PK'>150</vermogen>", {"powerKw": "hp"}),
        ("<power><value>150</value><unit>PS</unit></power>", {"powerKw": "hp"}),
        ("<power unit='kW'>110</power><mileage unit='mi'>40000</mileage>", {"mileage": "mi"}),
        ("<mileage unit='km'>40000</mileage>", {}),
    ],
)
def test_xml(tmp_path: Path, text: str, units: dict[str, str]) -> None:
    draft = of_xml(tmp_path, text, text)
    assert draft.units == units
    assert not any("unit" in line for line in draft.decide)


def test_json(tmp_path: Path) -> None:
    power: dict[str, Any] = {"value": 150, "unit": "hp"}
    cars = [{"id": f"A-{number}", "make": "Kia", "price": 9000, "power": power} for number in range(2)]
    draft = draft_of(tmp_path, "stock.json", json.dumps(cars).encode())
    assert draft.units == {"powerKw": "hp"}
    assert [row and row["power_kw"] for row in listings(tmp_path, draft)] == [110.32, 110.32]


def test_a_unit_that_changes_from_car_to_car_is_for_an_operator(tmp_path: Path) -> None:
    draft = of_xml(tmp_path, "<power unit='kW'>110</power>", "<power unit='hp'>150</power>")
    assert draft.units == {}
    assert any("power/@unit" in line and "'hp', 'kW'" in line for line in draft.decide)
