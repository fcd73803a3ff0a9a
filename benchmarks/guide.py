"""The guide's full comparison as one Python process: read the feed, walk all pages, compare field by field.

    python benchmarks/guide.py BASE_URL FEED KEY

The same program as guide.mjs, as a careful Python developer writes it: requests with a session, json, a dict by
reference. It knows nothing of this package.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

FUEL = {"Benzine": "petrol", "Diesel": "diesel", "Hybride": "hybrid", "Elektrisch": "electric"}
GEARBOX = {"Manueel": "manual", "Automaat": "automatic"}
VAT = {"marge": "margin", "btw": "btw"}
PLACES = {
    "DEMO-GENT": ("9000", "Gent", "Oost-Vlaanderen"),
    "DEMO-BRUGGE": ("8000", "Brugge", "West-Vlaanderen"),
    "DEMO-MECHELEN": ("2800", "Mechelen", "Antwerpen"),
}
FIELDS = (
    "title", "brand", "model", "variant", "price", "mileage", "year", "firstRegistration", "fuelType", "transmission",
    "bodyType", "powerKw", "doors", "color", "vehicleType", "description", "status",
)  # fmt: skip
PLACE_FIELDS = ("postalCode", "city", "province")


def listing(row: dict[str, Any]) -> dict[str, Any]:
    postal_code, city, province = PLACES[row["branch"]]
    return {
        "externalReference": row["stock_no"],
        "title": f"{row['make']} {row['model']} {row['version']}".strip(),
        "brand": row["make"],
        "model": row["model"],
        "variant": row["version"] or None,
        "price": float(row["price_eur"]),
        "mileage": int(row["km"]),
        "year": int(row["year"]),
        "firstRegistration": row["first_reg"],
        "fuelType": FUEL.get(row["fuel"], row["fuel"]),
        "transmission": GEARBOX.get(row["gearbox"], row["gearbox"]),
        "bodyType": row["body"],
        "powerKw": float(row["kw"]),
        "doors": int(row["doors"]),
        "color": row["colour"],
        "vehicleType": VAT.get(row["vat"], row["vat"]),
        "description": row["notes"] or None,
        "status": "active",
        "condition": "used",
        "dealerLocationCode": row["branch"],
        "postalCode": postal_code,
        "city": city,
        "province": province,
        "images": row["photos"] if isinstance(row["photos"], list) else row["photos"].split("|"),
    }


def read_feed(path: Path) -> dict[str, dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter=";") if path.suffix == ".csv" else map(json.loads, file)
        return {row["stock_no"]: listing(row) for row in rows}


def differs(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    place = theirs.get("location") or {}
    return (
        any(ours.get(field) != theirs.get(field) for field in FIELDS)
        or any(ours.get(field) != place.get(field) for field in PLACE_FIELDS)
        or ours["dealerLocationCode"] != theirs["dealer"]["locationCode"]
        or len(ours["images"]) != len(theirs.get("images") or [])
    )


def marketplace(base_url: str, key: str) -> Iterator[dict[str, Any]]:
    page = pages = 1
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {key}"
        while page <= pages:
            query: dict[str, Any] = {"page": page, "pageSize": 200, "status": "all"}
            answer = session.get(f"{base_url}/listings", params=query, timeout=30)
            answer.raise_for_status()
            body = answer.json()
            pages = body["pagination"]["totalPages"]
            yield from body["data"]
            page += 1


def main() -> None:
    began, cpu_began = time.perf_counter(), time.process_time()
    local = read_feed(Path(sys.argv[2]))
    remote = {row["externalReference"]: row for row in marketplace(sys.argv[1], sys.argv[3])}
    create = sum(reference not in remote for reference in local)
    update = sum(reference in remote and differs(car, remote[reference]) for reference, car in local.items())
    gone = sum(reference not in local and row["status"] != "sold" for reference, row in remote.items())
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    same = len(local) - create - update
    print(json.dumps({"seconds": seconds, "cpu": cpu, "create": create, "update": update, "same": same, "gone": gone}))


if __name__ == "__main__":
    main()
