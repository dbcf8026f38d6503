"""A TPU that a job has drained comes back when health has tried it, and no sooner."""

from __future__ import annotations

from typing import Any

import pytest

from clusteradm.fleet.drains import Drain, Drains
from clusteradm.health import Survey
from clusteradm.health.finding import Finding, error, ok
from clusteradm.node.spec.wire.fleet import ChangeDrains

A = "0000:01:00.0"
JOB = "job 20260101-000000-abcdef"
WELL = ok(f"w1 {A}", "tpu", "/dev/apex_0")


def document(tried: bool | None) -> dict[str, Any]:
    if tried is None:  # another probe tried them, or it was in use
        return {"trial": {"attempts": {}}}
    return {"trial": {"attempts": {A: {"ok": tried, "stage": "done"}}}}


@pytest.mark.parametrize(
    ("by", "tried", "finding", "back"),
    [
        (JOB, True, WELL, True),
        (JOB, None, WELL, False),
        (JOB, False, WELL, False),
        (JOB, True, error(f"w1 {A}", "tpu", "HOT", "102 C", "r"), False),
        ("ann", True, WELL, False),
    ],
)
def test_it_comes_back(
    monkeypatch: pytest.MonkeyPatch, by: str, tried: bool | None, finding: Finding, back: bool
) -> None:
    drains = Drains.__new__(Drains)
    drain, asked = Drain("w1", A, "it hangs", by, 1), []
    monkeypatch.setattr(drains, "all", lambda: (drain, Drain("w9", A, "away", JOB, 1)), raising=False)
    monkeypatch.setattr(drains, "_ask", asked.append, raising=False)
    survey = Survey(documents={"w1": document(tried)})
    assert drains.return_well(survey, [finding]) == ((drain,) if back else ())
    assert asked == ([ChangeDrains(undrain=(f"w1:{A}",))] if back else [])
