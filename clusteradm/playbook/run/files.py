"""Files that the admin's machine provides for a play before it begins, because its hosts need no way out.

A play names them in its variable `clusteradm_fetch`, a list that may differ per host; its tasks see in the variable
`clusteradm_files` what became of each. Ansible knows neither: shipped playbooks read clusteradm.lock there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from clusteradm.playbook.model import Play
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.run.planner import Planner
from clusteradm.playbook.state import HostState

WANTED = "clusteradm_fetch"


class Files(Protocol):
    """Whoever provides them. `known`: what is known of each, by its address."""

    known: dict[str, dict[str, Any]]

    def provide(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Provide what each host (by name) wants, and enter it into `known`."""


def wanted(play: Play, states: Iterable[HostState], planner: Planner) -> dict[str, list[str]]:
    """What each host wants for the play. A host whose list cannot be rendered wants nothing: its tasks say why."""
    found: dict[str, list[str]] = {}
    if not play.steps or not (WANTED in play.vars or WANTED in play.file_vars):
        return found
    for state in states:
        variables = planner.variables(state.host, play, play.steps[0].task, 0)
        try:
            texts = strict(variables[WANTED])
        except Exception:  # noqa: S112 - whatever a template of a playbook raises
            continue
        if isinstance(texts, list) and texts:
            found[state.name] = [str(text) for text in texts]
    return found
