"""A real browser on the console of a real ``okasie up``; every page is watched for errors and for foreign requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.site import CHROMIUM, SLOW, Site, running

ACCOUNTS = ("plans", "keyboard", "phone", "scriptless", "outdated", "axe", SLOW)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, or a skip with one line."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the console is not tried in a browser")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running system, with an account for each story."""
    with running(tmp_path_factory.mktemp("console"), ACCOUNTS) as found:
        yield found


class Watch:
    """What went wrong on the pages of one context, and which foreign hosts were asked."""

    def __init__(self, context: Any, origin: str) -> None:
        self.problems: list[str] = []
        self.foreign: list[Any] = []
        self._origin = origin
        context.on("console", self._console)
        context.on("weberror", lambda error: self.problems.append(str(error.error)))
        context.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((f"{self._origin}/", "data:")):
            self.foreign.append(request)


@pytest.fixture
def open_page(chromium: Any, site: Site) -> Iterator[Any]:
    """Opens a page, signed in; at the end none had an error or asked another host."""
    opened: list[tuple[Any, Watch]] = []

    def signed_in(*, foreign: bool = False, **options: Any) -> Any:
        context = chromium.new_context(**{"locale": "en-GB", **options})
        context.set_default_timeout(30_000)
        watch = Watch(context, site.origin)
        opened.append((context, watch))
        page = context.new_page()
        page.goto(site.address)
        assert "token" not in page.url, "the token leaves the address bar"
        page.watch = watch
        if foreign:
            watch.allowed = True  # type: ignore[attr-defined]
        return page

    yield signed_in
    for context, watch in opened:
        context.close()
        assert watch.problems == []
        assert hasattr(watch, "allowed") or [request.url for request in watch.foreign] == []
