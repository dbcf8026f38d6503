"""clusteradm serve token: what it prints is what the inventory takes."""

from __future__ import annotations

import hashlib
import re

import pytest
import yaml

from clusteradm.cli.main import main
from clusteradm.inventory.variables import VARIABLES, complaint


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("camera-1", ["--models", "faces,people", "--rate", "20"]),
        ("7", ["--models", "on,12,2024-13-45,null,-,faces,faces"]),
        *((name, []) for name in ("-", "on", "null", "1.5", "2024-01-01", "2024-13-45", ".", "0x1F", "1e3")),
        ("x" * 60, ["--models", ",".join(f"a-model-of-a-long-name-{number}" for number in range(100))]),
        ("most", ["--rate", "1000000"]),
    ],
)
def test_its_lines_are_what_the_inventory_takes(name: str, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "token", name, *more]) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("  ")]
    (client,) = found = yaml.safe_load("\n".join(lines))["cluster_serve_clients"]
    assert complaint(VARIABLES["cluster_serve_clients"], found) is None
    assert client["name"] == name and client["sha256"] == hashlib.sha256(out.strip().encode()).hexdigest()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", out)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["c", "--rate", "1000001"], "1000000"),
        (["c", "--rate", "0"], "whole number"),
        (["c", "--models", ",".join(f"m{number}" for number in range(101))], "101 models"),
        (["c", "--models", "a,,b"], "name"),
        (["a b"], "client's name"),
    ],
)
def test_what_the_inventory_would_not_take_is_refused(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "token", *words])
    assert ended.value.code == 2 and text in capsys.readouterr().err
