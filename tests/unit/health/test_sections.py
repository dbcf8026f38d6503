"""The sections of a probe, each in a process of its own: one that dies or hangs takes none of the others along."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from clusteradm.node.probe import sections as probe


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the real sections by the test's own; the one that hangs has a second, the others have time to spare."""

    def install(**named: Callable[[str, dict[str, Any]], Any]) -> None:
        for name, function in named.items():
            module = ModuleType(f"clusteradm.node.probe.{name}")
            module.probe = function  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(probe, "SECTIONS", {name: 1.0 if name == "hangs" else 30.0 for name in named})

    return install


def ask(*names: str) -> dict[str, Any]:
    return dict(probe.run({"sections": names, "options": {"x": 1}}, lambda reply: None)["document"])


def test_each_answers_for_itself(sections: Callable[..., None]) -> None:
    sections(
        hangs=lambda root, options: time.sleep(60),
        dies=lambda root, options: os._exit(1),
        raises=lambda root, options: 1 // 0,
        works=lambda root, options: {"root": root, **options},
        nothing=lambda root, options: None,
        large=lambda root, options: "x" * 1_000_000,
    )
    begun = time.monotonic()
    found = ask()
    assert 1 <= time.monotonic() - begun < 30
    assert found["hangs"] == {"error": "no answer within 1 s"}
    assert found["dies"] == {"error": "the probe's process died"}
    assert found["raises"] == {"error": "ZeroDivisionError: integer division or modulo by zero"}
    assert found["works"] == {"root": "/", "x": 1} and found["nothing"] is None and len(found["large"]) == 1_000_000
    assert set(found["seconds"]) == {"raises", "works", "nothing", "large"}


def test_only_what_was_asked_for(sections: Callable[..., None]) -> None:
    sections(one=lambda root, options: 1, other=lambda root, options: 2)
    found = ask("other")
    assert found["other"] == 2 and "one" not in found


def test_every_real_section_has_a_module() -> None:
    for name in probe.SECTIONS:
        assert callable(__import__(f"clusteradm.node.probe.{name}", fromlist=["probe"]).probe)
