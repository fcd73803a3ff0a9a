"""Drives the API with requests made from its own OpenAPI description: no 5xx, and no answer outside it.

``OKASIE_CONTRACT_EXAMPLES`` sets the number of requests per operation and kind, for a longer run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks

from tests.sync.http_scenario import HttpScenario, varied
from tests.web.serving import CONFIG, ENVIRON, TOKENS, Site, serving

EXAMPLES = int(os.environ.get("OKASIE_CONTRACT_EXAMPLES", "6"))
CHECKS = [
    schemathesis.checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_schema_conformance,
]  # fmt: skip
ENDLESS = "GET /api/v1/events"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[tuple[HttpScenario, Site]]:
    folder = tmp_path_factory.mktemp("contract")
    with HttpScenario(folder, redis_url, rows=varied(8, seed=5), more=CONFIG, environ=ENVIRON) as scenario:
        assert scenario.run().state == "done"
        with serving(scenario.services) as (site, _):
            yield scenario, site


def drive(world: tuple[HttpScenario, Site], label: str, mode: GenerationMode) -> set[int]:
    """Send generated requests, half of them about an account, a run and a request that exist; return the statuses."""
    scenario, site = world
    description = site("GET", "/api/openapi.json").json()
    schema = schemathesis.openapi.from_dict(description)
    operation: Any = schema.find_operation_by_label(label)
    run = scenario.ctx.runs.history("dex", 1)[0]
    sent = site.post("/accounts/dex/sell", {"references": ["NOBODY"]}).json()["request"]
    known = {"account": "dex", "run": run, "request": sent, "reference": "DG-00001"}
    statuses: set[int] = set()
    session = requests.Session()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy(mode), exists=st.booleans())
    def one(case: Any, exists: bool) -> None:
        if exists:
            case.path_parameters.update({name: value for name, value in known.items() if name in case.path_parameters})
        case.query.pop("wait", None)
        answer = case.call_and_validate(
            base_url=site.origin, session=session, headers={"Authorization": f"Bearer {TOKENS['boss']}"}, checks=CHECKS
        )
        statuses.add(answer.status_code)

    one()
    return statuses


def labels() -> list[str]:
    from tests.web.test_api import ALLOWED

    return [label for label in sorted(ALLOWED) if label != ENDLESS]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize("label", labels())
def test_no_answer_is_outside_the_description(world: tuple[HttpScenario, Site], label: str, mode: Any) -> None:
    if mode == GenerationMode.NEGATIVE and label.endswith("z"):
        pytest.skip("a probe has no input that could be invalid")
    statuses = drive(world, label, mode)
    if mode == GenerationMode.POSITIVE:
        assert statuses, "something was sent"


def test_the_check_finds_an_answer_outside_the_description(
    world: tuple[HttpScenario, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("okasie_tasks.web.api.accounts.account_document", lambda *_: 1 / 0)
    with pytest.raises((Failure, FailureGroup), match=r"(?i)server error"):
        drive(world, "GET /api/v1/accounts/{account}", GenerationMode.POSITIVE)
