"""The proof of which delegate fits which runtime, on the runtime that is installed here, against what is recorded."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert")

from clusteradm.health import runtimes
from tests.delegates import prove


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the record is of x86-64")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_record_holds_for_this_runtime(tmp_path: Path) -> None:
    name = f"ai-edge-litert=={importlib.metadata.version('ai-edge-litert')}"
    (recorded,) = (proof for proof in runtimes.proofs() if proof.runtime == name)
    prove.prepare(tmp_path)
    attempts = prove.prove([sys.executable], "ai_edge_litert", tmp_path)
    assert {size: one.result for size, one in attempts.items()} == recorded.results
    assert prove.registration(attempts) == recorded.registration


def test_every_runtime_that_is_tried_is_recorded() -> None:
    tried = [f"{name}=={version}" for name, (_, versions) in prove.RUNTIMES.items() for version in versions]
    assert tried == [proof.runtime for proof in runtimes.proofs()]
    assert all(set(proof.results) - {prove.SHIMMED} == set(prove.GENERATIONS) for proof in runtimes.proofs())
