"""Which Python, TFLite runtime, pycoral and libedgetpu go together: the table that bootstrap installs by."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import yaml

from clusteradm import shipped
from clusteradm.health.finding import BOOTSTRAP
from clusteradm.health.reading import Reading

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


def problem(runtime: Reading) -> Problem | None:
    """What is wrong with a host's runtime; None where nothing is known to be, or where it was not asked."""
    works = runtime.truth("ok")
    if works is None:
        return None
    if not works:
        cause = f"the ranks' Python does not work: {runtime.text('error')}"
        return Problem("BROKEN", cause, BOOTSTRAP, "measured: a library that does not fit crashes its process")
    pycoral, tflite = runtime.truth("google_pycoral"), runtime.text("litert") or runtime.text("tflite_runtime")
    if pycoral is False:
        cause = "the installed `pycoral` is not Google's but a tool for coral reefs of the same name"
        cause += "".join(f" ({where})" for where in (runtime.texts("pycoral") or ())[:1])
        return Problem("WRONG_PYCORAL", cause, "pip uninstall pycoral on the host", "no pycoral.utils.edgetpu; PyPI")
    if not (pycoral or tflite):
        cause = "neither pycoral nor a TFLite runtime is installed"
        return Problem("NO_RUNTIME", cause, BOOTSTRAP, "coral.ai/docs/m2/get-started")
    if runtime.has("library_error"):
        return Problem("NO_LIBRARY", f"libedgetpu: {runtime.text('library_error')}", BOOTSTRAP, "tflite#63")
    if text := mismatch(runtime):
        remedy = BOOTSTRAP + " (it installs by playbooks/vars/runtimes.yml)"
        return Problem("MISMATCH", text, remedy, "google-coral/edgetpu#812, google-coral/libedgetpu#53")
    return None


def mismatch(runtime: Reading) -> str:
    """What of a host's runtime does not go together; empty where all does."""
    python = ".".join((runtime.text("python") or "").split(".")[:2])
    if runtime.truth("google_pycoral"):
        candidates = [row for row in rows() if row.pycoral]
        has = "pycoral"
    else:
        litert = runtime.text("litert")
        has = f"ai-edge-litert=={litert}" if litert else f"tflite-runtime=={runtime.text('tflite_runtime')}"
        candidates = [row for row in rows() if row.requirement == has]
    if not candidates:
        return f"{has} is in no row of the table of runtimes that are known to work"
    fitting = [row for row in candidates if python in row.python]
    if not fitting:
        return f"{has} does not go with Python {python}"
    version = runtime.text("package")
    if version and not any(re.search(row.libedgetpu, version) for row in fitting):
        return (
            f"{fitting[0].name} and libedgetpu {version} are of different generations: loading it crashes the process"
        )
    return ""


def installed(runtime: Reading) -> str:
    """What a host has, in one line."""
    parts = [
        "pycoral" if runtime.truth("google_pycoral") else "",
        f"ai-edge-litert {runtime.text('litert')}" if runtime.text("litert") else "",
        f"tflite-runtime {runtime.text('tflite_runtime')}" if runtime.text("tflite_runtime") else "",
        f"libedgetpu {library}" if (library := runtime.text("package") or runtime.text("library")) else "",
        f"Python {runtime.text('python')}" if runtime.text("python") else "",
    ]
    return ", ".join(part for part in parts if part)
