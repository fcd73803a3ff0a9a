"""Every documented error code, by the way that docs/sandbox.md names; both reports of images; order of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.codes import STATUS_OF, ImageError
from tests.sandbox.test_on_request import Admin
from tests.sandbox.test_sandbox import ITEM, Caller

HEADERS = ("X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
NOBODY = "5b1c2d3e-0000-4000-8000-00000000d001"
NO_TITLE = {name: value for name, value in ITEM.items() if name != "title"}
NO_PRICE = {name: value for name, value in ITEM.items() if name != "price"}
NO_PLACE = {name: value for name, value in ITEM.items() if name != "city"}
NO_DEALER = {name: value for name, value in ITEM.items() if name != "dealerLocationCode"}
ELSEWHERE = ITEM | {"dealerLocationCode": "BRUGGE"}


def put(body: object, pages: str = "examples", key: str = "own") -> tuple[Any, ...]:
    return key, {"error_codes": pages}, [], "PUT", "/listings/A", {"json": body}


def bulk(body: bytes) -> tuple[Any, ...]:
    return "own", {}, [], "POST", "/listings/bulk-upsert", {"data": body}


def get(path: str, pages: str = "examples", key: str = "own") -> tuple[Any, ...]:
    return key, {"error_codes": pages}, [], "GET", path, {}


def sell(reference: str, pages: str = "examples") -> tuple[Any, ...]:
    return "own", {"error_codes": pages}, [], "DELETE", f"/listings/{reference}", {}


def fault(code: str) -> tuple[Any, ...]:
    return "own", {}, [{"kind": "error", "code": code}], "GET", "/locations", {}


WAYS: dict[str, list[tuple[Any, ...]]] = {
    "INVALID_JSON": [bulk(b"{")],
    "INVALID_BODY": [put([]), bulk(b'{"items": 7}')],
    "INVALID_REFERENCE": [sell("A%09B")],
    "INVALID_TITLE": [put(NO_TITLE, "tables"), put(ITEM | {"title": ""}, "tables")],
    "INVALID_PRICE": [put(NO_PRICE, "tables"), put(ITEM | {"price": -1}, "tables")],
    "INVALID_LOCATION": [put(NO_PLACE, "tables")],
    "INVALID_PROFILE": [put(NO_DEALER, "tables"), put(ITEM | {"dealerProfileId": "x"})],
    "EMPTY_PAYLOAD": [bulk(b"[]")],
    "TOO_MANY_ITEMS": [bulk(b"[" + b"{}," * 100 + b"{}]")],
    "MISSING_DEALER": [put(NO_DEALER, "dutch")],
    "INVALID_LOCATION_CODE": [put(ELSEWHERE, "dutch")],
    "UNAUTHORIZED": [get("/listings", key="unknown")],
    "PROFILE_FORBIDDEN": [put(ELSEWHERE), put(ITEM | {"dealerProfileId": NOBODY})],
    "FORBIDDEN": [put(ITEM | {"dealerProfileId": NOBODY}, "dutch")],
    "SCOPE_DENIED": [put(ITEM, key="reader"), get("/locations", key="reader")],
    "NOT_FOUND": [sell("B"), get(f"/locations/{NOBODY}/listings"), get("/nothing")],
    "LISTING_NOT_FOUND": [sell("B", "dutch")],
    "LOCATION_NOT_FOUND": [get(f"/locations/{NOBODY}/listings", "dutch")],
    "VALIDATION_FAILED": [put(NO_TITLE), put(NO_PRICE), put(NO_PLACE), put(NO_DEALER), get("/listings?pageSize=201")],
    "RATE_LIMITED": [fault("RATE_LIMITED")],
    **{code: [fault(code)] for code, status in STATUS_OF.items() if status >= 500},
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    keys = [Key("own", "own", codes=("GENT",)), Key("reader", "reader", scopes=("read:listings",))]
    with Sandbox(keys, limit=0) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: Sandbox) -> Sandbox:
    admin = Admin(shared)
    admin("quirks")
    admin("reset")
    return shared


@pytest.fixture
def call(sandbox: Sandbox) -> Caller:
    return Caller(sandbox, "own")


@pytest.fixture
def admin(sandbox: Sandbox) -> Admin:
    return Admin(sandbox)


@pytest.mark.parametrize("code", STATUS_OF)
def test_every_documented_code_is_answered(sandbox: Sandbox, admin: Admin, code: str) -> None:
    for key, quirks, faults, method, path, body in WAYS[code]:
        admin("quirks", **quirks)
        for rule in faults:
            admin("faults", **rule, times=1)
        answer = Caller(sandbox, key)(method, path, **body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (STATUS_OF[code], code)
        assert ("issues" in answer.json()["error"]) == (code == "VALIDATION_FAILED")
        assert all(name in answer.headers for name in HEADERS)
        assert ("Retry-After" in answer.headers) == (code == "RATE_LIMITED")


def test_the_documentation_names_every_code() -> None:
    text = Path("docs/sandbox.md").read_text()
    assert {*STATUS_OF, *get_args(ImageError)} - {""} <= {*re.findall(r"`([A-Z_]+)`", text)}


def test_a_bulk_item_gets_the_code_of_the_tables_too(call: Caller, admin: Admin) -> None:
    admin("quirks", error_codes="tables")
    items = [NO_TITLE | {"externalReference": "A"}, ITEM | {"externalReference": "B", "mileage": -1}]
    errors = call("POST", "/listings/bulk-upsert", json=items).json()["data"]["errors"]
    assert [(error["status"], error["code"]) for error in errors] == [
        (400, "INVALID_TITLE"),
        (422, "VALIDATION_FAILED"),
    ]


def test_an_error_rule_needs_a_documented_code(admin: Admin) -> None:
    assert admin("faults", kind="error", code="NO_SUCH").status_code == 400
    assert admin("faults", kind="error").status_code == 400


# -- images --------------------------------------------------------------------------------------------------------


def image(number: int) -> str:
    return f"https://x.test/{number}.jpg"


def stored(admin: Admin) -> list[str]:
    state: list[str] = admin.get("listings?key=own")["images"]
    return state


def test_the_position_orders_the_pictures(call: Caller, admin: Admin) -> None:
    call.put(
        "A",
        images=[
            {"url": image(2), "position": 2},
            {"imageUrl": image(0), "position": 0},
            {"url": image(1), "position": 1},
        ],
    )
    assert stored(admin) == [image(0), image(1), image(2)]
    call.put("A", images=[image(0), {"url": image(9), "position": 9}, image(2), {"url": image(3)}])
    assert stored(admin) == [image(0), image(2), image(3), image(9)]
    call.put("A", images=[{"url": image(number), "position": 1} for number in (5, 3, 4)])
    assert stored(admin) == [image(5), image(3), image(4)], "a clash keeps the order of the array"
    refused = call.put("A", images=[{"url": image(0), "position": "first"}])
    assert [issue["path"] for issue in refused.json()["error"]["issues"]] == ["images.0.position"]


def test_failed_images_in_the_second_documented_shape(call: Caller, admin: Admin) -> None:
    for error in ("IMAGE_FETCH_FAILED", "IMAGE_TOO_LARGE", "IMAGE_INVALID_FORMAT", "IMAGE_TOO_SMALL"):
        admin("quirks", skip_images_with="1.jpg", image_error=error)
        data = call.put("A", images=[image(0), image(1)]).json()["data"]
        report = {name: data[name] for name in ("imagesProcessed", "imagesFailed", "failedImages")}
        assert report == {"imagesProcessed": 1, "imagesFailed": 1, "failedImages": [{"url": image(1), "error": error}]}
        assert "warnings" not in data


def test_pictures_over_fifty_are_skipped(call: Caller, admin: Admin) -> None:
    warned = call.put("A", images=[image(number) for number in range(52)]).json()["data"]["warnings"]
    assert [skipped["source"] for skipped in warned["skippedImages"]] == [image(50), image(51)]
    assert len(stored(admin)) == 50


# -- locations and references --------------------------------------------------------------------------------------


def test_locations_with_and_without_counts_and_branches() -> None:
    with Sandbox([Key("own", "own", codes=("HEAD", "BRANCH"))], limit=0) as sandbox:
        call = Caller(sandbox, "own")
        call.put("H", dealerLocationCode="HEAD")
        call.put("B", dealerLocationCode="BRANCH")
        head, branch = call("GET", "/locations").json()["data"]
        assert (head["isRoot"], branch["parentId"], branch["parent"]["locationCode"]) == (True, head["id"], "HEAD")
        assert branch["stats"] == {"activeListings": 1, "totalListings": 1}
        assert "stats" not in call("GET", "/locations?withCounts=false").json()["data"][0]
        for query, expected in (
            ("", ["H"]), ("includeChildren=true", ["H", "B"]), ("includeChildren=true&locationCode=branch", ["B"]),
        ):  # fmt: skip
            rows = call("GET", f"/locations/{head['id']}/listings?{query}").json()["data"]
            assert [row["externalReference"] for row in rows] == expected
        assert [place["id"] for place in call("GET", "/locations?includeChildren=false").json()["data"]] == [head["id"]]
        assert call("GET", "/locations?withCounts=yes").status_code == 422
        for names, value, expected in (
            (("dealerId", "locationId", "profileId", "userId"), branch["id"], ["B"]),
            (("parentDealerId", "parentId", "companyId"), head["id"], ["H", "B"]),
            (("locationCode", "location_code"), "branch", ["B"]),
            (("updatedSince", "updated_since"), "2999-01-01T00:00:00Z", []),
            (("pageSize", "page_size", "limit"), 1, ["H"]),
            (("page", "page_number"), 2, []),
        ):
            for name in names:
                assert call.references(**{name: value}) == expected, name


def test_an_encoded_reference_is_the_same_listing(call: Caller) -> None:
    call.put("A-1")
    assert call("PUT", "/listings/A%2D1", json=ITEM).status_code == 200
    assert call("POST", "/listings/A%2D1/status", json={"status": "pending"}).status_code == 200
    assert call("DELETE", "/listings/%41-1").status_code == 200
    # The HTTP client decodes the ones above itself; it sends this one as it is.
    call("PUT", "/listings/B%2B1", json=ITEM).raise_for_status()
    assert call.references() == ["B+1"]
    item = ITEM | {"externalReference": "A%2D1"}
    (result,) = call("POST", "/listings/bulk-upsert", json=[item]).json()["data"]["results"]
    assert (result["externalReference"], result["created"]) == ("A%2D1", True), "encoded in paths only"


def test_numbers_beyond_reason_are_refused(call: Caller) -> None:
    for name, value in (("price", 1e300), ("mileage", 10**30), ("latitude", -(10**40))):
        assert call.put("A", **{name: value}).json()["error"]["issues"][0]["path"] == name
    assert call("GET", "/listings?page=99999999999999999999").status_code == 422
