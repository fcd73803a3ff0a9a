"""A feed in a foreign schema, synced by two worker processes: exactly the valid rows arrive, and then only changes.

With ``AUTOSCOUT24_FEED`` naming the real export (46,405 rows) the test runs on it; else on one like it by seed.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from okasie_tasks.sandbox import Key, Sandbox
from tests.support import Place, Workers, state, stored

Row = dict[str, str]
EXAMPLE = Path(__file__).parents[2] / "examples" / "autoscout24.toml"
COLUMNS = ("offer_id", "mileage", "make", "model", "fuel", "gear", "offerType", "price", "hp", "year")
ALL_QUEUES = "okasie.control,okasie.urgent,okasie.api,okasie.diff"


def generated(count: int = 6_005) -> list[Row]:
    """Rows with the traits of the real export: one price ``N/A``, some models and powers missing, rare fuels."""
    rng = Random(24)
    fuels = ("Gasoline", "Diesel", "Electric", "Electric/Gasoline", "LPG", "CNG", "-/- (Fuel)", "Ethanol")
    rows = [
        {
            "offer_id": f"AS24-{number:06d}", "mileage": str(rng.randrange(0, 300_000)),
            "make": rng.choice(("Volkswagen", "Opel", "Citroën", "Mercedes-Benz")),
            "model": "" if number % 331 == 0 else rng.choice(("Golf", "Corsa", "C3", "A 180")),
            "fuel": rng.choice(fuels), "gear": rng.choice(("Manual", "Automatic", "Semi-automatic", "")),
            "offerType": rng.choice(("Used", "Demonstration", "Pre-registered", "Employee's car", "New")),
            "price": str(rng.randrange(1_100, 90_000)), "hp": "" if number % 600 == 0 else str(rng.randrange(40, 400)),
            "year": str(rng.randrange(2011, 2022)),
        }
        for number in range(count)
    ]  # fmt: skip
    rows[4_866]["price"] = "N/A"
    return rows


def feed_rows() -> list[Row]:
    real = os.environ.get("AUTOSCOUT24_FEED")
    if not real:
        return generated()
    with gzip.open(real, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row]) -> None:
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def valid(rows: list[Row]) -> dict[str, tuple[str, int, int]]:
    """What must arrive: reference -> title, price, mileage; said anew here, without the code under test."""
    return {
        row["offer_id"]: (
            " ".join(part for part in (row["make"], row["model"], row["year"]) if part),
            int(row["price"]),
            int(row["mileage"]),
        )
        for row in rows
        if row["price"] != "N/A"
    }


def held(sandbox: Sandbox) -> dict[str, tuple[str, int, int]]:
    return {
        reference: (row["body"]["title"], row["body"]["price"], row["body"]["mileage"])
        for reference, row in stored(sandbox, "as24").items()
        if row["status"] == "active"
    }


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([Key("as24-secret", "as24")], limit=0, burst_per_second=100_000) as found:
        yield found


@pytest.mark.system
@pytest.mark.slow
def test_two_workers_bring_exactly_the_valid_rows_and_then_only_changes(
    tmp_path: Path, redis_url: str, client: object, sandbox: Sandbox
) -> None:
    place = Place(tmp_path)
    place.config.write_text(EXAMPLE.read_text())
    feed = tmp_path / "feed.csv.gz"
    rows = feed_rows()
    write(feed, rows)
    account = "OKASIE_ACCOUNTS__AUTOSCOUT24__"
    place.env |= {
        "AUTOSCOUT24_FEED": str(feed), "OKASIE_API_KEY": "as24-secret", "OKASIE_REDIS__URL": redis_url,
        f"{account}BASE_URL": sandbox.base_url, f"{account}REQUESTS_PER_MINUTE": "100000",
        f"{account}BURST_PER_SECOND": "10000",
    }  # fmt: skip
    expected = valid(rows)
    with Workers(place, [ALL_QUEUES, ALL_QUEUES]):
        status, first = place.sync("autoscout24", "--full")
        assert (status, first["state"], first["new_rejects"]) == (4, "done", 1)
        assert first["listings"]["local"] == len(rows)
        assert first["listings"]["created"] == len(expected) == len(rows) - 1
        assert first["requests"]["bulk"] == -(-len(expected) // 100)
        assert sent(first) == first["requests"]["minimum"]
        assert held(sandbox) == expected
        (reject,) = first["rejects"]
        assert reject["reference"] == "AS24-004866"
        line = next(number for number, row in enumerate(rows, start=2) if row["price"] == "N/A")
        assert reject["where"] == f"feed.csv.gz:{line}"
        assert "price" in reject["message"]
        assert "'N/A'" in reject["message"]

        status, second = place.sync("autoscout24", "--full")
        assert (status, second["state"]) == (0, "done")
        assert second["listings"]["unchanged"] == len(expected)
        assert second["requests"]["bulk"] == second["requests"]["delete"] == 0
        assert second["requests"]["list"] == second["requests"]["minimum"] == -(-len(expected) // 200)

        changed = change(rows)
        write(feed, changed)
        status, third = place.sync("autoscout24", "--full")
        assert (status, third["state"]) == (0, "done"), third
        assert (third["requests"]["bulk"], third["requests"]["delete"]) == (4, 25)
        assert (third["listings"]["updated"], third["listings"]["created"], third["listings"]["sold"]) == (300, 40, 25)
        assert sent(third) == third["requests"]["minimum"]
        assert held(sandbox) == valid(changed)
    counted = state(sandbox, "as24")
    assert counted["rate_limited"] == 0
    assert counted["requests"]["bulk:200"] == first["requests"]["bulk"] + 4


def sent(document: dict[str, dict[str, int]]) -> int:
    return sum(document["requests"][kind] for kind in ("list", "bulk", "put", "delete"))


def change(rows: list[Row]) -> list[Row]:
    """300 new prices, 40 more cars, 25 fewer."""
    rng = Random(7)
    fine = [index for index, row in enumerate(rows) if row["price"] != "N/A"]
    picked = rng.sample(fine, 325)
    cheaper, gone = set(picked[:300]), set(picked[300:])
    kept = [
        row | {"price": str(int(row["price"]) + 1)} if index in cheaper else row
        for index, row in enumerate(rows)
        if index not in gone
    ]
    return kept + [row | {"offer_id": f"NEW-{number}"} for number, row in enumerate(rows[:40])]
