"""How waits fall into buckets, and how an account's counters are read back."""

from __future__ import annotations

import re

import pytest

from okasie_tasks.core.metrics import (
    FAMILIES,
    WAIT_BOUNDS,
    Recorded,
    Waits,
    read_recorded,
    recorded_samples,
    request_field,
    wait_fields,
)


@pytest.mark.parametrize(
    ("ms", "bound"), [(0, "0.05"), (50, "0.05"), (51, "0.1"), (1500, "1.5"), (299_999, "300.0"), (300_001, "+Inf")]
)
def test_a_wait_falls_into_the_bucket_that_it_is_not_above(ms: int, bound: str) -> None:
    assert wait_fields("urgent", ms) == {f"wait:urgent:{bound}": 1} | ({"wait_ms:urgent": ms} if ms else {})


def test_buckets_add_up_and_end_open() -> None:
    buckets = Waits(counts={"0.1": 2, "1.0": 3, "+Inf": 1}).buckets()
    assert [bound for bound, _ in buckets] == [*(str(bound) for bound in WAIT_BOUNDS), "+Inf"]
    assert dict(buckets)["0.05"] == 0
    assert (dict(buckets)["0.1"], dict(buckets)["0.5"], dict(buckets)["1.0"]) == (2, 2, 5)
    assert buckets[-1] == ("+Inf", 6)


def test_a_bound_of_another_release_is_counted_with_the_next_one_up() -> None:
    assert dict(Waits(counts={"0.07": 4, "900": 1}).buckets()) == {
        str(bound): 4 if bound >= 0.1 else 0 for bound in WAIT_BOUNDS
    } | {"+Inf": 5}


def test_what_was_written_is_read_and_what_is_unknown_is_passed_over() -> None:
    fields = {
        request_field("bulk", "GET", 200): "7", "wait:bulk:0.5": "2", "wait_ms:bulk": "900", "runs:full:done": "3",
        "run_ms:full": "1500", "success_ms:full": "1000", "listings:full": '{"created": 1, "drifted": 2}',
        "last_mode": "full", "of_a_later_release:x": "1", "requests:odd": "1",
    }  # fmt: skip
    found = read_recorded(fields)
    assert found == Recorded(
        requests={("bulk", "GET", "200"): 7}, waits={"bulk": Waits(counts={"0.5": 2}, total_ms=900)},
        runs={("full", "done"): 3}, run_ms={"full": 1500}, success_ms={"full": 1000},
        listings={"full": {"created": 1, "drifted": 2}}, last_mode="full",
    )  # fmt: skip
    told = {(s.name, s.labels): s.value for s in recorded_samples("dex", found, {"incremental": 900.0})}
    assert told["okasie_drift_listings", ("dex",)] == 2
    assert told["okasie_last_success_timestamp_seconds", ("dex", "full")] == 1
    assert told["okasie_last_success_timestamp_seconds", ("dex", "incremental")] == 0, "asked for, and never done"
    assert told["okasie_schedule_interval_seconds", ("dex", "incremental")] == 900
    runs = {labels[1:]: value for (name, labels), value in told.items() if name == "okasie_runs_total"}
    assert (runs["full", "done"], runs["full", "failed"], runs["incremental", "failed"]) == (3, 0, 0)


def test_an_account_of_which_nothing_is_known_tells_that_it_did_nothing() -> None:
    told = {s.name: s.value for s in recorded_samples("dex", Recorded(), {})}
    assert told == {"okasie_drift_listings": 0}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_are_those_that_prometheus_wants(family: object) -> None:
    name, kind, labels, told = family  # type: ignore[misc]
    assert re.fullmatch(r"okasie_[a-z_]+", name)
    assert name.endswith("_total") == (kind == "counter")
    assert "le" not in labels
    assert told.endswith(".")
