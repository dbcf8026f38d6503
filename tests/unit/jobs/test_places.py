"""Hosts that running jobs use: those of the last attempt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from clusteradm.jobs.places import running_on


class Jobs:
    def list(self) -> list[Any]:
        return [
            SimpleNamespace(job="old", state="complete"),
            *(SimpleNamespace(job=job, state="running") for job in ("a", "b", "new", "ended")),
        ]

    def show(self, job: str) -> Any:
        hosts = {"a": [("w1", "w2"), ("w2",)], "b": [("w2", "w3")], "new": [], "ended": [("w1",)]}[job]
        attempts = [SimpleNamespace(hosts=some) for some in hosts]
        return SimpleNamespace(
            status=SimpleNamespace(state="complete" if job == "ended" else "running", attempts=attempts)
        )


def test_running_on() -> None:
    assert running_on(Jobs()) == {"w2": ["a", "b"], "w3": ["b"]}  # type: ignore[arg-type]
