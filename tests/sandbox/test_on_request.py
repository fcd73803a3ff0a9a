"""What the sandbox does on request: quirks, scopes, and edits on the marketplace's side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from okasie_tasks.sandbox import Key, Sandbox
from tests.sandbox.test_sandbox import ITEM, Caller, Clock

IMAGES = ["https://x.test/front.jpg", "https://slow.test/side.jpg", "https://x.test/back.jpg"]


class Admin:
    """The administration of the sandbox: ``admin("quirks", respell=True)``."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._url = sandbox.admin_url

    def __call__(self, what: str, **body: Any) -> requests.Response:
        return requests.post(f"{self._url}/{what}", json=body, timeout=60)

    def get(self, what: str) -> Any:
        return requests.get(f"{self._url}/{what}", timeout=60).json()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([Key("full", "full"), Key("own", "own", codes=("GENT",))], limit=0, clock=Clock()) as sandbox:
        yield sandbox


@pytest.fixture
def call(sandbox: Sandbox) -> Caller:
    return Caller(sandbox)


@pytest.fixture
def admin(sandbox: Sandbox) -> Admin:
    return Admin(sandbox)


# -- quirks: what is shown -----------------------------------------------------------------------------------------


def test_text_is_respelled(call: Caller, admin: Admin) -> None:
    features = [{"category": "comfort", "name": "elektrische ramen"}]
    call.put(
        "A", color="donker-blauw", description="Eerste eigenaar.", vin="wvw-1", features=features, engine="1.0 tsi"
    )
    (plain,) = call.list()["data"]
    admin("quirks", respell=True)
    (row,) = call.list()["data"]
    assert (row["color"], row["engine"], row["location"]["province"]) == ("Donker Blauw", "1 0 Tsi", "Oost Vlaanderen")
    assert row["features"] == [{"category": "comfort", "name": "Elektrische Ramen"}]
    untouched = ("title", "description", "vin", "firstRegistration", "status", "price")
    assert {name: row[name] for name in untouched} == {name: plain[name] for name in untouched}
    admin("quirks")
    assert call.list()["data"] == [plain], "off again"


def test_numbers_text_and_order_as_a_marketplace_keeps_them(call: Caller, admin: Admin) -> None:
    features = [{"category": "other", "name": name} for name in ("a", "b")]
    call.put("A", powerKw=85, description="  two   spaces ", features=features)
    admin("quirks", round_power=True, trim_text=True, reorder_features=True)
    (row,) = call.list()["data"]
    assert (row["powerKw"], row["description"]) == (85.3, "two spaces")
    assert [feature["name"] for feature in row["features"]] == ["b", "a"]


def test_pages_are_shuffled_by_a_seed(call: Caller, admin: Admin) -> None:
    for number in range(6):
        call.put(f"R{number}")

    def walk(seed: int) -> list[list[str]]:
        admin("quirks", shuffle_pages=True, walk_seed=seed)
        return [call.references(page=page, pageSize=3) for page in (1, 2)]

    assert walk(1) == walk(1)
    walks = [walk(seed) for seed in range(5)]
    assert len({str(pages) for pages in walks}) > 1
    assert any(len({*pages[0], *pages[1]}) < 6 for pages in walks), "some rows are missed, others met twice"


def test_pages_can_be_smaller_than_requested(call: Caller, admin: Admin) -> None:
    for number in range(5):
        call.put(f"R{number}")
    admin("quirks", page_rows=2)
    assert call.list(page=3, pageSize=200)["pagination"] == {
        "page": 3, "pageSize": 2, "totalItems": 5, "totalPages": 3,
    }  # fmt: skip
    assert call.references(page=3, pageSize=200) == ["R4"]
    assert call.references(pageSize=1) == ["R0"]


def test_locations_can_miscount(call: Caller, admin: Admin) -> None:
    call.put("A")
    admin("quirks", count_error=-1)
    (place,) = call("GET", "/locations").json()["data"]
    assert place["stats"] == {"activeListings": 0, "totalListings": 1}


def test_a_quirk_that_does_not_exist_is_refused(admin: Admin) -> None:
    for body in ({"respel": True}, {"page_rows": 201}):
        assert admin("quirks", **body).status_code == 400


# -- quirks: what is written ---------------------------------------------------------------------------------------


def test_a_word_in_the_title_is_refused(call: Caller, admin: Admin) -> None:
    call.put("OLD", title="Golf TAXI", status="draft")
    admin("quirks", refuse_word="TAXI")
    refused = call.put("A", title="Golf TAXI")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "VALIDATION_FAILED")
    assert [issue["path"] for issue in refused.json()["error"]["issues"]] == ["title"]
    items = [ITEM | {"externalReference": "B"}, ITEM | {"externalReference": "C", "title": "TAXI"}]
    data = call("POST", "/listings/bulk-upsert", json={"items": items}).json()["data"]
    assert (data["successCount"], data["errors"][0]["issues"][0]["path"]) == (1, "title")
    assert call("POST", "/listings/OLD/status", json={"status": "active"}).status_code == 422
    assert call("DELETE", "/listings/OLD").status_code == 200
    admin("quirks")
    assert call.put("A", title="Golf TAXI").status_code == 201


