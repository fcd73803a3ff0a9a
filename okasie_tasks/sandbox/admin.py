"""``/_sandbox/``: inspects and changes the sandbox. No key, no quota, loopback only; keys are addressed by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any, Protocol

import msgspec
from tornado import web

from okasie_tasks.sandbox.api import Api
from okasie_tasks.sandbox.faults import Faults
from okasie_tasks.sandbox.limits import Meter, Quota
from okasie_tasks.sandbox.rendering import Quirks, stamp
from okasie_tasks.sandbox.store import Store, own_provider


class Sandbox(Protocol):
    """The parts of `okasie_tasks.sandbox.server.Sandbox` that are inspected and changed."""

    store: Store
    api: Api
    faults: Faults
    quotas: dict[str, Quota]
    meters: dict[str, Meter]
    reach: dict[str, tuple[str, ...]]
    clock: Callable[[], float]


class AdminHandler(web.RequestHandler):
    """GET openapi.json, state, requests, writes, listings; POST listings, faults, quirks, limit, scope, reset.

    DELETE faults.
    """

    def initialize(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def prepare(self) -> None:
        if self.request.remote_ip not in ("127.0.0.1", "::1"):
            raise web.HTTPError(403)
        self.set_header("Content-Type", "application/json; charset=utf-8")

    def get(self, path: str) -> None:
        if path == "openapi.json":
            self.finish(files("okasie_tasks.sandbox").joinpath(path).read_bytes())
        elif path == "state":
            self._json({name: self._state(name) for name in self._sandbox.meters})
        elif path == "requests":
            self._json(list(self._sandbox.meters[self._key()].requests))
        elif path == "writes":
            self._json([write._asdict() for write in self._sandbox.api.writes[self._key()]])
        elif path == "listings":
            self.set_header("Content-Type", "application/x-ndjson")
            for row in self._sandbox.store.select(self._key(), None):
                self.write(msgspec.json.encode(self._stored(row)) + b"\n")
        else:
            self._error(f"there is no /_sandbox/{path}", 404)

    def post(self, path: str) -> None:
        try:
            body = msgspec.json.decode(self.request.body or b"{}")
            if path == "faults":
                self._json({"added": self._sandbox.faults.add(body if isinstance(body, list) else [body])})
            elif path == "quirks":
                self._sandbox.store.set_quirks(msgspec.convert(body, Quirks))
                self._json({"quirks": msgspec.to_builtins(self._sandbox.store.quirks)})
            elif path == "limit":
                self._sandbox.quotas[self._key(body)].change(int(body["limit"]))
                self._json({"limit": body["limit"]})
            elif path == "scope":
                self._json({"codes": self._narrow(self._key(body), msgspec.convert(body["codes"], list[str] | None))})
            elif path == "reset":
                self._sandbox.store.reset()
                self._sandbox.faults.clear()
                self._json({"reset": True})
            elif path == "listings":
                self._json({"edited": sum(self._edit(self._key(body), edit) for edit in body["edits"])})
            else:
                self._error(f"there is no /_sandbox/{path}", 404)
        except (msgspec.DecodeError, msgspec.ValidationError, ValueError, KeyError, TypeError) as error:
            self._error(f"{type(error).__name__}: {error}", 400)

    def delete(self, path: str) -> None:
        if path != "faults":
            self._error(f"there is no /_sandbox/{path}", 404)
            return
        self._sandbox.faults.clear()
        self._json({"faults": 0})

    # -- parts -----------------------------------------------------------------------------------------------------

    def _json(self, document: Any) -> None:
        self.finish(msgspec.json.encode(document))

    def _error(self, message: str, status: int) -> None:
        self.set_status(status)
        self._json({"error": {"message": message}})

    def _key(self, body: dict[str, Any] | None = None) -> str:
        name = (body or {}).get("key") or self.get_query_argument("key", next(iter(self._sandbox.meters)))
        if name not in self._sandbox.meters:
            raise web.HTTPError(404, reason=f"No key named {name!r:.40}")
        return str(name)

    def _state(self, name: str) -> dict[str, Any]:
        meter, by_status = self._sandbox.meters[name], dict.fromkeys(("active", "pending", "sold", "draft"), 0)
        for row in self._sandbox.store.select(name, None):
            by_status[row.status] += 1
        return {
            "listings": by_status,
            "requests": meter.by_kind,
            "rate_limited": meter.refused,
            "busiest_minute": meter.busiest_minute,
            "busiest_second": meter.busiest_second,
            "limit": self._sandbox.quotas[name].limit,
        }

    def _stored(self, row: Any) -> dict[str, Any]:
        return {
            "id": row.id,
            "externalReference": row.reference,
            "externalProvider": row.provider,
            "status": row.status,
            "updatedAt": stamp(row.updated_at),
            "images": row.mirrored,
            "skippedImages": row.skipped,
            "body": row.body,
        }

    def _edit(self, partner: str, edit: dict[str, Any]) -> int:
        """One edit on the marketplace's side: set fields, set the status, or create a listing. Returns 1."""
        store, now = self._sandbox.store, self._sandbox.clock()
        if edit.get("create"):
            self._create(partner, edit, now)
            return 1
        row = store.find(partner, edit["reference"])
        for name, value in (edit.get("set") or {}).items():
            row.body = {**row.body, name: value}
        store.set_status(row, edit.get("status", row.status), now)
        return 1

    def _create(self, partner: str, edit: dict[str, Any], now: float) -> None:
        """Create a listing of another provider or, with ``own``, of an earlier integration with the same key."""
        store, reference, provider = self._sandbox.store, edit.get("reference"), edit.get("provider", "somebody-else")
        own = provider == "own"
        if own and (partner, reference) in store.by_reference:
            raise ValueError(f"{reference} exists already")
        dealer = store.add_dealer(partner, edit.get("location", "FOREIGN"))
        external_provider = own_provider(partner) if own else provider
        store.add_foreign(partner, reference, dict(edit["create"]), dealer, now, provider=external_provider)

    def _narrow(self, name: str, codes: list[str] | None) -> list[str] | None:
        """Let the key reach only the dealers with these location codes; None: all dealers of its partner."""
        self._sandbox.reach.pop(name, None)
        if codes is not None:
            self._sandbox.reach[name] = tuple(codes)
        return codes
