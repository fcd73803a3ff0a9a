"""The quota in sight: used and left, who waits, why it pauses, and how long the run will still take."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from tests.support import faults, held, poll, release
from tests.system.conftest import Fleet

pytestmark = pytest.mark.system


def look(fleet: Fleet) -> dict[str, Any]:
    (entry,) = fleet.place.okasie("status", "watched", "--json").document["accounts"]
    found: dict[str, Any] = entry
    return found


def test_a_run_and_its_quota_are_in_sight(fleet: Fleet) -> None:
    before = look(fleet)
    assert before["forecast"]["active"] is None
    assert (before["quota"]["used_last_minute"], before["quota"]["remaining"]) == (0, 120)
    assert before["quota"]["learned_limit"] is None, "nothing was asked of this marketplace yet"
    faults(fleet.sandbox, held("bulk", "watched"))
    fleet.place.okasie("sync", "watched", "--full", "--no-wait")
    at_work = poll(
        lambda: (entry := look(fleet)) and (entry["forecast"]["active"] or {}).get("at_least") is False and entry,
        what="a run that has made its plan",
    )
    assert at_work["forecast"]["active"]["requests"] == 1
    assert "sending: 0 of 12 cars, about 1 s at this quota" in fleet.place.okasie("status", "watched").stdout
    release(fleet.sandbox)
    done = poll(lambda: (entry := look(fleet)) and entry["last_success_run"] and entry, what="the end of the run")
    # On a machine that needs a minute for this, a request is older than the quota's window.
    seen = requests.get(f"{fleet.sandbox.admin_url}/requests", params={"key": "watched"}, timeout=60).json()
    recent = sum(request["at"] > time.time() - 60 for request in seen)
    assert recent <= done["quota"]["used_last_minute"] <= 2
    assert done["quota"]["used_last_minute"] + done["quota"]["remaining"] == 120
    assert (done["quota"]["learned_limit"], done["quota"]["foreign"]) == (120, 0)
    assert done["forecast"]["full"] == {"requests": 1, "seconds": 0.5, "at_least": True}
    assert "at least 1 requests: about 1 s at this quota" in fleet.place.okasie("plan", "watched", "--full").stdout


def test_a_pause_is_told_with_its_reason_and_what_waits_for_its_end(fleet: Fleet) -> None:
    # Each pause follows the other until the test has seen them.
    faults(fleet.sandbox, {"kind": "429", "seconds": 6, "match": {"key": "watched", "path": "put"}})
    fleet.place.okasie("push", "watched", "DG-00001", "--no-wait")
    paused = poll(lambda: (entry := look(fleet)) and entry["quota"]["pause_reason"] and entry, what="the pause")
    assert paused["quota"]["pause_reason"] == "429"
    assert 0 < paused["quota"]["pause_seconds"] <= 6
    assert paused["pushes_waiting"] == 1
    reason = "the marketplace refused a request"
    poll(lambda: reason in fleet.place.okasie("status", "watched").stdout, what="the reason in the text")
    release(fleet.sandbox)
    poll(lambda: look(fleet)["pushes_waiting"] == 0, what="the push, once the pause was over")
