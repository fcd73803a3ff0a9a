"""``okasie sandbox --relay``: a sandbox that runs elsewhere, served on this loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from okasie_tasks.sandbox import Key, Sandbox


@contextmanager
def relay(target: str) -> Iterator[str]:
    argv = [sys.executable, "-m", "okasie_tasks", "sandbox", "--port", "0", "--relay", target, "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["base_url"]
        finally:
            process.terminate()
        assert process.wait(60) == 0


def test_requests_and_answers_pass_it() -> None:
    headers = {"Authorization": "Bearer secret"}
    with Sandbox([Key("secret")]) as sandbox, relay(f"127.0.0.1:{sandbox.port}") as base_url:
        with requests.Session() as session:
            for number in range(2):
                body = {"title": "A3", "dealerLocationCode": "GENT", "description": "x" * 15_000}
                put = session.put(f"{base_url}/listings/CAR-{number}", json=body, headers=headers, timeout=60)
                assert put.status_code in (200, 201), put.text
        direct = requests.get(f"{sandbox.base_url}/listings?status=all", headers=headers, timeout=60).json()
        assert requests.get(f"{base_url}/listings?status=all", headers=headers, timeout=60).json() == direct
        assert "CAR-0" in str(direct)
        assert "CAR-1" in str(direct)


def test_a_sandbox_that_is_not_there_yet_ends_the_connection_and_not_the_relay() -> None:
    with relay("127.0.0.1:1") as base_url:
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                requests.get(f"{base_url}/listings", timeout=60)


@pytest.mark.parametrize("target", ["api", "api:http", ":8100"])
def test_an_address_that_is_none_is_refused(target: str) -> None:
    argv = [sys.executable, "-m", "okasie_tasks", "sandbox", "--port", "0", "--relay", target]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "expected HOST:PORT" in done.stderr
