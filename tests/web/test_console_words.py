"""Nothing that a person decides on is left in English or in a program's words."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import okasie_tasks
from okasie_tasks.reports import run_record
from okasie_tasks.web.console import words
from okasie_tasks.web.console.listings import _sides
from okasie_tasks.web.console.rendering import Formats, render
from tests.web import console_documents as documents
from tests.web.test_console_templates import page, pages

PACKAGE = Path(okasie_tasks.__file__).parent
_PLACE = {"Issue": 1, "_wrong": 1, "_invalid": 1, "unread_row": 2}
"""Which argument of a call is the code of what is wrong with a row."""


def calls(*folders: str) -> list[ast.Call]:
    files = [file for folder in folders for file in (PACKAGE / folder).rglob("*.py")]
    return [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]


def test_all_that_can_be_wrong_with_a_row_has_words() -> None:
    codes = set()
    for call in calls("core", "sources", "sync", "urgent"):
        place = _PLACE.get(getattr(call.func, "attr", getattr(call.func, "id", "")))
        if place is not None and len(call.args) > place and isinstance(call.args[place], ast.Constant):
            codes.add(call.args[place].value)  # type: ignore[attr-defined]
    codes = {code for code in codes if " " not in code}
    assert {"required", "unreadable", "bad_reference", "columns"} < codes
    assert codes - words.ISSUES.keys() == {"not_json", "zero_date"}, "they are warnings"


def test_every_note_about_a_run_has_words() -> None:
    tree = ast.walk(ast.parse(Path(run_record.__file__).read_text()))
    notes = [node for node in tree if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("note", "Note")]
    codes = {call.args[0].value for call in notes if isinstance(call.args[0], ast.Constant)}
    assert codes == words.REMARKS.keys()


def test_every_error_of_a_source_has_words() -> None:
    codes = {
        argument.value.value
        for call in calls("sources")
        for argument in call.keywords
        if argument.arg == "code" and isinstance(argument.value, ast.Constant)
    }
    assert {"cut", "http", "login"} < codes
    assert codes - words.ERRORS.keys() == {"columns", "storage", "write_back"}, "they are for an operator"


def test_a_note_is_in_the_language_of_the_page() -> None:
    note = {"code": "counts_differ", "theirs": 3, "ours": 4}
    assert Formats("nl").remark(note) == "De marktplaats telt 3 wagens online, de bron heeft er 4."


def dutch(template: str, **values: Any) -> str:
    return render(template, "nl", page=page(), **pages()[template] | values)


@pytest.mark.parametrize(
    ("run", "badge"),
    [
        ({"state": "held", "waits_for_approval": True}, "wacht op goedkeuring"),
        ({"state": "held"}, "wacht niet meer op goedkeuring"),
        ({"state": "dropped", "replaced_by": "01J"}, "wacht niet meer op goedkeuring"),
        ({"state": "dropped"}, "wijzigingen afgekeurd"),
    ],
)
def test_only_a_run_whose_changes_wait_waits_for_approval(run: dict[str, Any], badge: str) -> None:
    assert f">{badge}</span>" in dutch("account.html", runs=[documents.run(**run)], running=None)


def test_a_failed_sync_is_explained_and_the_technical_message_folded_away() -> None:
    error = {"code": "cut", "message": "ends in the middle of a row", "where": "feed.csv:9"}
    html = dutch("run.html", run=pages()["run.html"]["run"] | {"error": error})
    assert "<strong>De bron is beschadigd of onvolledig.</strong>" in html
    assert "<details" in html.split("ends in the middle of a row")[0].rsplit("</summary>", 1)[0]


def test_a_rejected_car_says_what_is_wrong_with_which_value_and_that_its_advert_is_online() -> None:
    for template in ("rejects.html", "listing.html", "run.html"):
        html = dutch(template)
        assert "Prijs is geen getal: <q>17.x</q>" in html, template
        assert "expected a number" not in html, template
    assert "toegelaten: active, draft, pending, sold" in dutch("rejects.html")
    for template in ("rejects.html", "listing.html", "ask.html"):
        assert "oude advertentie online" in dutch(template), template
    for template in ("listing.html", "ask.html"):
        assert ">niet online</span>" in dutch(template, why=documents.why(online=False)), template


def test_a_price_that_rises_is_not_shown_as_good_news() -> None:
    sheet = (PACKAGE / "web/console/static/console.css").read_text()
    assert ".up { color: var(--wait); }" in sheet


def test_a_field_differs_where_the_comparison_says_so() -> None:
    """The marketplace fills fields that the source leaves to it, such as the id of the dealer."""
    ours, theirs = {"price": 2, "title": "A"}, {"price": 1, "title": "A", "dealerProfileId": "7e5d"}
    assert [(name, differs) for name, _, _, differs in _sides(ours, theirs, ["price"])] == [
        ("dealerProfileId", False),
        ("title", False),
        ("price", True),
    ]


def test_why_prices_are_held_is_in_the_language_of_the_page() -> None:
    hold = documents.plan()["holds"][0]
    assert Formats("nl").held(hold) == "Met meer dan 50 %."


def test_a_rejection_of_held_changes_says_nothing_of_what_sending_takes() -> None:
    assert "ongeveer" in dutch("decide.html")
    html = dutch("decide.html", decision="reject")
    assert ("ongeveer" in html, "200 tegengehouden wijzigingen afkeuren?" in html) == (False, True)
