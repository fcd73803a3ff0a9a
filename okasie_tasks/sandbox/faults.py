"""Faults on request: rules that make the sandbox misbehave, by kind of call, key, reference, chance, count and time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

from okasie_tasks.sandbox.codes import STATUS_OF
from okasie_tasks.sandbox.edits import check_edits

KINDS: Final = {
    "500": "answers 500 with an error document",
    "503_html": "answers 503 with a web page, as a proxy does",
    "html": "answers 200 with a web page",
    "slow": "waits `seconds` before it answers, or until the faults are removed",
    "drop_before": "closes the connection without doing anything",
    "drop_after": "does the work and then closes the connection",
    "truncated": "does the work and sends half of the answer",
    "garbage": "does the work and answers bytes that are not JSON",
    "data_not_list": 'answers 200 with {"data": "x"}',
    "429": "refuses with 429 and Retry-After `seconds`",
    "error": "refuses with the documented error `code` and its status",
    "400": "refuses with 400",
    "401": "refuses with 401",
    "redirect": "answers 302 to another address",
    "unknown_items": "does the work of a bulk call and leaves every second item out of the answer",
    "skip_images": "reports the first image of every written listing as skipped",
    "answer": "answers with `status`, `headers`, `content_type` and `body` (a text or JSON), without doing anything",
    "answer_after": "does the work and then answers like `answer`",
    "edit": "does the work and changes its answer by `edits`, `status` and `headers` (an empty value removes a header)",
}
_FIELDS: Final = frozenset({"kind", "match", "probability", "times", "for_seconds", "seconds", "seed",
                            "status", "headers", "content_type", "body", "edits", "code"})  # fmt: skip


class Fault:
    """One rule. Raises `ValueError` for an invalid rule."""

    def __init__(self, rule: dict[str, Any]) -> None:
        unknown = set(rule) - _FIELDS
        if unknown:
            raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
        self.kind = str(rule.get("kind"))
        if self.kind not in KINDS:
            raise ValueError(f"got kind {self.kind!r}, expected one of {', '.join(KINDS)}")
        match = rule.get("match") or {}
        self.path: str | None = match.get("path")
        self.key: str | None = match.get("key")
        self.reference: str | None = match.get("reference")
        self.probability = float(rule.get("probability", 1.0))
        self.times: int | None = rule.get("times")
        self._ends: float | None = time.monotonic() + float(rule["for_seconds"]) if "for_seconds" in rule else None
        self.seconds = float(rule.get("seconds", 1.0))
        self.status: int | None = rule.get("status")
        self.headers = {str(name): str(value) for name, value in (rule.get("headers") or {}).items()}
        self.content_type = str(rule.get("content_type", "application/json"))
        self.body: Any = rule.get("body", "")
        self.code = str(rule.get("code", ""))
        if self.kind == "error" and self.code not in STATUS_OF:
            raise ValueError(f"got code {self.code!r:.40}, expected one of {', '.join(STATUS_OF)}")
        self.edits: list[dict[str, Any]] = check_edits(rule.get("edits") or [])
        self.rng = Random(rule.get("seed", 0))  # noqa: S311 - repeatable, for tests

    @property
    def expired(self) -> bool:
        return self.times == 0 or (self._ends is not None and time.monotonic() >= self._ends)

    def hits(self, path: str, key: str, references: Callable[[], set[str]]) -> bool:
        """Whether the fault applies to this request; counts down ``times``. ``references``: those that it writes."""
        if (self.path and self.path != path) or (self.key and self.key != key) or self.expired:
            return False
        if self.reference is not None and self.reference not in references():
            return False
        if self.rng.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """The active rules, in the order of their addition. The first one that hits applies."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._removed = asyncio.Event()

    def add(self, rules: list[dict[str, Any]]) -> int:
        """Add rules; returns their number."""
        faults = [Fault(rule) for rule in rules]
        self._rules += faults
        return len(faults)

    def clear(self) -> None:
        """Remove all rules, and end the waits of `wait`."""
        self._rules.clear()
        self._removed.set()
        self._removed = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait for ``seconds``, or until the rules are removed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._removed.wait(), seconds)

    def pick(self, path: str, key: str, references: Callable[[], set[str]] = set) -> Fault | None:
        self._rules = [rule for rule in self._rules if not rule.expired]
        return next((rule for rule in self._rules if rule.hits(path, key, references)), None)
