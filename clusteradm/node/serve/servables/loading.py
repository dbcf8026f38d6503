"""Loading of a servable from the folder of its version, and its first runs."""

import contextlib
import time
from dataclasses import replace
from typing import NamedTuple, Optional

from clusteradm.node.models import store
from clusteradm.node.serve.loaded import Loaded, about
from clusteradm.node.serve.servables import data, memory, python, steps
from clusteradm.node.serve.servables.work import BadInput, Defect, Work, conformed
from clusteradm.node.spec.servables import transforms
from clusteradm.node.spec.servables.problem import Problem
from clusteradm.node.spec.wire.manifest import Manifest
from clusteradm.node.spec.wire.servables import ENSEMBLE, PYTHON

_TIMED = 3


class Ready(NamedTuple):
    """A servable that can be called, and what is said of it."""

    work: Work
    loaded: Loaded


def load(key: int, name: str, version: int, folder: str, packages: Optional[str] = None) -> Ready:
    """Load it and try it. `packages`: the folder of those that serve up has installed. Raises Problem, OSError."""
    manifest = store.manifest(folder)
    if manifest is None or manifest.servable is None:
        raise Problem("its manifest is damaged: clusteradm model verify %s says more" % name)
    began = time.perf_counter()
    transforms.check_tensors(manifest.inputs, "input")
    transforms.check_tensors(manifest.outputs, "output")
    work = _work(manifest, folder, packages)
    seconds = min(_timed(work) for _ in range(_TIMED))
    loaded = replace(
        about(folder, key, name, version),
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        servable=manifest.servable,
        load_seconds=time.perf_counter() - began,
        seconds=seconds,
    )
    return Ready(work, loaded)


def tried(folder: str, packages: Optional[str] = None) -> None:
    """Load it within the memory that it may have. What it says against it, it will say again."""
    with contextlib.suppress(Problem, OSError):
        manifest = store.manifest(folder)
        memory.limit(memory.of(manifest.servable if manifest is not None else None))
        load(1, "trial", 1, folder, packages)


def _work(manifest: Manifest, folder: str, packages: Optional[str]) -> Work:
    kind = manifest.servable.kind if manifest.servable is not None else ""
    if kind == PYTHON:
        return python.PythonWork(manifest, packages)
    if kind == ENSEMBLE:
        return steps.EnsembleWork(manifest)
    return data.made(manifest, folder)


def _timed(work: Work) -> float:
    """Seconds of one run on what is made up, which the servable may refuse. Raises Problem where it returns something
    else than its manifest says."""
    inputs = work.sample()
    began = time.perf_counter()
    if inputs is not None:
        with contextlib.suppress(BadInput):
            try:
                conformed(work.run(None, inputs), work.outputs)
            except Defect as defect:
                if defect.__cause__ is None:  # not raised by somebody's code
                    raise Problem(str(defect)) from None
    return time.perf_counter() - began
