"""Grafana dashboards of docs/: what they ask Prometheus for, and how their panels lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load(name: str) -> dict[str, Any]:
    """The dashboard of docs/NAME."""
    document: dict[str, Any] = json.loads((DOCS / name).read_text(encoding="utf-8"))
    return document


def queries(dashboard: dict[str, Any]) -> list[str]:
    """The queries of its panels, and of the variables that it offers."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return found + [each["definition"] for each in dashboard["templating"]["list"] if each["type"] == "query"]


def check_places(dashboard: dict[str, Any]) -> None:
    """Assert that no two panels share a place of the grid, and that each has a title and the chosen data source."""
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["title"] and panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
