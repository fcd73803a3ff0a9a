"""The pages, from documents: what a feed or the marketplace says is text on them, never markup."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from markupsafe import Markup

from okasie_tasks.reports import charts
from okasie_tasks.web.console.rendering import render, shown
from tests.web import console_documents as documents
from tests.web.console_documents import AT, HOSTILE

_KEPT = frozenset(
    {
        "created_at",
        "started_at",
        "ended_at",
        "expires_at",
        "at",
        "updated_at",
        "first_seen",
        "last_seen",
        "since",
        "paused_since",
        "last_success",
    }
)


def page(**other: Any) -> SimpleNamespace:
    values = {
        "session": SimpleNamespace(identity=SimpleNamespace(name="jan")), "accounts": ["dex"], "account": "dex", "path": "/accounts/dex",
        "back": "/", "address": "/", "csrf": Markup('<input type="hidden" name="csrf" value="x">'), "notice": "",
        "zone": "Europe/Brussels", "may_send": True, "may_operate": True,
    }  # fmt: skip
    return SimpleNamespace(**values | other)


def pages() -> dict[str, dict[str, Any]]:
    """Every template with its documents."""
    run = documents.run(
        state="partial", error={"code": "x", "message": "m", "where": "w"}, notes=["a note"], note_details=[{"code": "counts_differ", "theirs": 3, "ours": 4}], waits_for_approval=True,
        timeline=[{"phase": "send", "begins": 0, "seconds": 2.0}], limit_per_minute=120,
        requests_over_time=[{"at": 0, "seconds": 10, "requests": 18, "refused": 2, "failed": 1, "share": 0.9}],
        failed_requests=[{"where": "POST /x", "status": 500, "ms": 1200, "items": 100}], slowest_requests=[],
        rejects=[documents.reject(3)], held=documents.plan()["holds"],
    )  # fmt: skip
    rejected = documents.reject(3)
    group = {
        "code": "c", "message": "m", "fields": ["price"], "count": 1, "rejects": [rejected], "issues": rejected["issues"],
    }  # fmt: skip
    plan = documents.plan()
    return {
        "overview.html": {
            "accounts": [documents.account("dex")], "missing": True, "zones": {"dex": "UTC"}, "guards": {"dex": ["price_change"]},
            "attention": [{"account": "dex", "kind": "held", "count": 2, "text": "text", "since": AT, "run": "01J", "code": None}],
        },
        "account.html": {
            "status": documents.account("dex", paused_since=AT, paused_by="cli:x"), "runs": [run], "older": "01J",
            "running": documents.progress(), "last_success": AT,
        },
        "plan.html": {
            "plan": plan, "items": plan["items"], "found": 10, "filter": {"search": "s", "dealer": "d", "kind": "k"},
            "dealers": {"ab12": "DEMO-GENT"}, "kinds": ["price"],
        },
        "decide.html": {"plan": plan, "decision": "approve"},
        "outdated.html": {"plan": plan, "message": "text"},
        "listings.html": {
            "found": {"listings": [documents.listing(1)], "next": "x", "count": 1}, "filter": {"search": "s", "status": "live"},
            "states": ["live"],
        },
        "listing.html": {
            "why": documents.why(), "asked": {"state": "done", "error": None, "outcomes": {"DG-00007": {"outcome": "updated", "message": "m"}}},
            "preview": {"source": {}, "images": ["https://x/1.jpg"], "source_problem": "p", "marketplace_problem": "p", "source_issues": rejected["issues"]},
            "faulty": ["price"], "sides": [("title", "ours", "theirs", True), ("price", 1, 2, True)],
        },
        "ask.html": {"why": documents.why(), "what": "sell"},
        "rejects.html": {"found": {"rejects": [1], "sells_waiting": 2, "rows_without_reference": 1, "sells_wait_for": "why"}, "groups": [group]},
        "run.html": {
            "run": run, "running": documents.progress(), "timeline": charts.timeline(run["timeline"]),
            "use": charts.use(run["requests_over_time"]),
        },
        "login.html": {"problem": "refused", "start_token": False, "next": "/"},
        "error.html": {"title": "t", "message": "m"},
    }  # fmt: skip


class Parsed(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def poisoned(value: Any, text: str, name: str = "") -> Any:
    """The document with every text replaced, but for times."""
    if isinstance(value, str):
        return value if name in _KEPT else text
    if isinstance(value, dict):
        return {key: poisoned(inner, text, key) for key, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(poisoned(inner, text) for inner in value))
    return [poisoned(inner, text, name) for inner in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("language", ["en", "nl"])
@pytest.mark.parametrize("template", pages())
@pytest.mark.parametrize("text", [HOSTILE, "javascript:alert(1)", "data:text/html,<script>alert(1)</script>"])
def test_a_text_from_outside_never_becomes_markup(template: str, language: str, text: str) -> None:
    values = {name: poisoned(value, text, name) for name, value in pages()[template].items()}
    if template == "overview.html":
        values["zones"] = {}
    good = Parsed(render(template, language, page=page(), **pages()[template]))
    html = render(template, language, page=page(back=text, address=text), **values)
    found = Parsed(html)
    known = {"script", "img", "style", "iframe", "object"}
    assert sum(tag in known for tag, _ in found.elements) == sum(tag in known for tag, _ in good.elements)
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        for name in ("href", "src", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "#", "?", "https://")), (tag, attributes)


def test_characters_that_no_one_sees_are_written_out() -> None:
    assert shown({"title": ["a\u202eb", "two\nlines"]}) == {"title": ["a\\u202eb", "two lines"]}


@pytest.mark.parametrize("template", pages())
def test_headings_labels_and_buttons_have_names(template: str) -> None:
    elements = Parsed(render(template, "en", page=page(), **pages()[template])).elements
    levels = [int(tag[1]) for tag, _ in elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels)), levels
    labels = {attributes.get("for") for tag, attributes in elements if tag == "label"}
    for tag, attributes in elements:
        if tag in ("input", "select") and attributes.get("type") != "hidden":
            assert attributes.get("id") in labels
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_person_who_may_only_look_sees_no_button_that_changes_something() -> None:
    reader = page(may_send=False, may_operate=False)
    for template, values in pages().items():
        if template in ("decide.html", "ask.html", "login.html"):
            continue
        forms = [
            a["action"]
            for tag, a in Parsed(render(template, "en", page=reader, **values)).elements
            if tag == "form" and a.get("method") == "post"
        ]
        assert {
            form for form in forms if form not in ("/logout", "/language", "/accounts/dex/listing/preview")
        } == set(), template
