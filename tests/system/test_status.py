"""The quota in sight: used and left, who waits, why it pauses, and how long the run will still take."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import faults, poll
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
    faults(fleet.sandbox, {"kind": "slow", "seconds": 10, "match": {"key": "watched", "path": "bulk"}, "times": 1})
    fleet.place.okasie("sync", "watched", "--full", "--no-wait")
    at_work = poll(
        lambda: (entry := look(fleet)) and (entry["forecast"]["active"] or {}).get("at_least") is False and entry,
        what="a run that has made its plan",
    )
    assert at_work["forecast"]["active"]["requests"] == 1
    assert "1 requests left, about 1 s at this quota" in fleet.place.okasie("status", "watched").stdout
    done = poll(lambda: (entry := look(fleet)) and entry["last_success_run"] and entry, what="the end of the run")
    assert (done["quota"]["used_last_minute"], done["quota"]["remaining"]) == (2, 118)
    assert (done["quota"]["learned_limit"], done["quota"]["foreign"]) == (120, 0)
    assert done["forecast"]["full"] == {"requests": 1, "seconds": 0.5, "at_least": True}
    assert "at least 1 requests: about 1 s at this quota" in fleet.place.okasie("plan", "watched", "--full").stdout


def test_a_pause_is_told_with_its_reason_and_what_waits_for_its_end(fleet: Fleet) -> None:
    faults(fleet.sandbox, {"kind": "429", "seconds": 12, "match": {"key": "watched", "path": "put"}, "times": 1})
    fleet.place.okasie("push", "watched", "DG-00001", "--no-wait")
    paused = poll(lambda: (entry := look(fleet)) and entry["quota"]["pause_reason"] and entry, what="the pause")
    assert paused["quota"]["pause_reason"] == "429"
    assert 0 < paused["quota"]["pause_seconds"] <= 12
    assert paused["pushes_waiting"] == 1
    assert "the marketplace refused a request" in fleet.place.okasie("status", "watched").stdout
    poll(lambda: look(fleet)["pushes_waiting"] == 0, what="the push, once the pause was over")
