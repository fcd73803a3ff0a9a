"""The queries that scale workers, on tables of samples: by the evaluator of the tests, and by Prometheus' own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.promql import Labels, Samples, value
from tests.test_kubernetes import SCALED, query


def waiting(*accounts: int, lane: str = "bulk", instance: str = "a") -> Samples:
    """So many requests of each account wait."""
    return {
        (
            "okasie_waiting_permits",
            frozenset({("account", f"a{place}"), ("lane", lane), ("instance", instance)}),
        ): float(number)
        for place, number in enumerate(accounts)
    }


def queued(instance: str = "a", **queues: int) -> Samples:
    return {
        ("okasie_queue_messages", frozenset({("queue", f"okasie.{name}"), ("instance", instance)})): float(number)
        for name, number in queues.items()
    }


CASES: dict[str, tuple[str, Samples, float | None]] = {
    "nothing waits": ("api", waiting(0, 0), 0),
    "one account": ("api", waiting(3, 0), 1),
    "one account cannot use a second worker": ("api", waiting(500, 0), 1),
    "as many workers as accounts": ("api", waiting(100, 100, 100), 3),
    "as many workers as threads are needed": ("api", waiting(*[2] * 40), 3),
    "exactly the threads of one": ("api", waiting(16, 16), 1),
    "one more than that": ("api", waiting(16, 17), 2),
    "pushes are sent by another worker": ("api", waiting(0) | waiting(90, 90, lane="urgent"), 0),
    "two endpoints report the same": ("api", waiting(16, 16) | waiting(16, 16, instance="b"), 1),
    "no metrics, so that the fallback counts": ("api", queued(diff=1), None),
    "messages in both queues": ("diff", queued(diff=30, feeds=2, api=500), 32),
    "both queues at two endpoints": ("diff", queued(diff=30, feeds=2) | queued("b", diff=30, feeds=2), 32),
    "no messages": ("diff", queued(diff=0), 0),
    "no metrics of queues": ("diff", waiting(1), None),
}


@pytest.mark.parametrize("case", list(CASES))
def test_a_query_yields_the_workers_or_messages(case: str) -> None:
    name, samples, expected = CASES[case]
    assert value(query(name), samples) == expected


def _shown(labels: Labels) -> str:
    return ",".join(f'{name}="{text}"' for name, text in sorted(labels))


def test_prometheus_agrees(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: apt-get install prometheus")
    tests = [
        {
            "interval": "1m",
            "input_series": [
                {"series": f"{metric}{{{_shown(labels)}}}", "values": str(number)}
                for (metric, labels), number in samples.items()
            ],
            "promql_expr_test": [
                {
                    "expr": query(name),
                    "eval_time": "0m",
                    "exp_samples": [] if expected is None else [{"labels": "{}", "value": expected}],
                }
            ],
        }
        for name, samples, expected in CASES.values()
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_threshold_of_one_makes_the_value_the_number_of_workers() -> None:
    (trigger,) = SCALED["api"]["spec"]["triggers"]
    assert trigger["metadata"]["threshold"] == "1"