def test_images_are_skipped_by_their_url(call: Caller, admin: Admin) -> None:
    admin("quirks", skip_images_with="slow.test")
    warned = call.put("A", images=IMAGES).json()["data"]
    assert warned["warnings"] == {"skippedImages": [{"source": IMAGES[1], "reason": "mirror_failed"}]}
    (row,) = call.list()["data"]
    assert [image["position"] for image in row["images"]] == [0, 1]
    admin("quirks")
    assert len(call.list()["data"][0]["images"]) == 2, "a skipped image is fetched by the next write, not by itself"
    assert "warnings" not in call.put("A", images=IMAGES).json()["data"]
    assert len(call.list()["data"][0]["images"]) == 3


def test_the_fault_skips_the_first_image(call: Caller, admin: Admin) -> None:
    admin("faults", kind="skip_images", times=1)
    assert call.put("A", images=IMAGES).json()["data"]["warnings"]["skippedImages"][0]["source"] == IMAGES[0]
    assert len(call.list()["data"][0]["images"]) == 2


# -- scopes --------------------------------------------------------------------------------------------------------


def test_a_narrowed_key_sees_and_writes_less(call: Caller, admin: Admin) -> None:
    call.put("G")
    call.put("B", dealerLocationCode="BRUGGE")
    before = call.list(status="all")
    admin("scope", key="full", codes=["gent"])
    now = call.list(status="all")
    assert [row["externalReference"] for row in now["data"]] == ["G"]
    assert now["pagination"]["totalItems"] == 1
    assert len(now["meta"]["partner"]["access"]["profileIds"]) == 1
    places = call("GET", "/locations").json()
    assert [place["locationCode"] for place in places["data"]] == ["GENT"]
    (brugge,) = {row["dealerProfileId"] for row in before["data"]} - {places["data"][0]["id"]}
    assert call("GET", f"/locations/{brugge}/listings").status_code == 404
    assert call.references(status="all", dealerId=brugge) == []
    refused = [
        call.put("NEW", dealerLocationCode="BRUGGE"),
        call.put("B"),  # not even to move it to where the key reaches
        call("PUT", "/listings/NEW", json={**_without_code(), "dealerProfileId": brugge}),
        call("DELETE", "/listings/B"),
        call("POST", "/listings/B/status", json={"status": "pending"}),
    ]
    assert [(a.status_code, a.json()["error"]["code"]) for a in refused] == [(403, "PROFILE_FORBIDDEN")] * 5
    assert call.put("G", price=5).status_code == 200
    admin("scope", key="full", codes=None)
    assert call.references(status="all") == ["G", "B"]
    assert call("DELETE", "/listings/B").status_code == 200


def _without_code() -> dict[str, Any]:
    return {name: value for name, value in ITEM.items() if name != "dealerLocationCode"}


def test_a_widened_scope_is_the_keys_own(sandbox: Sandbox, admin: Admin) -> None:
    own = Caller(sandbox, "own")
    admin("scope", key="own", codes=["BRUGGE"])
    assert own.put("A").status_code == own.put("A", dealerLocationCode="BRUGGE").status_code == 403
    admin("scope", key="own", codes=None)
    assert (own.put("A").status_code, own.put("B", dealerLocationCode="BRUGGE").status_code) == (201, 403)


def test_a_scope_that_is_invalid_is_refused(admin: Admin) -> None:
    for body in ({"key": "full"}, {"key": "full", "codes": "GENT"}, {"key": "full", "codes": [7]}):
        assert admin("scope", **body).status_code == 400
    assert admin("scope", key="nobody", codes=[]).status_code == 404


# -- edits and the log ---------------------------------------------------------------------------------------------


