"""Takes the screenshots of docs/console.md: ``python -m tests.browser.screenshots [FOLDER]``.

The pages are those of a real ``okasie up`` with a sample dealer's cars, so that they stay true.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from okasie_tasks.sandbox.sample import cars, write_csv
from tests.browser.site import CHROMIUM, Site, running

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDE = {"viewport": {"width": 1100, "height": 720}}
PHONE = {"viewport": {"width": 390, "height": 780}, "is_mobile": True}
_CARS = 60
_TALLEST = 1500


def prepare(site: Site) -> dict[str, str]:
    """Bring the account into the state that the docs describe; returns the address of each page."""
    rows = cars(_CARS, seed=4)
    write_csv(site.feed("demo"), rows)
    site.place.sync("demo", "--full")
    for row in rows[:9]:
        row["price_eur"] = str(int(row["price_eur"]) // 3)
    rows[20]["price_eur"] = rows[31]["price_eur"] = "on request"
    rows[22]["km"] = str(int(rows[22]["km"]) + 15)
    write_csv(site.feed("demo"), rows)
    run = site.place.sync("demo")[1]["run"]
    rows[25]["price_eur"] = str(int(rows[25]["price_eur"]) - 300)
    write_csv(site.feed("demo"), rows)
    site.place.okasie("push", "demo", rows[25]["stock_no"])
    plan = site.place.okasie("status", "demo", "--json").document["accounts"][0]["held_plan"]["run"]
    return {
        "overview": "/",
        "account": "/accounts/demo",
        "plan": "/accounts/demo/plan",
        "approve": f"/accounts/demo/plan/approve?run={plan}",
        "cars": "/accounts/demo/listings?search=golf",
        "car": f"/accounts/demo/listing?reference={rows[25]['stock_no']}",
        "rejects": "/accounts/demo/rejects",
        "run": f"/runs/{run}",
    }


def take(page: Any, file: Path) -> None:
    """Write the page as WebP, or the upper part of a long one."""
    height = min(page.evaluate("document.documentElement.scrollHeight"), _TALLEST)
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
    session = page.context.new_cdp_session(page)
    shot = session.send("Page.captureScreenshot", {"format": "webp", "quality": 82})
    file.write_bytes(base64.b64decode(shot["data"]))


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running(Path(scratch), ["demo"]) as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        pages = prepare(site)
        for kind, options, names in (("wide", WIDE, tuple(pages)), ("phone", PHONE, ("plan", "rejects"))):
            page = browser.new_context(locale="en-GB", **options).new_page()
            page.goto(site.address)
            for name in names:
                page.goto(f"{site.origin}{pages[name]}")
                take(page, folder / f"console-{name}-{kind}.webp")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
