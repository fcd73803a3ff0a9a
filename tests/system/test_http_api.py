"""Pushes over HTTP, from curl and from PHP, through the server of `okasie up` and real workers to the marketplace."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from tests.support import stored
from tests.system.conftest import Fleet
from tests.system.test_integrations import EXAMPLES, price_there
from tests.system.test_push import CAR

pytestmark = pytest.mark.system
ACCOUNT = "over_http"


class Web(NamedTuple):
    url: str
    token: str

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}/api/v1{path}", headers={"Authorization": f"Bearer {self.token}"}, timeout=120)

    def run(self, *argv: str, folder: Path) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "OKASIE_URL": self.url, "OKASIE_WEB_TOKEN": self.token}
        return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def web(fleet: Fleet) -> Web:
    found = re.search(r"console at (http://[\d.:]+)/\?token=(\S+)", fleet.up.said())
    assert found
    return Web(*found.groups())


def cars(folder: Path, price: object) -> str:
    (folder / "cars.json").write_text(
        json.dumps([CAR | {"externalReference": "HTTP-1", "title": "Citroën", "price": price}])
    )
    return "cars.json"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine: examples/push.sh was not run")
def test_a_price_pushed_with_curl_arrives_and_its_outcome_is_printed(fleet: Fleet, web: Web, tmp_path: Path) -> None:
    script = str(EXAMPLES / "push.sh")
    done = web.run(script, "push", ACCOUNT, cars(tmp_path, 9_400), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    state = json.loads(done.stdout)
    assert (state["state"], state["by"], state["outcomes"]["HTTP-1"]["outcome"]) == ("done", "token:local", "created")
    assert price_there(fleet, ACCOUNT, "HTTP-1") == 9_400
    assert "token:local" in fleet.place.okasie("why", ACCOUNT, "HTTP-1", "--json").stdout, "who did it"
    sold = web.run(script, "sell", ACCOUNT, "HTTP-1", folder=tmp_path)
    assert json.loads(sold.stdout)["outcomes"]["HTTP-1"]["outcome"] == "sold"
    assert stored(fleet.sandbox, ACCOUNT)["HTTP-1"]["status"] == "sold"
    wrong = web._replace(token="wrong").run(script, "sell", ACCOUNT, "HTTP-1", folder=tmp_path)
    assert wrong.returncode != 0
    assert "401" in wrong.stderr


@pytest.mark.skipif(shutil.which("php") is None, reason="no php on this machine: examples/push.php was not run")
def test_a_price_pushed_from_php_arrives_and_a_bad_one_is_explained(fleet: Fleet, web: Web, tmp_path: Path) -> None:
    script = ["php", str(EXAMPLES / "push.php")]
    done = web.run(*script, "push", ACCOUNT, cars(tmp_path, 9_350), folder=tmp_path)
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "HTTP-1"), done.stderr
    assert price_there(fleet, ACCOUNT, "HTTP-1") == 9_350
    bad = web.run(*script, "push", ACCOUNT, cars(tmp_path, "cheap"), folder=tmp_path)
    assert bad.returncode == 1
    assert re.match(r"HTTP-1: rejected \(.*price", bad.stdout)
    away = web._replace(url="http://127.0.0.1:1").run(*script, "sell", ACCOUNT, "HTTP-1", folder=tmp_path)
    assert (away.returncode, "cannot be reached" in away.stderr) == (1, True)
    assert web.run(*script, "push", folder=tmp_path).returncode == 2


def test_a_run_that_was_requested_over_http_ends_and_is_found(fleet: Fleet, web: Web) -> None:
    headers = {"Authorization": f"Bearer {web.token}"}
    sent = requests.post(
        f"{web.url}/api/v1/accounts/{ACCOUNT}/sync", json={"mode": "full"}, headers=headers, timeout=60
    )
    assert sent.status_code == 202
    state = web.get(f"/requests/{sent.json()['request']}?wait=60").json()
    assert state["state"] == "done"
    assert web.get(f"/runs/{state['run']}").json()["requested_by"] == "token:local"
