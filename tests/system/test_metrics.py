"""The metrics of a fleet: counted by workers in several processes, told alike by two endpoints that hold nothing."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest
import requests

from tests.exposition import Exposition, parse
from tests.support import OKASIE
from tests.system.conftest import CARS, Fleet, secret

pytestmark = pytest.mark.system


@contextlib.contextmanager
def endpoint(fleet: Fleet) -> Iterator[str]:
    """``okasie metrics`` on a free port, from its ready line to its end; its URL."""
    process = subprocess.Popen(
        [*OKASIE, "metrics", "--port", "0", "--json"], cwd=fleet.place.folder, env=fleet.place.env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()
        _, said = process.communicate(timeout=300)
        assert (process.returncode, said) == (0, "")
    finally:
        process.kill()
        process.communicate()


def fetch(url: str) -> tuple[str, Exposition]:
    answer = requests.get(url, timeout=300)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return answer.text, parse(answer.text)


def test_one_endpoint_tells_of_all_workers_and_two_tell_the_same(fleet: Fleet) -> None:
    with endpoint(fleet) as first, endpoint(fleet) as second:
        assert first.startswith("http://127.0.0.1:"), "loopback, when nothing else is said"
        _, before = fetch(first)
        assert [n for n in before.samples if n.startswith("okasie_requests_total") and '"measured"' in n] == []
        assert fleet.place.sync("measured", "--full")[0] == 0
        assert fleet.place.okasie("push", "measured", "DG-00001").status == 0
        text, after = fetch(first)
        _, other = fetch(second)
    mine = {name: value for name, value in after.samples.items() if 'account="measured"' in name}
    assert mine == {name: value for name, value in other.samples.items() if 'account="measured"' in name}
    # The run's requests come from the api worker, the push from the urgent one, the run's end from control.
    assert mine['okasie_requests_total{account="measured",lane="bulk",method="GET",status="200"}'] == 1
    assert mine['okasie_requests_total{account="measured",lane="bulk",method="POST",status="200"}'] == 1
    assert mine['okasie_requests_total{account="measured",lane="urgent",method="PUT",status="200"}'] == 1
    assert mine['okasie_permit_wait_seconds_count{account="measured",lane="bulk"}'] == 2
    assert mine['okasie_permit_wait_seconds_count{account="measured",lane="urgent"}'] == 1
    assert mine['okasie_run_listings{account="measured",mode="full",outcome="created"}'] == CARS
    assert mine['okasie_runs_total{account="measured",mode="full",state="done"}'] == 1
    assert mine['okasie_quota_used_ratio{account="measured"}'] == 3 / 120
    assert after['okasie_queue_messages{queue="okasie.urgent"}'] == 0
    assert "SECRET-" not in text
    assert secret("measured") not in text


def test_the_command_says_what_is_wrong_with_a_port_that_is_taken(fleet: Fleet) -> None:
    with endpoint(fleet) as url:
        port = url.rsplit(":", 1)[1].split("/")[0]
        answer = fleet.place.okasie("metrics", "--port", port)
    assert (answer.status, answer.stdout) == (2, "")
    assert f"cannot listen on 127.0.0.1:{port}" in answer.stderr