def test_rows_that_were_not_sent_through_the_api(call: Caller, admin: Admin) -> None:
    made = {"create": {"title": "Polo", "price": 5}}
    edits = [
        made | {"reference": "THEIRS"},
        made | {"reference": "OURS", "provider": "own", "location": "GENT"},
        made | {"reference": "PARTNER", "provider": "autoscout"},
    ]
    assert admin("listings", key="full", edits=edits).json() == {"edited": 3}
    page = call.list(status="all")
    assert [
        (row["externalReference"], row["externalProvider"], row["dealer"]["locationCode"]) for row in page["data"]
    ] == [
        ("THEIRS", "somebody-else", "FOREIGN"),
        ("OURS", page["meta"]["partner"]["source"], "GENT"),
        ("PARTNER", "autoscout", "FOREIGN"),
    ]
    assert call("DELETE", "/listings/THEIRS").status_code == 404
    assert call.put("THEIRS").json()["data"]["created"] is True, "references are scoped per partner"
    (theirs, ours) = (row for row in call.list(status="all")["data"] if row["externalReference"] == "THEIRS")
    assert (theirs["title"], ours["title"], ours["externalProvider"]) == ("Polo", "Golf", "sandbox-full")
    assert admin("listings", key="full", edits=[{"reference": "PARTNER", "status": "sold"}]).json() == {"edited": 1}
    assert call.references(status="sold") == ["PARTNER"]
    assert call.put("OURS").json()["data"]["created"] is False
    assert len(call.references(status="all")) == 4
    assert admin("listings", key="full", edits=[edits[1]]).status_code == 400, "it is there already"


def test_every_listing_written_is_logged(call: Caller, admin: Admin) -> None:
    call.put("A")
    call("POST", "/listings/bulk-upsert", json=[ITEM | {"externalReference": name} for name in ("A", "B")])
    call.put("A", price=-1)
    call("POST", "/listings/A/status", json={"status": "pending"})
    call("DELETE", "/listings/B")
    call("DELETE", "/listings/nobody")
    assert [(w["kind"], w["reference"], w["outcome"]) for w in admin.get("writes?key=full")] == [
        ("put", "A", "created"), ("bulk", "A", "updated"), ("bulk", "B", "created"), ("put", "A", "refused"),
        ("status", "A", "pending"), ("delete", "B", "sold"), ("delete", "nobody", "refused"),
    ]  # fmt: skip
    assert admin.get("writes?key=own") == []


# -- answers on request --------------------------------------------------------------------------------------------


def test_an_answer_is_given_instead_of_the_work_or_after_it(call: Caller, admin: Admin) -> None:
    page = {"status": 403, "content_type": "text/html", "body": "<h1>Blocked</h1>", "times": 1}
    admin("faults", kind="answer", **page)
    refused = call.put("A")
    assert (refused.status_code, refused.headers["Content-Type"], refused.text) == (403, "text/html", page["body"])
    admin("faults", kind="answer_after", status=204, times=1)
    empty = call.put("B")
    assert (empty.status_code, empty.content) == (204, b"")
    assert [row["externalReference"] for row in call.list()["data"]] == ["B"]


def test_a_fault_may_be_of_one_listing_only(call: Caller, admin: Admin) -> None:
    admin("faults", kind="500", match={"reference": "A/1"})
    assert call.put("B").status_code == 201
    assert call.put("A%2F1").status_code == 500
    assert (
        call(
            "POST",
            "/listings/bulk-upsert",
            json=[ITEM | {"externalReference": "A/1"}, ITEM | {"externalReference": "C"}],
        ).status_code
        == 500
    )
    assert call("POST", "/listings/bulk-upsert", json=[ITEM | {"externalReference": "C"}]).status_code == 200


def test_the_writes_of_one_listing_are_refused(call: Caller, admin: Admin) -> None:
    admin("quirks", item_errors={"A": {"status": 500, "code": "IMAGES_FAILED"}})
    data = call(
        "POST", "/listings/bulk-upsert", json=[ITEM | {"externalReference": "A"}, ITEM | {"externalReference": "B"}]
    ).json()["data"]
    assert [(error["externalReference"], error["status"], error["code"]) for error in data["errors"]] == [
        ("A", 500, "IMAGES_FAILED")
    ]
    assert [result["externalReference"] for result in data["results"]] == ["B"]


def test_an_answer_is_edited(call: Caller, admin: Admin) -> None:
    for reference in ("A", "B"):
        call.put(reference, year=2019)
    edits = [
        {"path": "data.*.location.city", "do": "remove"},
        {"path": "data.*.price", "do": "text"},
        {"path": "data.*.status", "do": "set", "value": "reserved", "references": ["A"]},
        {"path": "data.0", "do": "repeat"},
        {"path": "pagination.totalPages", "do": "set", "value": 3000},
    ]
    assert admin("faults", kind="edit", match={"path": "list"}, edits=edits, headers={"Date": ""}).ok
    answer = call("GET", "/listings", params={"status": "all"})
    document = answer.json()
    assert [row["externalReference"] for row in document["data"]] == ["A", "A", "B"]
    assert [row["status"] for row in document["data"]] == ["reserved", "reserved", "active"]
    assert {type(row["price"]) for row in document["data"]} == {str}
    assert not any("city" in row["location"] for row in document["data"])
    assert document["pagination"]["totalPages"] == 3000
    assert "Date" not in answer.headers
    assert admin("faults", kind="edit", edits=[{"path": "data", "do": "explode"}]).status_code == 400
