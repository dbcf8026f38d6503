"""A host without python3, as a run tells of it; the installation itself is tested on a run_state of the lab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import HostFailed
from clusteradm.inventory import Host
from clusteradm.playbook import Playbook, PlaybookRun, TaskOutput
from clusteradm.transport import Node
from clusteradm.transport.python import NoPython

from .conftest import LocalConnections, Outcome

BOOK = """
    - hosts: compute
      become: true
      strategy: free
      tasks:
        - name: Anything
          command: echo
          changed_when: false
"""


class BareConnections(LocalConnections):
    """w1 has no python3 until it is given one; `can`: whether its sources have it."""

    on_missing_python: Callable[..., None] | None = None
    can = True
    bare = True

    def node(self, host: Host, guest: str = "") -> Node:
        if host.name == "w1" and self.bare:
            if self.on_missing_python is None:
                raise NoPython(host.name)
            self.on_missing_python(host, self._install)
        return super().node(host, guest)

    def _install(self, tell: Callable[[str], None]) -> None:
        tell("refreshing the package lists")
        if not self.can:
            raise HostFailed("there is no python3, and it cannot be installed: E: no such package", where="w1")
        self.bare = False


@pytest.fixture
def run(book: Callable[[str], Playbook], tmp_path: Path) -> Callable[..., Outcome]:
    def execute(*, can: bool = True, **options: Any) -> Outcome:
        events: list[Any] = []
        connections = BareConnections(tmp_path / "state")
        connections.can = can
        with connections:
            return Outcome(events, PlaybookRun(book(BOOK), connections, **options).execute(events.append))  # type: ignore[arg-type]

    return execute


def test_it_is_told_and_counted_as_a_task(run: Callable[..., Outcome]) -> None:
    outcome = run()
    assert outcome.results("w1") == [("Install python3", "changed"), ("Gathering Facts", "ok"), ("Anything", "ok")]
    assert [event.text for event in outcome.events if isinstance(event, TaskOutput)][:1] == [
        "refreshing the package lists"
    ]
    assert (outcome.recap.hosts["w1"].changed, outcome.recap.hosts["w2"].changed) == (1, 0)


def test_where_it_cannot_be_had_the_others_go_on(run: Callable[..., Outcome]) -> None:
    recap = run(can=False).recap
    assert "cannot be installed: E: no such package" in recap.hosts["w1"].reason
    assert (recap.hosts["w1"].failed, recap.hosts["w2"].failed) == (1, 0)


def test_a_check_installs_nothing(run: Callable[..., Outcome]) -> None:
    recap = run(check=True).recap
    assert recap.hosts["w1"].failed and "clusteradm bootstrap installs python3" in recap.hosts["w1"].reason
