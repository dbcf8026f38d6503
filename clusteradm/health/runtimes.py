"""Versions of Python, TFLite runtime, pycoral and libedgetpu that work together, by which bootstrap installs."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clusteradm import shipped
from clusteradm.health.finding import BOOTSTRAP
from clusteradm.health.reading import Reading

TABLE = shipped.PLAYBOOKS / "vars" / "runtimes.yml"
PROOFS = Path(__file__).parent / "tpu" / "delegates.yml"
WORKS = "works"
# In what libedgetpu says of itself (edgetpu_version): the compilers that built Google's for all machines. Rebuilt ones
# name later compilers.
_OF_GOOGLE = re.compile(r"COMPILER=(5\.4\.0 20160609|6\.3\.0 20170516)\b")
_GOOGLES = 64
_REMOVE = "remove it from the host (`ldconfig -p | grep libedgetpu` says where it is), ldconfig, then " + BOOTSTRAP
_BY_TABLE = BOOTSTRAP + " (it installs by playbooks/vars/runtimes.yml)"


@dataclass(frozen=True)
class Combination:
    """One row of the table. `requirement`: of pip, such as "ai-edge-litert==2.3.0"; "" where apt installs pycoral.

    `python`: versions such as "3.9"; `registration`: bytes of the runtime's TfLiteRegistration.
    """

    name: str
    requirement: str
    python: tuple[str, ...]
    registration: int


@dataclass(frozen=True)
class Proof:
    """What came of loading delegates into a runtime: bytes of a delegate's registration -> WORKS, or how it failed.

    "shim" -> of the oldest behind the shim (playbooks/shim.yml).
    """

    runtime: str
    registration: int
    results: Mapping[int | str, str]


@functools.cache
def combinations() -> tuple[Combination, ...]:
    """Rows of the table, in its order."""
    return tuple(
        Combination(row["name"], "".join(row.get("requirements", [])[:1]), tuple(row["python"]), row["registration"])
        for row in _table()["runtimes"]
    )


@functools.cache
def proofs() -> tuple[Proof, ...]:
    """The attempts of tests/delegates/prove.py."""
    return tuple(
        Proof(f"{row['name']}=={row['version']}", row["registration"], row["results"])
        for row in yaml.safe_load(PROOFS.read_text(encoding="utf-8"))["runtimes"]
    )


@functools.cache
def _table() -> Any:
    return yaml.safe_load(TABLE.read_text(encoding="utf-8"))


def registration(version: str) -> int | None:
    """Bytes of TfLiteRegistration of a libedgetpu, by its package's version; None for a version that is not known."""
    return next((row["registration"] for row in _table()["libraries"] if re.search(row["version"], version)), None)


@dataclass(frozen=True)
class Issue:
    """Defect of a host's runtime that keeps its ranks from using a TPU.

    `proven`: versions that were tried and do not work together, whatever one inference says: what goes wrong depends on
    what lies in memory.
    """

    state: str
    cause: str
    remedy: str
    source: str
    proven: bool = False


def issue(runtime: Reading, *, tpus: bool = True, infers: bool = False) -> Issue | None:
    """First defect in the section `runtime` of a document; None if there is none or the section was not asked for.

    `tpus`: whether the host needs the library of the Edge TPUs; `infers`: whether a trial inference showed that the
    versions work together, which leaves only what is proven.
    """
    found = _first(runtime, tpus)
    return None if found and infers and not found.proven else found


def _first(runtime: Reading, tpus: bool) -> Issue | None:
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
    if not (tflite or (pycoral and _has_pycoral(runtime))):
        cause = "neither pycoral nor a TFLite runtime is installed"
        if pycoral:
            cause = f"no TFLite runtime is installed, and pycoral is not used with Python {_python(runtime)}"
        return Issue("NO_RUNTIME", cause, BOOTSTRAP, "coral.ai/docs/m2/get-started")
    if tpus and runtime.has("library_error"):
        return Issue("NO_LIBRARY", f"libedgetpu: {runtime.text('library_error')}", BOOTSTRAP, "tflite#63")
    if tpus and (text := unfit(runtime)):
        remedy = _REMOVE if _is_stray(runtime) else _BY_TABLE
        return Issue("MISMATCH", text, remedy, "tests/delegates; google-coral/edgetpu#812", proven=True)
    if text := unknown(runtime):
        return Issue("MISMATCH", text, _BY_TABLE, "google-coral/edgetpu#812, google-coral/libedgetpu#53")
    return None


