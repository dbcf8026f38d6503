"""docs/grafana-dashboard.json and the alerts of docs/exporter.md ask for metrics and labels that exist."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from clusteradm.cli.health_forms.prometheus import FAMILIES

from .test_forms import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "docs/grafana-dashboard.json").read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [each["definition"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
QUERIES += re.findall(r"^ +expr: (.*)$", (ROOT / "docs/exporter.md").read_text(encoding="utf-8"), re.MULTILINE)
FUNCTIONS = {
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
LABELS = {"host", "tpu", "check", "state", "severity", "point"}


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
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["title"] and panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
