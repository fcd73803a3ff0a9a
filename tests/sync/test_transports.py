"""A whole sync from FTP, FTPS, SFTP and S3, zipped; a connection that is cut sells nothing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.reports.runs import run_document
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.sources.transports import base
from tests.sources.servers import CuttingProxy
from tests.sources.sites import ENVIRON, SCHEMES, SECRETS, Site, site
from tests.sync.http_scenario import ACCOUNT, HttpScenario, varied

_ROWS = 60
_PHOTO = bytes(range(256)) * 40


class Upload:
    """A dealer's export on a server: a zip file with the feed and a photo."""

    def __init__(self, scenario: HttpScenario, site: Site) -> None:
        self.scenario, self.site, self.count = scenario, site, 0
        self.configure(site.url("export/stock-*.zip"), site.options)

    def configure(self, url: str, options: str) -> None:
        scenario, config = self.scenario, self.scenario.folder / "okasie.toml"
        original = scenario.folder / "original.toml"
        if not original.exists():
            original.write_text(config.read_text())
        config.write_text(original.read_text().replace('url = "feed.csv"\n', f'url = "{url}"\n{options}'))
        scenario.services.redis.close()
        scenario.services = Services(load_settings(config, environ=ENVIRON | SECRETS))
        scenario.ctx = scenario.services.context(ACCOUNT)

    def put(self) -> None:
        self.count += 1
        self.scenario._write_feed()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:
            file.writestr("photos/1.jpg", _PHOTO)
            file.write(self.scenario.folder / "feed.csv", "stock.csv")
        self.site.put(packed.getvalue(), f"export/stock-{self.count}.zip", age=600 - 30 * self.count)

    def run(self) -> dict[str, Any]:
        return run_document(self.scenario.ctx.runs, self.scenario.run("full"))


@pytest.fixture(params=SCHEMES)
def upload(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Upload]:
    with ExitStack() as open_:
        server = open_.enter_context(site(request.param, tmp_path))
        scenario = open_.enter_context(HttpScenario(tmp_path, redis_url, rows=varied(_ROWS, seed=4)))
        yield Upload(scenario, server)


def test_a_feed_on_a_server_is_synced_and_a_cut_sells_nothing(upload: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PAUSES_SECONDS", [0.0, 0.0])
    scenario = upload.scenario
    upload.put()
    first = scenario.good_run()
    assert first["listings"]["created"] == _ROWS
    assert scenario.good_run()["listings"]["unchanged"] == _ROWS

    scenario.rows = scenario.rows[: _ROWS // 2]
    upload.put()
    cut = cut_in_the_middle(upload)
    assert cut["state"] == "failed"
    assert len(scenario.standing()) == _ROWS
    for secret in SECRETS.values():
        assert secret not in str(cut)

    last = scenario.good_run()
    assert last["listings"]["sold"] == _ROWS // 2
    assert set(scenario.standing()) == {row["stock_no"] for row in scenario.rows}


def cut_in_the_middle(upload: Upload) -> dict[str, Any]:
    """Run while the server's connections break in the middle of the file."""
    server = upload.site
    url, options = server.url("export/stock-*.zip"), server.options
    try:
        if server.scheme.startswith("ftp"):
            server.cuts.append(5_000)
            return upload.run()
        with CuttingProxy(server.port, after=8_000) as proxy:
            upload.configure(
                url.replace(f":{server.port}", f":{proxy.port}"), options.replace(f":{server.port}", f":{proxy.port}")
            )
            return upload.run()
    finally:
        server.cuts.clear()
        upload.configure(url, options)
