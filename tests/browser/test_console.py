"""The console as people use it: decide about held changes, fix a rejected car, find one, watch a run."""

from __future__ import annotations

from typing import Any

import pytest

from okasie_tasks.sandbox.sample import cars, write_csv
from tests.browser.site import MANY, Site
from tests.support import poll, stored

pytestmark = [pytest.mark.system, pytest.mark.slow]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def prices(site: Site, account: str) -> dict[str, float]:
    return {reference: row["body"]["price"] for reference, row in stored(site.sandbox, account).items()}


def hold_two(site: Site, account: str) -> dict[str, tuple[int, int]]:
    """Sync an account, then let two of its prices move by too much; returns their old and new values."""
    rows = site.synced(account)
    moved = {}
    for row in rows[:2]:
        old, new = int(row["price_eur"]), int(row["price_eur"]) // 4
        moved[row["stock_no"]], row["price_eur"] = (old, new), str(new)
    rows[2]["price_eur"] = str(int(rows[2]["price_eur"]) + 10)
    write_csv(site.feed(account), rows)
    status, document = site.place.sync(account)
    assert (status, document["listings"]["held"], document["listings"]["updated"]) == (3, 2, 1), document
    return moved


def test_a_held_plan_is_seen_with_old_and_new_values_and_approved(site: Site, open_page: Any) -> None:
    moved = hold_two(site, "plans")
    before = prices(site, "plans")
    page = open_page()
    page.get_by_role("link", name="Review Changes wait for your approval, plans").click()
    for reference, (old, new) in moved.items():
        row = page.get_by_role("row").filter(has_text=reference)
        assert f"€{old:,}" in row.locator("del").inner_text()
        assert f"€{new:,}" in row.locator("ins").inner_text()
    page.get_by_label("Reference or title").fill(next(iter(moved)))
    page.get_by_text("1 change", exact=True).wait_for()
    page.get_by_role("link", name="Approve…").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Send 2 held changes?"
    for old, new in moved.values():  # of two dealers
        assert f"€{old:,}\t€{new:,}" in page.locator("main").inner_text()
    assert prices(site, "plans") == before, "nothing is sent before the second step"
    page.get_by_role("button", name="Send 2 changes now").click()
    page.locator("h1 .badge", has_text="done").wait_for()
    assert "Approved by console:local" in page.locator("main").inner_text()
    after = prices(site, "plans")
    assert after == before | {reference: new for reference, (_, new) in moved.items()}


