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


@dataclass(frozen=True)
class Problem:
    """Why the ranks of a host cannot use its TPUs."""

    state: str
    cause: str
    remedy: str
    source: str


BOOTSTRAP = "run clusteradm bootstrap"


def problem(runtime: Mapping[str, Any]) -> Problem | None:
    """What is wrong with a host's runtime; None where nothing is known to be, or where it was not asked."""
    if not isinstance(runtime.get("ok"), bool):
        return None
    if not runtime["ok"]:
        cause = f"the ranks' Python does not work: {runtime.get('error')}"
        return Problem("BROKEN", cause, BOOTSTRAP, "measured: a library that does not fit crashes its process")
    pycoral, tflite = runtime.get("google_pycoral"), runtime.get("litert") or runtime.get("tflite_runtime")
    if pycoral is False:
        where = runtime.get("pycoral")
        cause = "the installed `pycoral` is not Google's but a tool for coral reefs of the same name"
        cause += f" ({where[0]})" if isinstance(where, list) and where else ""
        return Problem("WRONG_PYCORAL", cause, "pip uninstall pycoral on the host", "no pycoral.utils.edgetpu; PyPI")
    if not (pycoral or tflite):
        cause = "neither pycoral nor a TFLite runtime is installed"
        return Problem("NO_RUNTIME", cause, BOOTSTRAP, "coral.ai/docs/m2/get-started")
    if "library_error" in runtime:
        return Problem("NO_LIBRARY", f"libedgetpu: {runtime['library_error']}", BOOTSTRAP, "tflite#63")
    if text := mismatch(runtime):
        remedy = BOOTSTRAP + " (it installs by playbooks/vars/runtimes.yml)"
        return Problem("MISMATCH", text, remedy, "google-coral/edgetpu#812, google-coral/libedgetpu#53")
    return None


def mismatch(runtime: Mapping[str, Any]) -> str:
    """What of a host's runtime does not go together; empty where all does."""
    python = ".".join(str(runtime.get("python")).split(".")[:2])
    if runtime.get("google_pycoral"):
        candidates = [row for row in rows() if row.pycoral]
        has = "pycoral"
    else:
        litert = runtime.get("litert")
        has = f"ai-edge-litert=={litert}" if litert else f"tflite-runtime=={runtime.get('tflite_runtime')}"
        candidates = [row for row in rows() if row.requirement == has]
    if not candidates:
        return f"{has} is in no row of the table of runtimes that are known to work"
    fitting = [row for row in candidates if python in row.python]
    if not fitting:
        return f"{has} does not go with Python {python}"
    version = runtime.get("package")
    if isinstance(version, str) and version and not any(re.search(row.libedgetpu, version) for row in fitting):
        return (
            f"{fitting[0].name} and libedgetpu {version} are of different generations: loading it crashes the process"
        )
    return ""


def installed(runtime: Mapping[str, Any]) -> str:
    """What a host has, in one line."""
    parts = [
        "pycoral" if runtime.get("google_pycoral") else "",
        f"ai-edge-litert {runtime['litert']}" if runtime.get("litert") else "",
        f"tflite-runtime {runtime['tflite_runtime']}" if runtime.get("tflite_runtime") else "",
        f"libedgetpu {runtime['package']}" if runtime.get("package") else "",
        f"Python {runtime['python']}" if runtime.get("python") else "",
    ]
    return ", ".join(part for part in parts if part)
