"""docs/grafana-dashboard.json and the alerting rules ask for what exists; promtool tests the rules."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import dashboards
import pytest
import yaml

from clusteradm.cli.exporter import ALERTS
from clusteradm.cli.health_forms.prometheus import FAMILIES
from clusteradm.cli.main import main

from .test_forms import ROOT

DASHBOARD = dashboards.load("grafana-dashboard.json")
QUERIES = dashboards.queries(DASHBOARD)
RULES = [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
QUERIES += [rule["expr"] for rule in RULES if not rule["expr"].startswith("up{")]
FUNCTIONS = {
    "absent",
    "and",
    "or",
    "on",
    "by",
    "count",
    "sum",
    "min",
    "max",
    "rate",
    "clamp_min",
    "vector",
    "time",
    "label_values",
}
LABELS = {"cluster", "host", "tpu", "check", "state", "severity", "point"}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_what_exists(query: str) -> None:
    assert "clusteradm_" in query and query.count("(") == query.count(")") and query.count("{") == query.count("}")
    bare = re.sub(r'"[^"]*"|\$\w+|\[[^]]*\]', " ", query)
    words = set(re.findall(r"[a-zA-Z_]\w*", bare))
    assert {word for word in words if not word.startswith("clusteradm_")} <= FUNCTIONS | LABELS
    assert {word for word in words if word.startswith("clusteradm_")} <= set(FAMILIES)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_labels_that_the_metric_has(query: str) -> None:
    for metric, selector in re.findall(r"(clusteradm_\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)(?:=~|!=|=)", selector)) <= set(FAMILIES[metric].labels)


def test_every_panel_has_a_place_of_its_own() -> None:
    dashboards.check_places(DASHBOARD)


def test_every_rule_says_how_bad_it_is_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/exporter.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning") and rule["for"]
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"`{rule['alert']}`" in page
    assert main(["exporter", "--alerts"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(ALERTS.read_text(encoding="utf-8"))


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)


def judged(folder: Path, rules: str) -> subprocess.CompletedProcess[str]:
    """The unit tests of the rules, on these."""
    (folder / "alerts.yml").write_text(rules)
    cases = (ROOT / "tests/fixtures/prometheus/alerts.test.yml").read_text(encoding="utf-8")
    (folder / "alerts.test.yml").write_text(cases.replace("ALERTS", str(folder / "alerts.yml")))
    return promtool("test", "rules", folder / "alerts.test.yml")


def test_promtool_finds_the_rules_in_order() -> None:
    done = promtool("check", "rules", ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_the_rules_raise_what_they_should(tmp_path: Path) -> None:
    rules = ALERTS.read_text(encoding="utf-8")
    done = judged(tmp_path, rules)
    assert done.returncode == 0, done.stdout + done.stderr
    for rule in RULES:
        # The cases notice each rule that never fires.
        assert judged(tmp_path, rules.replace(f"expr: {rule['expr']}\n", "expr: vector(0) > 1\n")).returncode == 1
