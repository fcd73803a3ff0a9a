"""Random rules for the sandbox's answers, each with what the oracle must know about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Any, Final, NamedTuple

Rule = dict[str, Any]

_FIELDS: Final = (
    "seats", "doors", "price", "mileage", "color", "brand", "model", "variant", "description", "fuelType", "title",
    "powerKw", "year", "location", "location.city", "features", "images", "dealer", "dealerProfileId", "vehicleType",
)  # fmt: skip
_IDENTITY: Final = ("id", "externalReference", "externalProvider", "status", "updatedAt", "createdAt", "soldAt")
_PLAUSIBLE: Final = ("price", "mileage", "doors", "powerKw", "year")
_ODD: Final = (None, "", [], {}, "x", -1, 1e300, True, [None], {"a": {"b": []}})
_STATUSES: Final = ("reserved", "published", "archived", "deleted", "sold", "SOLD", "Active", "", None, 7, ["active"])
_TIMES: Final = (
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1-1-1", "", None, 0, 1e18, "2026-13-45T99:99:99Z",
    "9999-12-31T23:59:59-14:00",
)  # fmt: skip
_DATES: Final = (
    "",
    "Thu, 99 Foo 99999 99:99:99 GMT",
    "Mon, 01 Jan 0001 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "x",
)
_PAGES: Final = (
    {"totalPages": 3000}, {"totalPages": 0}, {"totalItems": 0}, {"totalItems": 0, "totalPages": 0}, {"totalItems": 1},
    {"totalPages": 1}, {"totalItems": "60"}, {"totalItems": 10**12, "totalPages": 10**10}, {"totalPages": -1},
    {"totalItems": None}, {"page": 7}, {"pageSize": 1}, {"totalPages": [1]},
)  # fmt: skip
_HTML: Final = "<!doctype html><html><body><h1>Request blocked</h1></body></html>"
_CODES: Final = (
    200, 201, 202, 204, 206, 300, 301, 302, 304, 307, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413,
    415, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 507, 511, 520, 524, 530, 599,
)  # fmt: skip
_WORDS: Final = (
    "FORBIDDEN", "PROFILE_FORBIDDEN", "NOT_FOUND", "VALIDATION_FAILED", "UPSERT_FAILED", "IMAGES_FAILED",
    "FEATURES_FAILED", "CONFLICT", "LOCKED", "", "RATE_LIMITED", None, 5,
)  # fmt: skip
WRITES: Final = ("bulk", "put", "delete", "status")
_TRANSPORT: Final = (
    "500", "503_html", "html", "drop_before", "drop_after", "truncated", "garbage", "data_not_list", "429", "redirect",
    "unknown_items", "skip_images",
)  # fmt: skip


class Mangling(NamedTuple):
    """``counts``: numbers of rows or pages lie; ``refuses``: requests may have to be sent again; ``codes``: those with
    which a write may be refused for good, as the contract allows; ``values``: compared values lie; ``items``: refusals of single
    listings, as the quirk ``item_errors`` takes them; ``lies``: a write is confirmed that was not done;
    ``harmless``: nothing may be sent because of it."""

    name: str
    rules: tuple[Rule, ...]
    counts: bool = False
    refuses: bool = False
    codes: frozenset[str] = frozenset()
    values: bool = False
    lies: bool = False
    harmless: bool = False
    items: Mapping[str, dict[str, Any]] = MappingProxyType({})


def content_only(rng: Random, references: Sequence[str]) -> list[Mangling]:
    """What may cost no request at all."""
    return [rng.choice((_field_gone, _retyped, _done_without_body))(rng, references)]


def harmless(rng: Random, references: Sequence[str]) -> list[Mangling]:
    """What may make no listing be sent."""
    return [rng.choice((_pages, _spelling))(rng, references)]


def mass_loss(rng: Random) -> list[Mangling]:
    """A field is null in every row of the list."""
    field = rng.choice(("price", "mileage", "color", "doors"))
    rule = _edit("list", [{"path": f"data.*.{field}", "do": "set", "value": None}], rng)
    return [Mangling(f"list with null {field} everywhere", (rule,), values=True)]


def _total(rng: Random, items: int, pages: int) -> Mangling:
    edits = [
        {"path": "pagination.totalItems", "do": "set", "value": items},
        {"path": "pagination.totalPages", "do": "set", "value": pages},
    ]
    rule = _edit("list", edits, rng)
    return Mangling(f"list with {items} items on {pages} pages", (rule,), counts=True, refuses=True, harmless=True)


def _unknown_status(rng: Random, references: Sequence[str]) -> Mangling:
    rule = _edit("list", [{"path": "data.*.status", "do": "set", "value": "reserved"}], rng)
    return Mangling("list with status reserved", (rule,), harmless=True)


def manglings(rng: Random, references: Sequence[str], *, writes_back: bool) -> list[Mangling]:
    """One to three. ``writes_back``: what the marketplace says is written to the source, so no value may lie plausibly."""
    kinds: list[Callable[[Random, Sequence[str]], Mangling]] = [
        _field_gone, _field_gone, _retyped, _identity, _rows, _pages, _headers, _answered, _answered, _answered,
        _after, _items, _transport, _transport, _spelling, _meta, _empty, _status_only,
    ]  # fmt: skip
    if not writes_back:
        kinds += [_nulled, _odd]
    return [rng.choice(kinds)(rng, references) for _ in range(rng.choice((1, 1, 2, 3)))]


def _edit(path: str, edits: list[dict[str, Any]], rng: Random, **more: Any) -> Rule:
    return {"kind": "edit", "match": {"path": path}, "edits": edits, "seed": rng.randrange(10**6), **more}


def _share(rng: Random, references: Sequence[str]) -> dict[str, Any]:
    """All rows, a share of them, or a few."""
    choice = rng.randrange(3)
    if choice == 0:
        return {}
    return {"share": rng.choice((0.1, 0.5, 0.9))} if choice == 1 else {"references": rng.sample(list(references), 2)}


def _field_gone(rng: Random, references: Sequence[str]) -> Mangling:
    field, share = rng.choice(_FIELDS), _share(rng, references)
    rule = _edit("list", [{"path": f"data.*.{field}", "do": "remove", **share}], rng)
    return Mangling(f"list without {field} {share}", (rule,), harmless=True)


def _nulled(rng: Random, references: Sequence[str]) -> Mangling:
    field, share = rng.choice(_FIELDS), _share(rng, references)
    rule = _edit("list", [{"path": f"data.*.{field}", "do": "set", "value": None, **share}], rng)
    return Mangling(f"list with null {field} {share}", (rule,), values=True)


def _retyped(rng: Random, references: Sequence[str]) -> Mangling:
    field, share = rng.choice((*_PLAUSIBLE, "status", "updatedAt", "location", "features")), _share(rng, references)
    rule = _edit("list", [{"path": f"data.*.{field}", "do": "text", **share}], rng)
    return Mangling(f"list with {field} as text {share}", (rule,), harmless=True)


def _odd(rng: Random, references: Sequence[str]) -> Mangling:
    field, value, share = rng.choice(_FIELDS), rng.choice(_ODD), _share(rng, references)
    rule = _edit("list", [{"path": f"data.*.{field}", "do": "set", "value": value, **share}], rng)
    return Mangling(f"list with {field} {value!r} {share}", (rule,), values=True)


def _identity(rng: Random, references: Sequence[str]) -> Mangling:
    field, share = rng.choice(_IDENTITY), _share(rng, references)
    if rng.random() < 0.3:
        rule = _edit("list", [{"path": f"data.*.{field}", "do": "remove", **share}], rng)
        return Mangling(f"list without {field} {share}", (rule,), counts=True)
    value = rng.choice(_STATUSES if field == "status" else _TIMES if field.endswith("At") else _ODD)
    rule = _edit("list", [{"path": f"data.*.{field}", "do": "set", "value": value, **share}], rng)
    return Mangling(f"list with {field} {value!r} {share}", (rule,), counts=True)


def _rows(rng: Random, references: Sequence[str]) -> Mangling:
    do, share = rng.choice(("remove", "repeat")), _share(rng, references)
    if "references" in share:
        share = {"share": 0.05}
    what = rng.choice(("data.*", "data.*", "data"))
    rule = _edit("list", [{"path": what, "do": do, **(share if what == "data.*" else {})}], rng)
    return Mangling(f"list {do} {what} {share}", (rule,), counts=True, refuses=what == "data")


def _pages(rng: Random, _: Sequence[str]) -> Mangling:
    if rng.random() < 0.2:
        rule = _edit("list", [{"path": "pagination", "do": "remove"}], rng)
        return Mangling("list without pagination", (rule,), counts=True, refuses=True, harmless=True)
    told = rng.choice(_PAGES)
    edits = [{"path": f"pagination.{name}", "do": "set", "value": value} for name, value in told.items()]
    return Mangling(f"list with {told}", (_edit("list", edits, rng),), counts=True, refuses=True, harmless=True)


def _meta(rng: Random, _: Sequence[str]) -> Mangling:
    path = rng.choice(
        ("meta", "meta.partner", "meta.partner.source", "meta.partner.access.profileIds", "meta.partner.access")
    )
    do = rng.choice(("remove", "set"))
    rule = _edit("list", [{"path": path, "do": do, "value": rng.choice(_ODD)}], rng)
    return Mangling(f"list, {path} {do}", (rule,), counts=True)


def _headers(rng: Random, _: Sequence[str]) -> Mangling:
    headers = {
        "Date": rng.choice(_DATES), "X-RateLimit-Limit": rng.choice(("-5", "abc", "0", "1e9", "60", "9" * 40)),
        "X-RateLimit-Remaining": rng.choice(("-1", "abc", "5", "9" * 40)), "Retry-After": rng.choice(("-1", "x", "1e9", "5")),
        "Content-Type": rng.choice(("text/html", "", "application/json; charset=utf-16")), "X-Request-Id": rng.choice(("", "\x7f", "a" * 500)),
    }  # fmt: skip
    chosen = {name: headers[name] for name in rng.sample(sorted(headers), rng.randint(1, 3))}
    rule: Rule = {"kind": "edit", "headers": chosen, "edits": []}
    return Mangling(f"headers {chosen}", (rule,), counts="Date" in chosen, refuses=True)


def _error(rng: Random, status: int) -> Any:
    return rng.choice((
        {"error": {"code": rng.choice(_WORDS), "message": "No"}}, {"error": {"code": rng.choice(_WORDS), "message": "No"}},
        {"error": "no"}, {"error": None}, {"message": "no"}, {"data": None}, {"data": {}}, {"data": {"results": []}}, [],
        None, "text", 0, {"data": {"successCount": 0, "errorCount": 0, "results": [], "errors": []}}, {"data": [], "status": status},
    ))  # fmt: skip


def _answered(rng: Random, _: Sequence[str]) -> Mangling:
    """Any status with JSON or HTML, without the work being done."""
    return _any_answer(rng, "answer")


def _after(rng: Random, _: Sequence[str]) -> Mangling:
    """The same, with the work done."""
    return _any_answer(rng, "answer_after")


def _any_answer(rng: Random, kind: str) -> Mangling:
    status, html = rng.choice(_CODES), rng.random() < 0.4
    body = _HTML if html else _error(rng, status)
    rule: Rule = {
        "kind": kind,
        "status": status,
        "content_type": "text/html" if html else "application/json",
        "body": body,
    }
    if rng.random() < 0.3:
        rule["headers"] = {"Retry-After": rng.choice(("1", "12", "60"))}
    rule |= _when(rng)
    path = rng.choice((*WRITES[:3], "list", ""))
    if path:
        rule["match"] = {"path": path}
    verdict = not html and path != "list" and isinstance(body, dict) and isinstance(body.get("error"), dict)
    codes = (body["error"]["code"], f"http_{status}") if verdict and _may_judge(status) else ()
    name = f"{kind} {status} {'html' if html else body!r} on {path or 'everything'}"
    lies = kind == "answer" and status < 300
    return Mangling(
        name, (rule,), counts=path in ("", "list"), refuses=True, codes=frozenset(filter(_is_word, codes)), lies=lies
    )


def _may_judge(status: int) -> bool:
    return status in (400, 403, 404, 422) or status >= 500


def _is_word(code: object) -> bool:
    return isinstance(code, str) and code != ""


def _when(rng: Random) -> dict[str, Any]:
    """Each request, some of them, or the first ones."""
    choice = rng.randrange(3)
    if choice == 0:
        return {}
    return {"probability": 0.5, "seed": rng.randrange(10**6)} if choice == 1 else {"times": rng.randint(1, 4)}


def _status_only(rng: Random, _: Sequence[str]) -> Mangling:
    """A right answer with another status."""
    status, path = rng.choice(_CODES), rng.choice((*WRITES[:3], "list"))
    rule: Rule = {"kind": "edit", "status": status, "edits": [], "match": {"path": path}, **_when(rng)}
    return Mangling(f"{path} with status {status}", (rule,), counts=path == "list", refuses=True)


def _empty(rng: Random, _: Sequence[str]) -> Mangling:
    """204 or an empty 200 on a write, with or without the work done."""
    kind, status, path = rng.choice(("answer", "answer_after")), rng.choice((200, 204)), rng.choice(WRITES[:3])
    rule: Rule = {"kind": kind, "status": status, "body": "", "match": {"path": path}, **_when(rng)}
    return Mangling(f"{kind} empty {status} on {path}", (rule,), refuses=True, lies=kind == "answer")


def _done_without_body(rng: Random, _: Sequence[str]) -> Mangling:
    rule: Rule = {"kind": "answer_after", "status": rng.choice((200, 204)), "body": ""}
    rules = tuple({**rule, "match": {"path": path}} for path in ("put", "delete"))
    return Mangling(f"empty {rule['status']} on put and delete", rules, harmless=True)


def _items(rng: Random, references: Sequence[str]) -> Mangling:
    """Fewer, more, doubled, foreign or odd items in the answer of a write."""
    field = rng.choice(("externalReference", "listingId", "status", "created", "index", "warnings"))
    value = rng.choice((*_ODD, "archived", "published", rng.choice(list(references)), 0))
    edit = rng.choice((
        {"path": "data.results.*", "do": "remove", "share": rng.choice((0.2, 1.0))},
        {"path": "data.results.*", "do": "repeat", "share": rng.choice((0.2, 1.0))},
        {"path": f"data.results.*.{field}", "do": "set", "value": value, "share": rng.choice((0.2, 1.0))},
        {"path": f"data.results.*.{field}", "do": "remove", "share": rng.choice((0.2, 1.0))},
        {"path": "data.results", "do": "set", "value": value}, {"path": "data.errors", "do": "set", "value": value},
        {"path": "data.successCount", "do": "set", "value": value}, {"path": "data", "do": "set", "value": value},
        {"path": f"data.{field}", "do": "set", "value": value}, {"path": f"data.{field}", "do": "remove"},
    ))  # fmt: skip
    path = rng.choice(("bulk", "bulk", "put", "delete"))
    return Mangling(f"{path} {edit}", (_edit(path, [edit], rng, **_when(rng)),), refuses=True)


def _transport(rng: Random, _: Sequence[str]) -> Mangling:
    kind, path = rng.choice(_TRANSPORT), rng.choice((*WRITES[:3], "list", ""))
    rule: Rule = {"kind": kind, "seconds": 5, **_when(rng)}
    if path:
        rule["match"] = {"path": path}
    # An error document that may come back for the same listing.
    codes = frozenset({"UPSERT_FAILED"} if kind == "500" and path != "list" else ())
    return Mangling(
        f"{kind} on {path or 'everything'}", (rule,), counts=path in ("", "list"), refuses=True, codes=codes
    )


def _spelling(rng: Random, references: Sequence[str]) -> Mangling:
    """References come back in another case, or with spaces."""
    names = rng.sample(list(references), min(len(references), rng.choice((1, 3, 20))))
    change = rng.choice((str.lower, lambda name: f" {name}", lambda name: f"{name} "))
    edits = [
        {"path": "data.*.externalReference", "do": "set", "value": change(name), "references": [name]} for name in names
    ]
    return Mangling(
        f"{len(names)} references as {change(names[0])!r}", (_edit("list", edits, rng),), counts=True, harmless=True
    )


def item_errors(rng: Random, references: Sequence[str]) -> Mangling:
    """One or two listings are refused whenever they are written."""
    status, code = rng.choice((
        (403, "PROFILE_FORBIDDEN"), (404, "NOT_FOUND"), (422, "VALIDATION_FAILED"), (400, "INVALID_BODY"),
        (409, "CONFLICT"), (423, "LOCKED"), (425, "TOO_EARLY"), (408, "TIMEOUT"), (500, "IMAGES_FAILED"),
        (502, "FEATURES_FAILED"), (500, "UPSERT_FAILED"), (503, "UNAVAILABLE"),
    ))  # fmt: skip
    names = rng.sample(list(references), rng.randint(1, 2))
    codes = frozenset({code} if _may_judge(status) else ())
    errors = {name: {"status": status, "code": code} for name in names}
    return Mangling(f"{status} {code} for {names}", (), refuses=True, codes=codes, items=errors)


FOCUS: Final[dict[str, Callable[[Random, Sequence[str]], Mangling]]] = {
    "few_pages": lambda rng, _: _total(rng, 0, 0),
    "many_pages": lambda rng, _: _total(rng, 10**6, 60),
    "unknown_status": _unknown_status,
    "item_errors": item_errors,
}
"""One mangling in each turn, for rules whose absence the others seldom show."""
