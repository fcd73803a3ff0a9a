"""The page of a run: complete in itself, nothing on it runs, and what a feed said is text."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.cli.html_report import render
from okasie_tasks.reports import charts

HOSTILE = """</td><script>alert(1)</script><img src="http://evil.example/x.png" onerror=alert(2)>"'&{{ 7 * 7 }}"""


def request(where: str, status: int = 200, ms: int = 120) -> dict[str, Any]:
    return {
        "where": where, "status": status, "ms": ms, "request_id": HOSTILE, "items": 100, "waited_ms": 0, "at": 3,
        "sent_at": "2026-11-25T12:00:03Z",
    }  # fmt: skip


def slot(at: int, requests: int, refused: int = 0, failed: int = 0, seconds: int = 10) -> dict[str, Any]:
    share = requests / (120 * seconds / 60)
    return {"at": at, "seconds": seconds, "requests": requests, "refused": refused, "failed": failed, "share": share}


def document(**other: Any) -> dict[str, Any]:
    return {
        "run": "01JD9ZRUN", "account": "dex", "mode": "full", "state": "partial",
        "listings": {"local": 1268, "remote": 1500, "unchanged": 821, "created": 0, "updated": 445, "rejected": 2},
        "requests": {"list": 8, "bulk": 9, "put": 0, "delete": 0, "retried": 3, "rate_limited": 1, "minimum": 13},
        "seconds": 11.7, "waited_seconds": 0.2, "cursor": None, "limit_per_minute": 120,
        "created_at": "2026-11-25T12:00:00Z", "started_at": "2026-11-25T12:00:00Z", "ended_at": "2026-11-25T12:00:12Z",
        "new_rejects": 2, "held_run": "01JD9ZHELD", "notes": [HOSTILE],
        "held": [{"what": "sells", "count": 77, "reason": HOSTILE, "dealer": "D"}],
        "error": {"code": "unavailable", "message": HOSTILE, "where": HOSTILE},
        "timeline": [
            {"phase": "first page", "begins": 0.0, "seconds": 0.2, "parts": [{"stage": "first", "parts": 1, "closed": 1, "failed": 0}]},
            {"phase": "send", "begins": 0.2, "seconds": 11.0, "parts": None},
        ],
        "requests_over_time": [slot(0, 14, 1, 3), slot(10, 3)],
        "slowest_requests": [request(HOSTILE)], "failed_requests": [request("POST /listings/bulk-upsert", 500)],
        "rejects": [{"reference": HOSTILE, "where": HOSTILE, "code": "unreadable", "message": HOSTILE, "fields": [HOSTILE]}],
    } | other  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of it: elements with their attributes, and the text."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, ...]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], "an element was never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append((*self._open, tag))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_needs_nothing_but_itself() -> None:
    page = Page(render(document()))
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form"})
    names = {name for _, attributes in page.elements for name in attributes}
    assert names.isdisjoint({"src", "href", "srcset", "action", "style"})
    assert [name for name in names if name.startswith("on")] == []
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in render(document())
    assert "@import" not in render(document())


def test_what_a_feed_or_an_answer_said_is_text() -> None:
    page = Page(render(document()))
    assert page.text.count(HOSTILE) == 11, "notes, held, error and its place, both ids, where, and a reject's four"
    assert "49" not in page.text


def test_every_chart_has_its_numbers_as_a_table_beside_it() -> None:
    page = Page(render(document()))
    figures = [inside for inside in page.inside if inside[-1] == "figure"]
    assert len(figures) == 3
    for kind in ("svg", "table"):
        assert len([inside for inside in page.inside if inside[-1] == kind and "figure" in inside]) == 3
    labelled = {a["aria-labelledby"] for tag, a in page.elements if tag == "svg"}
    assert labelled <= {a.get("id") for tag, a in page.elements if tag == "h2"}


def test_it_tells_the_outcome_first_and_light_and_dark() -> None:
    text = render(document())
    assert text.index("partial</span>") < text.index('role="alert"') < text.index("Where the time went")
    assert "prefers-color-scheme: dark" in text
    assert "okasie approve 01JD9ZHELD" in text


@pytest.mark.parametrize(
    "other",
    [
        {"state": "queued", "timeline": [], "requests_over_time": [], "started_at": None, "ended_at": None, "waited_seconds": None},
        {"error": None, "held": [], "notes": [], "rejects": [], "new_rejects": 0, "slowest_requests": [], "failed_requests": []},
        {"rejects": []},
        {"listings": {"local": 0, "remote": 0}, "seconds": 0.0, "timeline": [{"phase": "first page", "begins": 0.0, "seconds": 0.0, "parts": None}]},
    ],
    ids=["not begun", "nothing went wrong", "rejects met again", "nothing at all"],
)  # fmt: skip
def test_what_there_is_not_is_left_out(other: dict[str, Any]) -> None:
    text = Page(render(document(**other))).text
    assert "01JD9ZRUN" in text
    assert re.findall(r"\bNone\b(?! was new)", text) == []


# -- the charts ----------------------------------------------------------------------------------------------------


def test_steps_are_round_and_reach_the_top() -> None:
    assert charts.nice_steps(11.7) == [0, 2, 4, 6, 8, 10, 12]
    assert charts.nice_steps(0.2)[-1] >= 0.2
    assert charts.nice_steps(86_400)[-1] >= 86_400
    assert all(len(charts.nice_steps(top)) <= 8 for top in (0.01, 1, 7, 59.9, 3600))


def test_a_column_is_as_high_as_its_share_and_refusals_lie_on_top() -> None:
    chart = charts.use([slot(0, 20, 2, 5), slot(10, 10)])
    first = [bar for bar in chart.bars if bar.value.startswith("0 to 10 s")]
    assert [bar.kind for bar in first] == ["good", "refused", "failed"]
    assert sum(bar.height for bar in first) == pytest.approx(150), "20 requests in 10 s are the quota"
    assert [bar.y for bar in first] == sorted((bar.y for bar in first), reverse=True)
    assert chart.line == pytest.approx(10)
    assert sum(bar.height for bar in chart.bars if bar not in first) == pytest.approx(75)
    assert charts.use([slot(0, 40)]).line == pytest.approx(85), "above the quota the line comes down"


def test_nothing_lies_outside_its_drawing() -> None:
    page = document()
    for chart in (
        charts.timeline(page["timeline"]), charts.use(page["requests_over_time"]), charts.counts([("created", 10**6), ("sold", 0)]),
    ):  # fmt: skip
        for bar in chart.bars:
            assert bar.x >= 0
            assert bar.x + bar.width <= chart.width
            assert 0 <= bar.y <= bar.y + bar.height <= chart.height


# -- a real browser ------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the parser's tests above must do")
def test_a_browser_without_network_opens_it_and_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    file.write_text(render(document()), encoding="utf-8")
    dom, said = opened(file, tmp_path)
    assert "Where the time went" in dom
    assert "CONSOLE" not in said
    # That it would be said: the same page with something that the network is needed for.
    file.write_text(file.read_text().replace("</main>", '<img src="https://evil.example/a.png" alt=""></main>'))
    assert "CONSOLE" in opened(file, tmp_path)[1]


def opened(file: Path, folder: Path) -> tuple[str, str]:
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr
