"""README and docs against the code: commands, options, settings, faults, metrics. What they show is run in tests/system."""

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
from okasie_tasks.settings import load_settings
from okasie_tasks.settings.model import AccountSettings, GuardSettings, RedisSettings, SourceSettings, WriteBackSettings
from okasie_tasks.settings.web import WebSettings, WebTokenSettings
from okasie_tasks.sources import open_source
from tests.test_deploy import RULES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


CONFIGURATION, CLI, SANDBOX, METRICS = page("configuration"), page("cli"), page("sandbox"), page("metrics")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def section(text: str, title: str) -> str:
    """The section ``## title`` of a page."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def typed(text: str) -> list[str]:
    """Every command line that a page shows."""
    return [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]


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
    table = [re.match(r"`okasie ([a-z]+)(.*)`", cells[0]) for cells in rows(CLI, "command")]
    named = {found[1]: found[2] for found in table if found}
    assert set(named) == set(COMMANDS)
    for name, usage in named.items():
        shown = set(re.findall(r"--[a-z-]+", usage))
        own = options(name) - {"--config", "--json"}
        assert shown <= own, name
        if "[OPTIONS]" not in usage:
            assert shown == own, name


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_and_the_common_options(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert {"--config", "--json"} <= options(name)
    assert command(name).help


def test_the_overview_lists_every_command() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    assert re.findall(r"^  ([a-z]+)  ", shown, re.MULTILINE) == list(COMMANDS)


def check_command_lines(text: str) -> None:
    """Each ``okasie`` command line of a page names a command and options that exist."""
    for line in [*typed(text), *re.findall(r"`(okasie [^`]*)`", text)]:
        for name, rest in re.findall(r"\bokasie ([a-z]+)([^|$]*)", line):
            assert name in COMMANDS, line
            assert set(re.findall(r"(?<= )--[a-z-]+", rest)) <= options(name), line


@pytest.mark.parametrize("name", ["README", "CONTRIBUTING"])
def test_every_okasie_command_line_is_one_that_exists(name: str) -> None:
    check_command_lines((ROOT / f"{name}.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("`[redis]`", RedisSettings),
        ("`[web]`", WebSettings),
        ("`[web.tokens.NAME]`", WebTokenSettings),
        ("`[accounts.NAME]`", AccountSettings),
        ("`[accounts.NAME.guard]`", GuardSettings),
        ("`[accounts.NAME.source]`", SourceSettings),
        ("`[accounts.NAME.source.write_back]`", WriteBackSettings),
    ],
)
def test_every_setting_is_documented_and_none_that_does_not_exist(heading: str, model: type[BaseModel]) -> None:
    named = {name for cells in rows(CONFIGURATION, heading) for name in re.findall(r"`([a-z_]+)`", cells[0])}
    assert named == set(model.model_fields) - {"name", "guard", "source", "write_back", "tokens"}


def test_documented_defaults_are_those_of_the_code() -> None:
    for heading, model in (("`[accounts.NAME]`", AccountSettings), ("`[accounts.NAME.guard]`", GuardSettings)):
        for cells in rows(CONFIGURATION, heading):
            names = re.findall(r"`([a-z_]+)`", cells[0])
            defaults = re.findall(r"`([^`]+)`", cells[1])
            for name, value in zip(names, defaults, strict=bool(defaults)) if defaults else ():
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


@pytest.mark.parametrize("name", ["README", "CONTRIBUTING"])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)\)", text):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.encode()) <= 9_000
    pages = {f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")} - {"docs/index.md"}
    assert pages <= set(re.findall(r"\]\(([^)]+)\)", README))


def test_the_example_of_a_mapping_reads_its_feed(tmp_path: Path) -> None:
    (tmp_path / "dex.csv").write_text(blocks(CONFIGURATION, "csv")[0])
    (tmp_path / "okasie.toml").write_text(blocks(CONFIGURATION, "toml")[0])
    account = load_settings(tmp_path / "okasie.toml", {}).accounts["dex"]
    read = list(open_source(account, cache_dir=tmp_path, current_year=2026).rows())
    assert [row.reference for row in read if row.listing] == ["DEX-1", "DEX-2", "DEX-3"]
    (invalid,) = (row for row in read if row.listing is None)
    assert (invalid.reference, invalid.where, [issue.field for issue in invalid.issues]) == (
        "DEX-4", "dex.csv:5", ["price"],
    )  # fmt: skip
    octavia = read[0].listing
    assert octavia is not None
    assert (octavia.title, octavia.fuel_type, len(octavia.images)) == ("Skoda Octavia Combi 2020", "diesel", 2)
    assert octavia.power_kw == pytest.approx(110.3, abs=0.1)


# -- the page on the sandbox ---------------------------------------------------------------------------------------


def test_the_faults_are_those_of_the_program() -> None:
    assert {cells[0].strip("`"): cells[1] for cells in rows(SANDBOX, "kind")} == {
        kind: text.replace('{"data": "x"}', '`{"data": "x"}`') for kind, text in KINDS.items()
    }


def test_the_options_of_the_sandbox_are_documented() -> None:
    named = {re.match(r"`(--[a-z]+)", cells[0])[1] for cells in rows(SANDBOX, "option")}  # type: ignore[index]
    assert named == options("sandbox") - {"--config"}


def test_the_quirks_are_documented() -> None:
    assert [cells[0].strip("`") for cells in rows(SANDBOX, "quirk")] == list(Quirks.__struct_fields__)


# -- the page on metrics -------------------------------------------------------------------------------------------


def test_every_metric_is_documented_with_its_help_text() -> None:
    assert [tuple(cells) for cells in rows(METRICS, "metric")] == [
        (f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in family.labels), family.help)
        for family in FAMILIES
    ]


def test_every_alert_is_documented_with_its_severity() -> None:
    severities = {cells[0].strip("`"): cells[1] for cells in rows(METRICS, "alert")}
    assert severities == {name: rule["labels"]["severity"] for name, rule in RULES.items()}
