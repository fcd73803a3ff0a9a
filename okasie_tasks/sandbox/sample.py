"""The inventory of a sample dealer group, which ``okasie demo`` and the tests sync.

The group has three branches. Prices, texts, options and photos look like those of a dealer's export. The same seed
gives the same cars.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

DEALERS: Final = {
    "DEMO-GENT": ("9000", "Gent", "Oost-Vlaanderen"),
    "DEMO-BRUGGE": ("8000", "Brugge", "West-Vlaanderen"),
    "DEMO-MECHELEN": ("2800", "Mechelen", "Antwerpen"),
}
COLUMNS: Final = (
    "stock_no", "branch", "make", "model", "version", "price_eur", "km", "year", "first_reg", "fuel", "gearbox", "body",
    "kw", "doors", "colour", "vat", "photos", "notes",
)  # fmt: skip

_TICK_SECONDS: Final = 0.02
"""Longer than the step of a file system's clock, so that the rename is seen to come after the last write."""
_CARS: Final = (
    ("Volkswagen", "Golf", "hatchback", 5), ("Volkswagen", "Polo", "hatchback", 5),
    ("Skoda", "Octavia Combi", "wagon", 5), ("BMW", "320", "sedan", 4), ("BMW", "X1", "suv", 5),
    ("Audi", "A4 Avant", "wagon", 5), ("Peugeot", "208", "hatchback", 5), ("Renault", "Clio", "hatchback", 5),
    ("Citroën", "C3", "hatchback", 5), ("Volvo", "XC40", "suv", 5),
    ("Toyota", "Yaris", "hatchback", 5), ("Ford", "Transit", "van", 4), ("Mini", "Cooper Cabrio", "convertible", 3),
    ("Hyundai", "Kona", "suv", 5), ("Opel", "Corsa", "hatchback", 5), ("Mercedes-Benz", "C 200", "sedan", 4),
)  # fmt: skip
_FUELS: Final = ("Benzine", "Diesel", "Hybride", "Elektrisch")
_COLOURS: Final = ("zwart", "wit", "grijs", "blauw", "rood", "zilver", "groen")


def cars(count: int, *, seed: int, first: int = 1) -> list[dict[str, str]]:
    """``count`` rows with the columns of `COLUMNS`; stock numbers run from ``first``."""
    return [
        _car(number, Random(f"{seed}:{number}"))  # noqa: S311 - a seed, not a secret
        for number in range(first, first + count)
    ]


def _car(number: int, rng: Random) -> dict[str, str]:
    make, model, body, doors = rng.choice(_CARS)
    year, month = rng.randint(2012, 2026), rng.randint(1, 12)
    stock = f"DG-{number:05d}"
    photos = [
        f"https://photos.invalid/{stock}/{index}.jpg?v={rng.randrange(16**4):04x}" for index in range(rng.randint(2, 6))
    ]
    return {
        "stock_no": stock,
        "branch": rng.choice(tuple(DEALERS)),
        "make": make,
        "model": model,
        "version": rng.choice(("", "1.0 TSI", "1.6 TDI", "2.0 D", "GT-Line", "Style")),
        "price_eur": str(rng.randrange(4_500, 62_000, 50)),
        "km": str(rng.randrange(500, 240_000, 10)),
        "year": str(year),
        "first_reg": f"{year}-{month:02d}",
        "fuel": rng.choice(_FUELS),
        "gearbox": rng.choice(("Manueel", "Automaat")),
        "body": body,
        "kw": str(rng.choice((51, 63, 81, 96, 110, 140, 180))),
        "doors": str(doors),
        "colour": rng.choice(_COLOURS),
        "vat": rng.choice(("marge", "btw")),
        "photos": "|".join(photos),
        "notes": rng.choice(
            ("", "Eerste eigenaar.", "Volledig onderhouden; met Car-Pass.", "Nieuw binnen, nog te poetsen.")
        ),
    }


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write the feed as a dealer's system does: semicolons, UTF-8, the file replaced atomically."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    time.sleep(_TICK_SECONDS)
    part.replace(path)


def config_text(*, feed: str, base_url: str, key: str, account: str = "demo", extra: str = "") -> str:
    """An ``okasie.toml`` for this feed against a sandbox at ``base_url`` (a literal key is allowed on loopback)."""
    return f"""\
[accounts.{account}]
api_key = "{key}"
base_url = "{base_url}"
incremental_every = "off"
full_at = "off"
{extra}
[accounts.{account}.source]
type = "csv"
url = "{feed}"
delimiter = ";"
reference = "stock_no"

[accounts.{account}.source.fields]
title = "{{make}} {{model}} {{version}}"
brand = "make"
model = "model"
variant = "version"
price = "price_eur"
mileage = "km"
year = "year"
firstRegistration = "first_reg"
fuelType = "fuel"
transmission = "gearbox"
bodyType = "body"
powerKw = "kw"
doors = "doors"
color = "colour"
vehicleType = "vat"
description = "notes"
dealerLocationCode = "branch"
postalCode = "branch"
city = "branch"
province = "branch"
images = {{ column = "photos", split_on = "|" }}

[accounts.{account}.source.values]
fuelType = {{ Benzine = "petrol", Diesel = "diesel", Hybride = "hybrid", Elektrisch = "electric" }}
transmission = {{ Manueel = "manual", Automaat = "automatic" }}
vehicleType = {{ marge = "margin", btw = "btw" }}
postalCode = {{ {_place(0)} }}
city = {{ {_place(1)} }}
province = {{ {_place(2)} }}

[accounts.{account}.source.defaults]
status = "active"
condition = "used"
"""


def _place(index: int) -> str:
    return ", ".join(f'{code} = "{place[index]}"' for code, place in DEALERS.items())
