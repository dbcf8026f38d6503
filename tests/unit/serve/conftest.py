"""One server for the tests of all protocols."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import made_models
import pytest
import serve_front
import serve_place as place

from clusteradm.node.serve.dispatch import Dispatch


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serve_front.Server]:
    """Two versions of the digits model, of which `stable` is the first, and a detector; the fronts of a board."""
    shared: Path = tmp_path_factory.mktemp("shared")
    for version in (1, 2):
        place.deploy(shared, version=version)
    files = tmp_path_factory.mktemp("colours")
    (files / "colours.tflite").write_bytes(made_models.colours())
    (files / "labels.txt").write_text("red\ngreen\nblue\n")
    place.deploy(shared, "colours", 1, files / "colours.tflite", files / "labels.txt")
    plane: Dispatch = place.plane(shared, {"digits": [1, 2], "colours": [1]}, digits={"stable": 1})
    with serve_front.serving(plane, tmp_path_factory.mktemp("front")) as found:
        yield found