def _python(runtime: Reading) -> str:
    """The host's Python as the table has it, such as "3.11"; "" where that is not known."""
    return ".".join((runtime.text("python") or "").split(".")[:2])


def _has_pycoral(runtime: Reading) -> bool:
    """Whether the table has pycoral for the host's Python; ranks load it there alone (node/edgetpu/tflite.py)."""
    python = _python(runtime)
    return not python or any(not row.requirement and python in row.python for row in combinations())


def _of_ranks(runtime: Reading) -> str:
    """The runtime that ranks load for a TPU, as pip names it: LiteRT first where the table has no pycoral, whose
    runtime is tflite_runtime."""
    tflite, litert = runtime.text("tflite_runtime"), runtime.text("litert")
    older = bool(tflite or runtime.boolean("google_pycoral")) if _has_pycoral(runtime) else litert is None
    return f"tflite-runtime=={tflite}" if older else f"ai-edge-litert=={litert}"


def _proof(name: str) -> Proof | None:
    """What was proven of this runtime. tflite-runtime has TensorFlow's number, and the structures of that release."""
    for proof in proofs():
        if proof.runtime == name:
            return proof
    distribution, _, version = name.partition("==")
    size = registration(f"tf{version}") if distribution == "tflite-runtime" else None
    return next((proof for proof in proofs() if proof.registration == size), None)


def unfit(runtime: Reading) -> str:
    """Why the delegate of the host's libedgetpu does not fit its runtime, as was tried; empty if it does.

    Of a library behind the shim, which pads what is missing, the trial inference decides.
    """
    if runtime.boolean("shim"):
        return ""
    version, name = runtime.text("package"), _of_ranks(runtime)
    library = f"libedgetpu {version}"
    size, proof = registration(version or ""), _proof(name)
    if _is_stray(runtime):
        library, size = "a libedgetpu of Google's that is no package's", _GOOGLES
    if size is None or proof is None or (result := proof.results.get(size, WORKS)) == WORKS:
        return ""
    how = "its results can be wrong" if result == "wrong" else f"loading it crashes the process ({result})"
    return f"{name.replace('==', ' ')} and {library} are of different generations: {how}"


def _is_stray(runtime: Reading) -> bool:
    """Whether the library that is loaded is Google's, by its build label, and not that of the host's package."""
    label, version = runtime.text("library"), runtime.text("package")
    return _OF_GOOGLE.search(label or "") is not None and registration(version or "") != _GOOGLES


def unknown(runtime: Reading) -> str:
    """Versions of a host's runtime of which it is not known whether they work together; empty if it is."""
    python = _python(runtime)
    version, name = runtime.text("package"), _of_ranks(runtime)
    if _proof(name) is None:
        return f"{name} is not in the table of runtimes that are known to work"
    row = next((row for row in combinations() if row.requirement == name), None)
    if row and python not in row.python:
        return f"{name} does not work with Python {python}"
    if version and registration(version) is None:
        return f"it is not known which TensorFlow Lite libedgetpu {version} was built for"
    return ""


def installed(runtime: Reading) -> str:
    """Names and versions of what is installed on a host, in one line."""
    behind = " behind a shim (experimental)" if runtime.boolean("shim") else ""
    parts = [
        "pycoral" if runtime.boolean("google_pycoral") else "",
        f"ai-edge-litert {runtime.text('litert')}" if runtime.text("litert") else "",
        f"tflite-runtime {runtime.text('tflite_runtime')}" if runtime.text("tflite_runtime") else "",
        f"libedgetpu {library}{behind}" if (library := runtime.text("package") or runtime.text("library")) else "",
        f"Python {runtime.text('python')}" if runtime.text("python") else "",
    ]
    return ", ".join(part for part in parts if part)
