"""Which Python, TFLite runtime, pycoral and libedgetpu go together: the table that bootstrap installs by."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from clusteradm import shipped

TABLE = shipped.PLAYBOOKS / "vars" / "runtimes.yml"


@dataclass(frozen=True)
class Row:
    """One combination. `python`: versions such as "3.9"; `libedgetpu`: a regular expression on its package version."""

    name: str
    pycoral: bool
    requirement: str
    python: tuple[str, ...]
    libedgetpu: str


@functools.cache
def rows() -> tuple[Row, ...]:
    """The table, in its order."""
    return tuple(
        Row(
            row["name"],
            row["install"] == "apt",
            "".join(row.get("requirements", [])[:1]),
            tuple(row["python"]),
            row["libedgetpu"],
        )
        for row in yaml.safe_load(TABLE.read_text(encoding="utf-8"))["runtimes"]
    )


def mismatch(runtime: Mapping[str, Any]) -> str:
    """What of a host's runtime does not go together; empty where all does."""
    python = ".".join(str(runtime["python"]).split(".")[:2])
    if runtime["google_pycoral"]:
        candidates = [row for row in rows() if row.pycoral]
        has = "pycoral"
    else:
        has = (
            f"ai-edge-litert=={runtime['litert']}"
            if runtime["litert"]
            else f"tflite-runtime=={runtime['tflite_runtime']}"
        )
        candidates = [row for row in rows() if row.requirement == has]
    if not candidates:
        return f"{has} is in no row of the table of runtimes that are known to work"
    fitting = [row for row in candidates if python in row.python]
    if not fitting:
        return f"{has} does not go with Python {python}"
    version = runtime["package"]
    if version and not any(re.search(row.libedgetpu, version) for row in fitting):
        return (
            f"{fitting[0].name} and libedgetpu {version} are of different generations: loading it crashes the process"
        )
    return ""
