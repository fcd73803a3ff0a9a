"""docs/logging.md, alerts.md, security.md and upgrading.md against the code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from okasie_tasks.alerting import notifier
from okasie_tasks.alerting.rules import Alert, payload
from okasie_tasks.cli import COMMANDS
from okasie_tasks.core.ledger_entry import _FORMAT
from okasie_tasks.settings import AlertSettings, EmailSettings, LogSettings
from tests.test_readme import ROOT, blocks, options, rows

PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("logging", "alerts", "security", "upgrading")}


@pytest.mark.parametrize(
    ("page", "heading", "model"),
    [
        ("logging", "`[log]`", LogSettings),
        ("alerts", "`[alerts]`", AlertSettings),
        ("alerts", "`[alerts.email]`", EmailSettings),
    ],
)
def test_every_setting_is_told_with_its_default(page: str, heading: str, model: type[BaseModel]) -> None:
    told: dict[str, str] = {}
    for name, default, _ in rows(PAGES[page], heading):
        names, defaults = re.findall(r"`([a-z_]+)`", name), re.findall(r"`([^`]*)`", default)
        told |= dict(zip(names, [*defaults, *[""] * len(names)], strict=False))
    known = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
    assert {name: _plain(value) for name, value in known.items() if name != "email"} == told


def _plain(value: object) -> str:
    if hasattr(value, "total_seconds"):
        return f"{value.total_seconds() / 3600:g}h"
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is None else str(value)


def logged() -> set[str]:
    """Every event that a line of the package logs: the text of ``log.info("text")``, or of ``each(log, INFO, "text")``."""
    found: set[str] = set()
    for path in (ROOT / "okasie_tasks").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            event = event_of(call)
            if event is not None and path.name != "logs.py":
                found.update(texts(event, tree))
    return found


def event_of(call: ast.Call) -> ast.expr | None:
    match call.func:
        case ast.Name("each"):
            return call.args[2]
        case ast.Attribute(ast.Name("log"), "log"):
            return call.args[1]
        case ast.Attribute(ast.Name("log"), "debug" | "info" | "warning" | "error" | "critical" | "exception"):
            return call.args[0]
    return None


def texts(event: ast.expr, module: ast.Module) -> set[str]:
    """The literal, or the literals that a loop gives to a name."""
    loops = [node for node in ast.walk(module) if isinstance(node, ast.For)]
    if isinstance(event, ast.Name):
        (loop,) = [loop for loop in loops if ast.unparse(loop.target) == event.id]
        event = loop.iter
    found = ast.literal_eval(event)
    return {found} if isinstance(found, str) else set(found)


def test_the_table_of_events_has_every_event_and_no_other() -> None:
    told = [name for cells in rows(PAGES["logging"], "event") for name in re.findall(r"`([^`]+)`", cells[0])]
    assert len(set(told)) == len(told), "each has one row"
    assert sorted(set(told) ^ logged()) == []


def test_the_example_is_a_line() -> None:
    (example,) = blocks(PAGES["logging"], "json")
    assert {"timestamp", "level", "event", "account", "run", "logger"} <= set(json.loads(example))


def test_the_fields_of_a_webhook_are_told() -> None:
    one = Alert(key="k", kind="stale", account="dex", reason="r", what_to_do="w", at_ms=1)
    text = PAGES["alerts"]
    assert [name for name in payload(one, "") if f"`{name}`" not in text] == []
    waits = [f"{wait:g}" for wait in notifier._RETRY_SECONDS]
    assert f"{', '.join(waits[:-1])} and {waits[-1]} seconds" in text


def test_the_layout_of_the_ledger_is_told() -> None:
    assert f"the number of its layout ({_FORMAT})" in PAGES["upgrading"]


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_links_exist(page: str) -> None:
    text = PAGES[page]
    lines = [line[2:] for block in blocks(text, "console") for line in block.splitlines()]
    for line in [*lines, *re.findall(r"`(okasie [^`]*)`", text)]:
        words = line.split()
        if words[0] == "okasie":
            assert words[1] in COMMANDS, line
            assert set(re.findall(r"--[a-z-]+", line)) <= options(words[1]), line
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert (ROOT / "docs" / target).exists(), target


def test_the_example_configurations_are_valid(tmp_path: Path) -> None:
    from okasie_tasks.settings import load_settings

    for page in ("logging", "alerts", "security"):
        for block in blocks(PAGES[page], "toml"):
            file = tmp_path / "okasie.toml"
            file.write_text(block)
            load_settings(file, {"REDIS_URL": "redis://okasie:pw-pw@redis.internal:6379/0"})
