"""README and docs against the code: commands, options, settings, faults, links. What they show is run in tests/system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from okasie_tasks.cli import COMMANDS, cli
from okasie_tasks.core.metrics import FAMILIES
from okasie_tasks.sandbox.faults import KINDS
from okasie_tasks.sandbox.rendering import Quirks
from okasie_tasks.settings.model import AccountSettings, GuardSettings, RedisSettings, SourceSettings, WriteBackSettings
from tests.test_deploy import RULES

ROOT = Path(__file__).parents[1]
_NUMBERS = {11: "eleven", 12: "twelve", 13: "thirteen", 14: "fourteen"}
README = (ROOT / "README.md").read_text(encoding="utf-8")
SANDBOX = (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def console() -> list[str]:
    """Every line that README tells to type."""
    return [line[2:] for block in blocks(README, "console") for line in block.splitlines() if line.startswith("$ ")]


def rows(text: str, heading: str) -> Iterator[list[str]]:
    """The cells of the table whose first header cell is ``heading``."""
    lines = text[text.index(f"| {heading} |") :].splitlines()[2:]
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None, name
    return found


def options(name: str) -> set[str]:
    return {flag for p in command(name).params if isinstance(p, click.Option) for flag in p.opts}


def test_a_command_and_its_output_stand_in_the_first_twenty_lines() -> None:
    first = README.splitlines()[:20]
    assert "$ make demo" in first
    assert any(line.startswith("done in") for line in first)


def test_the_table_of_commands_is_that_of_the_program() -> None:
    table = [re.match(r"`okasie ([a-z]+)(.*)`", cells[0]) for cells in rows(README, "command")]
    named = {found[1]: found[2] for found in table if found}
    assert set(named) == set(COMMANDS)
    for name, usage in named.items():
        told = set(re.findall(r"--[a-z-]+", usage))
        own = options(name) - {"--config", "--json"}
        assert told <= own, name
        if "[OPTIONS]" not in usage:
            assert told == own, name


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_and_the_common_options(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert {"--config", "--json"} <= options(name)
    assert command(name).help


def test_the_overview_tells_every_command() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    assert re.findall(r"^  ([a-z]+)  ", shown, re.MULTILINE) == list(COMMANDS)


def test_every_okasie_command_line_in_the_texts_is_one_that_exists() -> None:
    lines = [*console(), *re.findall(r"`(okasie [^`]*)`", README + SANDBOX + METRICS)]
    for line in lines:
        words = line.split()
        if words[0] != "okasie" or len(words) == 1:
            continue
        name = words[1]
        assert name in COMMANDS, line
        assert set(re.findall(r"--[a-z-]+", line)) <= options(name), line


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("`[redis]`", RedisSettings),
        ("`[accounts.NAME]`", AccountSettings),
        ("`[accounts.NAME.guard]`", GuardSettings),
        ("`[accounts.NAME.source]`", SourceSettings),
        ("`[accounts.NAME.source.write_back]`", WriteBackSettings),
    ],
)
def test_every_setting_is_told_and_none_that_does_not_exist(heading: str, model: type[BaseModel]) -> None:
    told = {name for cells in rows(README, heading) for name in re.findall(r"`([a-z_]+)`", cells[0])}
    assert told == set(model.model_fields) - {"name", "guard", "source", "write_back"}


def test_defaults_are_told_as_they_are() -> None:
    for heading, model in (("`[accounts.NAME]`", AccountSettings), ("`[accounts.NAME.guard]`", GuardSettings)):
        for cells in rows(README, heading):
            names = re.findall(r"`([a-z_]+)`", cells[0])
            told = re.findall(r"`([^`]+)`", cells[1])
            for name, value in zip(names, told, strict=bool(told)) if told else ():
                assert _plain(model.model_fields[name].default) == value.strip('"'), name


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "total_seconds"):
        seconds = int(value.total_seconds())
        return f"{seconds // 60}m" if seconds % 3600 else f"{seconds // 3600}h"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(timespec="minutes"))
    return str(value)


def test_links_lead_somewhere() -> None:
    for text, base in ((README, ROOT), (SANDBOX, ROOT / "docs"), (METRICS, ROOT / "docs")):
        for target in re.findall(r"\]\(([^)#]+?)\)", text):
            if not target.startswith("http"):
                assert (base / target).exists(), target
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)", README, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


# -- the page on the sandbox ---------------------------------------------------------------------------------------


def test_the_faults_are_told_as_the_program_has_them() -> None:
    assert {cells[0].strip("`"): cells[1] for cells in rows(SANDBOX, "kind")} == {
        kind: text.replace('{"data": "x"}', '`{"data": "x"}`') for kind, text in KINDS.items()
    }


def test_the_options_of_the_sandbox_are_told() -> None:
    told = {re.match(r"`(--[a-z]+)", cells[0])[1] for cells in rows(SANDBOX, "option")}  # type: ignore[index]
    assert told == options("sandbox") - {"--config"}


def test_the_quirks_are_told() -> None:
    assert [cells[0].strip("`") for cells in rows(SANDBOX, "quirk")] == list(Quirks.__struct_fields__)


# -- the page on metrics -------------------------------------------------------------------------------------------


def test_every_metric_is_told_as_it_is() -> None:
    assert [tuple(cells) for cells in rows(METRICS, "metric")] == [
        (f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in family.labels), family.help)
        for family in FAMILIES
    ]


def test_every_alert_is_told_with_its_severity() -> None:
    told = {cells[0].strip("`"): cells[1] for cells in rows(METRICS, "alert")}
    assert told == {name: rule["labels"]["severity"] for name, rule in RULES.items()}
    assert f"with {_NUMBERS[len(RULES)]} alert rules" in README
