"""From a feed that nobody has described to listings on the marketplace: what `okasie init` drafts is run as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from okasie_tasks.reports.runs import run_document
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.sources.detect import FILL_IN, render
from tests.sources.test_detect import DUTCH, FRENCH, GERMAN, drafted, feed
from tests.support import stored
from tests.sync.driver import drive

SECRET = "first-run-secret"


@pytest.mark.parametrize(("text", "encoding"), [(DUTCH, "utf-8"), (FRENCH, "cp1252"), (GERMAN, "utf-8")])
def test_a_draft_with_its_blanks_filled_brings_every_car(
    tmp_path: Path, redis_url: str, client: redis.Redis, text: str, encoding: str
) -> None:
    draft = drafted(feed(tmp_path, text, encoding=encoding))
    config = tmp_path / "okasie.toml"
    config.write_text(render(draft).replace(FILL_IN, "KTR-1"), encoding="utf-8")
    with Sandbox([Key(SECRET, "dex", codes=("KTR-1",))], limit=0, burst_per_second=1_000_000) as sandbox:
        environ = {
            "DEX_API_KEY": SECRET, "OKASIE_ACCOUNTS__DEX__BASE_URL": sandbox.base_url, "OKASIE_REDIS__URL": redis_url,
            "OKASIE_ACCOUNTS__DEX__REQUESTS_PER_MINUTE": "100000", "OKASIE_ACCOUNTS__DEX__BURST_PER_SECOND": "10000",
        }  # fmt: skip
        services = Services(load_settings(config, environ))
        first, second = (run_document(services.runs, drive(services.context("dex"), "full")) for _ in range(2))
        there = stored(sandbox, "dex")
        services.context("dex").market.connections.close()  # type: ignore[attr-defined]
        services.redis.close()
    cars = len(text.splitlines()) - 1
    assert (first["state"], first["listings"]["created"], first["new_rejects"]) == ("done", cars, 0), first
    assert (second["listings"]["unchanged"], second["requests"]["bulk"]) == (cars, 0), second
    assert {row["status"] for row in there.values()} == {"active"}
    assert all(row["body"]["price"] > 5_000 for row in there.values())
