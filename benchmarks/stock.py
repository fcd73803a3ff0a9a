"""The inventory of the engine's benchmarks: listings of a realistic width, in the feed and in the marketplace.

A listing is one of `KINDS` sample cars with its own number, price, id and URLs. Its row in the marketplace is rendered
by the sandbox, about 2.6 KB: a description of 380 to 650 characters and 3 to 6 images. So a million listings are
made in seconds, on the fly, and need no memory.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec

from okasie_tasks.core.listing import bulk_item
from okasie_tasks.sandbox.rendering import stamp
from okasie_tasks.sandbox.sample import COLUMNS, DEALERS, cars, config_text, write_csv
from okasie_tasks.sandbox.store import Store
from okasie_tasks.settings import load_settings
from okasie_tasks.sources import open_source

FORMATS = ("csv", "jsonl")
PARTNER = "bench"
KINDS = 2_000
PREFIX = "DG"
_PRICE, _PRICES = 987_654, 57_500
_AT = 1_760_000_000
_AN_AGE = 100.0
_SENTENCES = """\
Onderhoudsboekje aanwezig en volledig ingevuld door de merkdealer.
Twee sleutels; nieuwe banden voor en achter.
Airco met twee zones, zetelverwarming en een verwarmd stuur.
Inclusief "Winter Pack" en lichtmetalen velgen van 17".
Parkeersensoren voor en achter, achteruitrijcamera en adaptieve cruisecontrol.
Eerste eigenaar, niet-roker.
Apple CarPlay en Android Auto, navigatie met een scherm van 10 inch.
Trekhaak (afneembaar), dakrails en getinte ruiten.
Gekeurd voor verkoop, met Car-Pass en blanco inschrijving.
Led-koplampen, regensensor en automatische grootlichten.
De distributieriem werd vervangen; de factuur is beschikbaar.
Proefrit mogelijk na afspraak, ook op zaterdag.""".splitlines()
_GARAGE = (
    " Al onze wagens worden in eigen werkplaats op 120 punten nagekeken en geleverd met 12 maanden garantie, een verse"
    " onderhoudsbeurt en een volle tank. Financiering en overname zijn mogelijk; vraag"
    " vrijblijvend een voorstel. Vergissingen en wijzigingen in deze beschrijving voorbehouden."
)


class Kind(NamedTuple):
    """A sample car, with its own reference and id, and `_PRICE`, where those of a listing belong."""

    reference: str
    identity: str
    lines: dict[str, str]
    """Of the feed, by format."""
    row: bytes


def price(number: int) -> int:
    """Before any change."""
    return 4_500 + number * 7_919 % _PRICES


def reference(number: int) -> str:
    return f"{PREFIX}-{number:07d}"


def identity(number: int) -> str:
    return f"{number * 2_654_435_761 % 2**32:08x}-5a1c-4d7e-8b2f-{number * 11_400_714_819_323 % 2**48:012x}"


def _described(car: dict[str, str], rng: Random) -> dict[str, str]:
    said = " ".join(rng.sample(_SENTENCES, rng.randint(2, 5)))
    photos = "|".join(
        f"https://photos.invalid/{car['stock_no']}/{index}.jpg?v={rng.randrange(16**4):04x}"
        for index in range(rng.randint(3, 6))
    )
    notes = f"{car['make']} {car['model']} uit {car['year']}. {said}{_GARAGE}"
    return car | {"price_eur": str(_PRICE), "photos": photos, "notes": notes}


def _csv_line(car: dict[str, str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, delimiter=";", lineterminator="\n").writerow(car)
    return text.getvalue()


def _json_line(car: dict[str, str]) -> str:
    numbers = {name: int(car[name]) for name in ("price_eur", "km", "year", "kw", "doors")}
    return json.dumps(car | numbers | {"photos": car["photos"].split("|")}, ensure_ascii=False) + "\n"


def kinds(folder: Path, count: int = KINDS) -> list[Kind]:
    """The sample cars; ``folder`` is for the files of making them. Their rows are rendered by the sandbox."""
    found = [_described(car, Random(f"wide:{car['stock_no']}")) for car in cars(count, seed=1)]
    write_csv(folder / "kinds.csv", found)
    config = folder / "kinds.toml"
    config.write_text(config_text(feed="kinds.csv", base_url="http://127.0.0.1:1", key="k", account=PARTNER))
    account, store = load_settings(config).accounts[PARTNER], Store()
    dealers = {code: store.add_dealer(PARTNER, code) for code in DEALERS}
    listings = []
    for row in open_source(account, cache_dir=folder, current_year=datetime.now(UTC).year).rows():
        assert row.listing is not None, row.issues
        body = msgspec.json.decode(bulk_item(row.listing))
        dealer = dealers[body["dealerLocationCode"]]
        listings.append(store.upsert(PARTNER, row.listing.external_reference, body, dealer, _AT, skipped=[])[0])
    return [
        Kind(car["stock_no"], listing.id, {"csv": _csv_line(car), "jsonl": _json_line(car)}, row)
        for car, listing, row in zip(found, listings, store.render(listings), strict=True)
    ]


def rows(known: list[Kind], numbers: Iterable[int], prices: Callable[[int], int]) -> list[bytes]:
    """The rows of these listings in the read shape. ``updatedAt`` moves when the price does."""
    made = []
    at, before, price_before = stamp(_AT).encode(), b'"updatedAt":"', str(_PRICE).encode()
    for number in numbers:
        kind, cost = known[number % len(known)], prices(number)
        row = kind.row.replace(price_before, str(cost).encode())  # first: an id may hold its digits
        row = row.replace(kind.identity.encode(), identity(number).encode())
        row = row.replace(kind.reference.encode(), reference(number).encode())
        made.append(row.replace(before + at, before + stamp(_AT + cost).encode()))
    return made


def write_feed(path: Path, known: list[Kind], count: int, prices: Callable[[int], int] = price) -> None:
    """Replace the feed, in the format of its ending. It looks as old as a feed that is not just being written."""
    form, part = path.suffix[1:], path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        if form == "csv":
            file.write(";".join(COLUMNS) + "\n")
        for number in range(1, count + 1):
            kind = known[number % len(known)]
            line = kind.lines[form].replace(str(_PRICE), str(prices(number)))
            file.write(line.replace(kind.reference, reference(number)))
    then = time.time() - _AN_AGE
    os.utime(part, (then, then))
    part.replace(path)


def account_text(name: str, feed: str, base_url: str, key: str, extra: str) -> str:
    """An account of ``okasie.toml`` that reads this feed."""
    text = config_text(feed=feed, base_url=base_url, key=key, account=name, extra=extra)
    if feed.endswith(".csv"):
        return text
    column = 'images = { column = "photos", split_on = "|" }'
    assert column in text
    text = text.replace(column, 'images = "photos"').replace('type = "csv"', 'type = "jsonl"')
    return text.replace('delimiter = ";"\n', "")
