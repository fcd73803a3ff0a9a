"""Drives the sandbox with requests made from its OpenAPI description: no answer is outside it.

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

from okasie_tasks.sandbox import Key, Sandbox
from tests.sandbox.test_on_request import Admin
from tests.sandbox.test_sandbox import Caller

EXAMPLES = int(os.environ.get("OKASIE_CONTRACT_EXAMPLES", "6"))
OPERATIONS = (
    "GET /listings", "POST /listings/bulk-upsert", "PUT /listings/{externalReference}",
    "DELETE /listings/{externalReference}", "POST /listings/{externalReference}/status", "GET /locations",
    "GET /locations/{id}/listings",
)  # fmt: skip
KNOWN = ("A-1", "A-2", "A-3")
CHECKS = [
    schemathesis.checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_headers_conformance, checks.response_schema_conformance,
]  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    keys = [Key("own", "own", codes=("GENT", "BRUGGE")), Key("reader", "reader", scopes=())]
    with Sandbox(keys, limit=0) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: Sandbox) -> Sandbox:
    Admin(shared)("reset")
    Admin(shared)("quirks")
    for reference in KNOWN:
        Caller(shared, "own").put(reference, images=["https://x.test/1.jpg"], features=[{"name": "Airco"}])
    return shared


@pytest.fixture
def schema(sandbox: Sandbox) -> Any:
    return schemathesis.openapi.from_url(f"{sandbox.admin_url}/openapi.json")


def drive(sandbox: Sandbox, schema: Any, label: str, mode: GenerationMode, examples: int) -> dict[int, int]:
    """Send generated requests, half of them about a listing or a location that exists; the count of each status."""
    operation = schema.find_operation_by_label(label)
    locations = [location["id"] for location in Caller(sandbox, "own")("GET", "/locations").json()["data"]]
    profiles = st.sampled_from(locations)
    statuses: dict[int, int] = {}
    session = requests.Session()

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy(mode), known=st.booleans(), reference=st.sampled_from(KNOWN), dealer=profiles)
    def one(case: Any, known: bool, reference: str, dealer: str) -> None:
        if known:
            for name, value in (("externalReference", reference), ("id", dealer)):
                if name in case.path_parameters:
                    case.path_parameters[name] = value
            bodies = case.body if isinstance(case.body, list) else [case.body]
            for body in bodies:
                if isinstance(body, dict) and "dealerProfileId" in body:
                    body["dealerProfileId"] = dealer
                if isinstance(body, dict) and "dealerLocationCode" in body:
                    body["dealerLocationCode"] = "GENT"
        answer = case.call_and_validate(
            base_url=sandbox.base_url, session=session, headers={"Authorization": "Bearer own"}, checks=CHECKS
        )
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

    one()
    return statuses


@pytest.mark.parametrize("label", OPERATIONS)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
def test_no_answer_is_outside_the_description(sandbox: Sandbox, schema: Any, label: str, mode: Any) -> None:
    statuses = drive(sandbox, schema, label, mode, EXAMPLES)
    if mode == GenerationMode.POSITIVE:
        assert any(status < 300 for status in statuses), statuses


def test_the_check_finds_an_answer_outside_the_description(sandbox: Sandbox, schema: Any) -> None:
    edits = [{"path": "pagination.totalItems", "do": "text"}]
    Admin(sandbox)("faults", kind="edit", match={"path": "list"}, edits=edits)
    with pytest.raises((Failure, FailureGroup), match='is not of type "integer"'):
        drive(sandbox, schema, "GET /listings", GenerationMode.POSITIVE, EXAMPLES)
