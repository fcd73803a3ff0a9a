"""Feeds on FTP, FTPS, SFTP and S3, synced by real worker processes; a cut connection; no password in any log."""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from pathlib import Path

import pytest

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.sources.servers import CuttingProxy
from tests.sources.sites import ENVIRON, SCHEMES, SECRETS, Site, site
from tests.support import Place, Workers, stored

_CARS = 120
_QUEUES = "okasie.control,okasie.urgent,okasie.api,okasie.diff"


def exported(folder: Path, count: int) -> bytes:
    write_csv(folder / "export.csv", cars(count, seed=3))
    return gzip.compress((folder / "export.csv").read_bytes())


def live(sandbox: Sandbox, account: str) -> int:
    return sum(row["status"] == "active" for row in stored(sandbox, account).values())


def put_all(sites: dict[str, Site], content: bytes, *, age: float) -> None:
    for server in sites.values():
        server.put(content, "export/stock.csv.gz", age=age)


@pytest.mark.system
def test_workers_sync_each_transport_and_a_cut_sells_nothing(tmp_path: Path, redis_url: str, client: object) -> None:
    place, sites = Place(tmp_path), dict[str, Site]()
    with ExitStack() as open_:
        sandbox = open_.enter_context(
            Sandbox([Key(f"key-{name}", name) for name in SCHEMES], limit=0, burst_per_second=100_000)
        )
        for name in SCHEMES:
            (tmp_path / name).mkdir()
            sites[name] = open_.enter_context(site(name, tmp_path / name))
        proxy = open_.enter_context(CuttingProxy(sites["sftp"].port, after=None))
        place.env |= {**ENVIRON, **SECRETS, "OKASIE_REDIS__URL": redis_url}
        for name, server in sites.items():
            port = proxy.port if name == "sftp" else None
            url = server.url("export/stock*", port=port)
            options = server.options.replace('"file:host_key"', f'"file:{name}/host_key"')
            options = options.replace('"ca.pem"', f'"{name}/ca.pem"')
            place.account(name, feed="FEED", base_url=sandbox.base_url, key=f"key-{name}")
            place.config.write_text(place.config.read_text().replace('url = "FEED"\n', f'url = "{url}"\n{options}'))
        put_all(sites, exported(tmp_path, _CARS), age=120)
        doctor = place.okasie("doctor", "sftp")
        assert f"{_CARS} rows, {_CARS} valid" in doctor.stdout
        open_.enter_context(Workers(place, [_QUEUES, _QUEUES]))

        for name in SCHEMES:
            status, first = place.sync(name, "--full")
            assert (status, first["state"], first["listings"]["created"]) == (0, "done", _CARS), first
            assert live(sandbox, name) == _CARS

        put_all(sites, exported(tmp_path, _CARS - 5), age=60)
        proxy.after = 5_000
        status, cut = place.sync("sftp", "--full")
        assert (status, cut["state"]) == (1, "failed")
        assert live(sandbox, "sftp") == _CARS
        proxy.after = None
        for name in SCHEMES:
            status, second = place.sync(name, "--full")
            assert (status, second["state"], second["listings"]["sold"]) == (0, "done", 5), second
    texts = [answer.stdout + answer.stderr for answer in place.said]
    texts += [path.read_text() for path in tmp_path.glob("w*.log")]
    assert len(texts) > len(place.said)
    for secret in SECRETS.values():
        assert not [text for text in texts if secret in text]