def tab_to(page: Any, name: str) -> None:
    """Press Tab until the element with this text or label is focused. Its focus must be visible."""
    script = """() => { const e = document.activeElement, s = getComputedStyle(e);
        return [e.innerText || e.labels?.[0]?.innerText || e.ariaLabel || "", s.outlineStyle, s.outlineWidth]; }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        text, style, width = page.evaluate(script)
        if " ".join(text.split()).startswith(name):
            assert (style, width) != ("none", "0px"), f"the focus of {name!r} is not visible"
            return
    raise AssertionError(f"{name!r} cannot be reached with Tab on {page.url}")


def test_a_held_plan_is_rejected_with_the_keyboard_alone(site: Site, open_page: Any) -> None:
    hold_two(site, "keyboard")
    before = prices(site, "keyboard")
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    page.keyboard.press("Enter")
    tab_to(page, "Review Changes wait for your approval, keyboard")
    page.keyboard.press("Enter")
    page.wait_for_url("**/plan")
    tab_to(page, "Reject…")
    page.keyboard.press("Enter")
    page.wait_for_url("**/plan/reject?*")
    tab_to(page, "Reject 2 changes")
    page.keyboard.press("Enter")
    page.get_by_text("None of the held changes was sent.").wait_for()
    assert prices(site, "keyboard") == before
    page.goto(f"{site.origin}/accounts/keyboard/plan")
    assert "Nothing waits for approval." in page.locator("main").inner_text()


def test_a_rejected_car_is_found_fixed_and_retried_on_a_phone(site: Site, open_page: Any) -> None:
    rows = site.synced("phone")
    good, rows[4]["price_eur"] = rows[4]["price_eur"], "on request"
    write_csv(site.feed("phone"), rows)
    assert site.place.sync("phone")[0] == 4
    page = open_page(**PHONE)
    page.get_by_role("link", name="Show Cars cannot be put online as they are, phone").click()
    text = page.locator("main").inner_text()
    assert "Price cannot be read: on request" in text, text
    assert "old advert online" in text, text
    assert rows[4]["stock_no"] in text
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing lies beside the screen"
    rows[4]["price_eur"] = str(int(good) + 100)
    write_csv(site.feed("phone"), rows)
    page.get_by_role("button", name=f"Retry {rows[4]['stock_no']}").click()
    page.locator("h1 .badge", has_text="done").wait_for()
    assert prices(site, "phone")[rows[4]["stock_no"]] == int(good) + 100
    page.goto(f"{site.origin}/accounts/phone/rejects")
    assert "No car is rejected." in page.locator("main").inner_text()


def test_a_car_is_found_by_a_part_of_its_title_and_pushed(site: Site, open_page: Any) -> None:
    rows = site.synced("outdated")
    wanted = rows[5]
    part = wanted["model"].lower()[1:] if len(wanted["model"]) > 3 else wanted["model"].lower()
    matches = [row for row in rows if part in f"{row['make']} {row['model']} {row['version']}".lower()]
    page = open_page()
    page.goto(f"{site.origin}/accounts/outdated/listings")
    assert page.get_by_role("row").count() == len(rows) + 1
    page.get_by_label("Title, reference or VIN").press_sequentially(part)
    poll(lambda: page.get_by_role("row").count() == len(matches) + 1, what="the search as one types")
    assert f"search={part.split()[0]}" in page.url, "the address can be shared"
    page.get_by_role("row").filter(has_text=wanted["stock_no"]).get_by_role("link").first.click()
    wanted["price_eur"] = str(int(wanted["price_eur"]) + 250)
    write_csv(site.feed("outdated"), rows)
    page.get_by_role("link", name="Send…").click()
    page.get_by_role("button", name="Send now").click()
    page.get_by_text("Answer of the marketplace: updated").wait_for()
    assert prices(site, "outdated")[wanted["stock_no"]] == int(wanted["price_eur"])
    assert "by console:local" in page.locator("main").inner_text(), "the history says who pushed it"


def test_both_sides_of_a_car_and_its_pictures_are_shown_when_asked_for(site: Site, open_page: Any) -> None:
    row = site.synced("outdated")[0]
    page = open_page(foreign=True)
    asked: list[Any] = []
    page.route(
        "https://photos.invalid/**",
        lambda route: (asked.append(route.request), route.fulfill(body=PICTURE, content_type="image/svg+xml")),
    )
    page.goto(f"{site.origin}/accounts/outdated/listing?reference={row['stock_no']}")
    page.get_by_role("button", name="Compare now").click()
    page.get_by_role("button", name="Show pictures").wait_for()
    table = page.locator("section", has=page.get_by_role("heading", name="Source and marketplace"))
    assert f"€{int(row['price_eur']):,}" in table.inner_text()
    assert asked == [], "no foreign host is asked before the click"
    page.get_by_role("button", name="Show pictures").click()
    page.locator("img[src*='photos.invalid']").first.scroll_into_view_if_needed()
    poll(lambda: asked or page.wait_for_timeout(50), what="a picture")
    assert all("referer" not in request.headers for request in asked)


PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><rect width="90" height="60" fill="gray"/></svg>'
)


def test_progress_moves_while_a_run_works(site: Site, open_page: Any) -> None:
    write_csv(site.feed("watched"), cars(MANY, seed=3))
    page = open_page()
    page.goto(f"{site.origin}/accounts/watched")
    page.get_by_role("button", name="Compare everything").click()
    seen: set[str] = set()

    def moves() -> bool:
        bar = page.locator("progress")
        if bar.count() and "sending" in page.locator("section", has=bar).first.inner_text():
            seen.add(page.locator(".cars").first.inner_text())
        page.wait_for_timeout(200)
        return len(seen) >= 3

    poll(moves, what="progress in cars")
    poll(lambda: page.locator("progress").count() == 0 or page.wait_for_timeout(200), what="the end of the run")
    assert len(stored(site.sandbox, "watched")) == MANY
    assert page.locator("ol.line > li").first.inner_text().count(f"{MANY} put online") == 1


def test_a_plan_that_changed_meanwhile_is_shown_anew_and_nothing_is_sent(site: Site, open_page: Any) -> None:
    moved = hold_two(site, "outdated")
    page = open_page()
    page.goto(f"{site.origin}/accounts/outdated/plan")
    page.get_by_role("link", name="Approve…").click()
    page.get_by_role("button", name="Send 2 changes now").wait_for()
    rows = cars(12, seed=1)
    for row in rows[:3]:
        row["price_eur"] = str(int(row["price_eur"]) // 5)
    write_csv(site.feed("outdated"), rows)
    assert site.place.sync("outdated")[0] == 3
    before = prices(site, "outdated")
    with page.expect_response("**/plan/approve") as answer:
        page.watch.problems.clear()
        page.get_by_role("button", name="Send 2 changes now").click()
    assert answer.value.status == 409
    page.get_by_role("heading", name="The changes are not the same any more").wait_for()
    page.watch.problems.clear()  # the browser reports the 409
    assert "Nothing was sent." in page.locator("main").inner_text()
    page.get_by_role("link", name="Look at the new changes").click()
    assert "Why 3 changes were held back" in page.locator("main").inner_text()
    assert prices(site, "outdated") == before
    assert moved


def test_it_works_without_javascript(site: Site, open_page: Any) -> None:
    site.synced("scriptless")
    page = open_page(java_script_enabled=False, locale="nl-BE")
    page.goto(f"{site.origin}/accounts/scriptless")
    page.get_by_role("button", name="Pauzeren").click()
    assert "Het account is gepauzeerd" in page.locator("main").inner_text()
    assert site.place.okasie("status", "scriptless", "--json").document["accounts"][0]["paused_since"]
    page.get_by_role("button", name="Hervatten").click()
    assert "Het account werkt weer." in page.locator("main").inner_text()
    page.goto(f"{site.origin}/accounts/scriptless/listings")
    page.get_by_label("Titel, referentie of chassisnummer").fill("DG-00003")
    page.get_by_role("button", name="Zoeken").click()
    assert page.get_by_role("row").count() == 2
    page.get_by_role("button", name="English", exact=True).click()
    page.get_by_label("Title, reference or VIN").wait_for()
    assert "search=DG-00003" in page.url, "the language changes, the page stays"


def test_axe_finds_no_serious_violation_on_any_page(site: Site, open_page: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    rows = site.synced("axe")
    rows[0]["price_eur"], rows[4]["price_eur"] = str(int(rows[0]["price_eur"]) // 4), "on request"
    write_csv(site.feed("axe"), rows)
    run = site.place.sync("axe")[1]["run"]
    plan = site.place.okasie("status", "axe", "--json").document["accounts"][0]["held_plan"]["run"]
    car = rows[4]["stock_no"]
    pages = [
        "/", "/accounts/axe", "/accounts/axe/plan", f"/accounts/axe/plan/approve?run={plan}",
        f"/accounts/axe/plan/reject?run={plan}", "/accounts/axe/listings", "/accounts/axe/listings?search=nothing",
        f"/accounts/axe/listing?reference={car}", f"/accounts/axe/listing/push?reference={car}",
        f"/accounts/axe/listing/sell?reference={car}", "/accounts/axe/rejects", f"/runs/{run}",
        "/accounts/nowhere", "/accounts/axe/plan/approve?run=01J", "/login",
    ]  # fmt: skip
    found = []
    for options in ({"color_scheme": "light"}, {"color_scheme": "dark", "locale": "nl-BE", **PHONE}):
        page = open_page(**options)
        for address in pages:
            page.goto(f"{site.origin}{address}")
            violations = axe.run(page).response["violations"]
            found += [
                (address, one["id"], one["nodes"][0]["html"])
                for one in violations
                if one["impact"] in ("serious", "critical")
            ]
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                f"{address} is wider than the screen"
            )
        page.watch.problems[:] = [text for text in page.watch.problems if "404" not in text and "409" not in text]
    assert found == []
