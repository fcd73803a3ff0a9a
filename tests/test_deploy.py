"""deploy/: alert rules, dashboard and their surroundings against the metrics that the program has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from okasie_tasks.cli import COMMANDS
from okasie_tasks.cli.metrics import metrics as command
from okasie_tasks.core.metrics import FAMILIES

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
LABELS = {family.name: {*family.labels, "job", "instance"} for family in FAMILIES}
for family in FAMILIES:
    if family.kind == "histogram":
        of = LABELS.pop(family.name)
        LABELS |= {f"{family.name}_bucket": of | {"le"}, f"{family.name}_sum": of, f"{family.name}_count": of}
"""Every series that can be asked for, and the labels it has."""

PROMETHEUS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
GROUPS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
RULES: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "okasie.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Any]:
    for name, rule in RULES.items():
        yield pytest.param(rule["expr"], id=name)
    for panel in PANELS:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")


def series(query: str) -> set[str]:
    return set(re.findall(r"\bokasie_[a-z_]+", query))


@pytest.mark.parametrize("query", list(queries()))
def test_a_query_asks_for_what_there_is(query: str) -> None:
    assert series(query), "a query without a metric of ours"
    assert series(query) <= set(LABELS)
    for name, matchers in re.findall(r"\b(okasie_[a-z_]+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)\s*[=!]", re.sub(r'"[^"]*"', "", matchers))) <= LABELS[name], name
    known = set().union(*(LABELS[name] for name in series(query)))
    for grouped in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
        assert {label.strip() for label in grouped.split(",")} <= known


@pytest.mark.parametrize("query", list(queries()))
def test_a_query_is_one_that_prometheus_understands(query: str) -> None:
    parser = pytest.importorskip("promql_parser")
    for variable, value in {"$__rate_interval": "2m", "$account": ".*"}.items():
        query = query.replace(variable, value)
    parser.parse(query)


# -- alerts ------------------------------------------------------------------------------------------------------------


def test_every_trouble_has_its_alert() -> None:
    assert set(RULES) == {
        "OkasieMetricsGone", "OkasieAccountStale", "OkasieFullRunStale", "OkasieRunsFail", "OkasiePlanHeld",
        "OkasieRejectsGrow", "OkasieSellsWait", "OkasieQuotaStarved", "OkasiePushesSlow", "OkasieKeyShared", "OkasieBreakerOpen",
        "OkasieDrift", "OkasieQueueStands", "OkasieStillPaused", "OkasieMalformedMessages",
        "OkasieDiscardedRequests",
    }  # fmt: skip


@pytest.mark.parametrize("name", list(RULES))
def test_an_alert_is_whole_and_its_texts_name_only_labels_and_commands_that_exist(name: str) -> None:
    rule = RULES[name]
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description"}
    told = " ".join(rule["annotations"].values())
    known = set().union(*(LABELS[found] for found in series(rule["expr"])))
    if grouped := re.search(r"\bby \(([^)]*)\)", rule["expr"]):
        known = {label.strip() for label in grouped[1].split(",")}
    assert set(re.findall(r"\$labels\.(\w+)", told)) <= known
    assert set(re.findall(r"`okasie (\w+)", told)) <= set(COMMANDS)


def test_prometheus_scrapes_the_port_that_the_command_serves_and_reads_the_rules() -> None:
    (port,) = [option.default for option in command.params if option.name == "port"]
    assert PROMETHEUS["rule_files"] == ["rules.yml"]
    (job,) = PROMETHEUS["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"metrics:{port}"]}]


# -- the dashboard -----------------------------------------------------------------------------------------------------


def test_every_metric_is_on_the_dashboard() -> None:
    shown = set().union(*(series(target["expr"]) for panel in PANELS for target in panel["targets"]))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == {family.name for family in FAMILIES}


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    """The fields that an import asks for, and a layout without two panels in one place."""
    assert DASHBOARD["uid"] and DASHBOARD["title"] and DASHBOARD["id"] is None
    assert DASHBOARD["schemaVersion"] >= 36, "the first with data sources named by type and uid"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "account"}
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        covered = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                   for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert place["x"] + place["w"] <= 24
        assert not cells & covered, panel["title"]
        cells |= covered
    for panel in PANELS:
        assert panel["type"] in ("timeseries", "stat")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"] and panel["description"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        used = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for target in panel["targets"])))
        assert used <= {*variables, "__rate_interval"}


def test_the_variable_for_the_account_asks_for_a_metric_that_every_account_has() -> None:
    (variable,) = [one for one in DASHBOARD["templating"]["list"] if one["name"] == "account"]
    found = re.fullmatch(r"label_values\((\w+), account\)", variable["query"]["query"])
    assert found
    assert "account" in LABELS[found[1]]


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "provider.yml").read_text())["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/etc/grafana/dashboards")
