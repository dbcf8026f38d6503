"""Versions of Python, TFLite runtime, pycoral and libedgetpu that work together, by which bootstrap installs."""

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
class Combination:
    """One row of the table. `pycoral`: installed by apt; `requirement`: of pip, such as "tflite-runtime==2.14.0".

    `python`: versions such as "3.9"; `libedgetpu`: regular expression on the version of its Debian package.
    """

    name: str
    pycoral: bool
    requirement: str
    python: tuple[str, ...]
    libedgetpu: str


@functools.cache
def combinations() -> tuple[Combination, ...]:
    """Rows of the table, in its order."""
    return tuple(
        Combination(
            row["name"],
            row["install"] == "apt",
            "".join(row.get("requirements", [])[:1]),
            tuple(row["python"]),
            row["libedgetpu"],
        )
        for row in yaml.safe_load(TABLE.read_text(encoding="utf-8"))["runtimes"]
    )


@dataclass(frozen=True)
class Issue:
    """Defect of a host's runtime that keeps its ranks from using a TPU."""

    state: str
    cause: str
    remedy: str
    source: str


def issue(runtime: Reading, *, tpus: bool = True) -> Issue | None:
    """First defect in the section `runtime` of a document; None if there is none or the section was not asked for.

    `tpus`: whether the host needs the library of the Edge TPUs.
    """
    works = runtime.boolean("ok")
    if works is None:
        return None
    if not works:
        cause = f"the ranks' Python does not work: {runtime.text('error')}"
        return Issue("BROKEN", cause, BOOTSTRAP, "measured: a library that does not fit crashes its process")
    pycoral, tflite = runtime.boolean("google_pycoral"), runtime.text("litert") or runtime.text("tflite_runtime")
    if pycoral is False:
        cause = "the installed `pycoral` is not Google's but a tool for coral reefs of the same name"
        cause += "".join(f" ({where})" for where in (runtime.texts("pycoral") or ())[:1])
        return Issue("WRONG_PYCORAL", cause, "pip uninstall pycoral on the host", "no pycoral.utils.edgetpu; PyPI")
    if not (pycoral or tflite):
        cause = "neither pycoral nor a TFLite runtime is installed"
        return Issue("NO_RUNTIME", cause, BOOTSTRAP, "coral.ai/docs/m2/get-started")
    if tpus and runtime.has("library_error"):
        return Issue("NO_LIBRARY", f"libedgetpu: {runtime.text('library_error')}", BOOTSTRAP, "tflite#63")
    if text := mismatch(runtime):
        remedy = BOOTSTRAP + " (it installs by playbooks/vars/runtimes.yml)"
        return Issue("MISMATCH", text, remedy, "google-coral/edgetpu#812, google-coral/libedgetpu#53")
    return None


def mismatch(runtime: Reading) -> str:
    """Versions of a host's runtime that do not work together; empty if they do."""
    python = ".".join((runtime.text("python") or "").split(".")[:2])
    if runtime.boolean("google_pycoral"):
        candidates = [row for row in combinations() if row.pycoral]
        has = "pycoral"
    else:
        litert = runtime.text("litert")
        has = f"ai-edge-litert=={litert}" if litert else f"tflite-runtime=={runtime.text('tflite_runtime')}"
        candidates = [row for row in combinations() if row.requirement == has]
    if not candidates:
        return f"{has} is not in the table of runtimes that are known to work"
    fitting = [row for row in candidates if python in row.python]
    if not fitting:
        return f"{has} does not work with Python {python}"
    version = runtime.text("package")
    if version and not any(re.search(row.libedgetpu, version) for row in fitting):
        return (
            f"{fitting[0].name} and libedgetpu {version} are of different generations: loading it crashes the process"
        )
    return ""


def installed(runtime: Reading) -> str:
    """Names and versions of what is installed on a host, in one line."""
    parts = [
        "pycoral" if runtime.boolean("google_pycoral") else "",
        f"ai-edge-litert {runtime.text('litert')}" if runtime.text("litert") else "",
        f"tflite-runtime {runtime.text('tflite_runtime')}" if runtime.text("tflite_runtime") else "",
        f"libedgetpu {library}" if (library := runtime.text("package") or runtime.text("library")) else "",
        f"Python {runtime.text('python')}" if runtime.text("python") else "",
    ]
    return ", ".join(part for part in parts if part)
