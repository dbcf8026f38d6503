"""docs/grafana-serving.json asks for metrics and labels that boards have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.serve.fronts.metrics import FAMILIES, PREFIX

PAGE = Path(__file__).resolve().parents[3] / "docs/grafana-serving.json"
DASHBOARD: dict[str, Any] = json.loads(PAGE.read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [each["definition"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
WORDS = {"sum", "by", "rate", "count", "or", "vector", "histogram_quantile", "label_values", "instance", "le"}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_what_exists(query: str) -> None:
    assert query.count("(") == query.count(")") and query.count("{") == query.count("}")
    bare = re.sub(r'"[^"]*"|\$\w+|\[[^]]*\]', " ", query)
    labels = {label for family in FAMILIES.values() for label in family.labels}
    for word in set(re.findall(r"[a-zA-Z_]\w*", bare)):
        if word.startswith(PREFIX):
            name = re.sub("_(bucket|sum|count)$", "", word[len(PREFIX) :])
            assert name in FAMILIES and (name == word[len(PREFIX) :]) == (FAMILIES[name].kind != "histogram")
        else:
            assert word in WORDS | labels
    for name, selector in re.findall(PREFIX + r"(\w+)\{([^}]*)\}", query):
        family = FAMILIES[re.sub("_(bucket|sum|count)$", "", name)]
        assert set(re.findall(r"(\w+)(?:=~|!=|=)", selector)) <= {*family.labels, "instance"}


def test_every_panel_has_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["title"] and panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
