"""docs/grafana-serving.json asks for metrics and labels that boards have."""

from __future__ import annotations

import re

import dashboards
import pytest

from clusteradm.node.serve.fronts.metrics import FAMILIES, PREFIX

DASHBOARD = dashboards.load("grafana-serving.json")
QUERIES = dashboards.queries(DASHBOARD)
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
    dashboards.check_places(DASHBOARD)
