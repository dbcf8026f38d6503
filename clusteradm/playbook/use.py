"""A task's use of a template on one host, and what to do where it fails without a run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clusteradm.errors import UsageError
from clusteradm.inventory import Host
from clusteradm.inventory.variables import CONNECTION, VARIABLES
from clusteradm.nearest import nearest
from clusteradm.playbook.model import Play, Playbook, Task
from clusteradm.playbook.render.variables import Variables
from clusteradm.playbook.run.planner import TaskError
from clusteradm.playbook.state import Pending

# Jinja's error has the name in its words alone; that of `hostvars` has the host as well.
_UNDEFINED = re.compile(r"'(\w+)' is undefined(?: for the host (\S+))?")
# Any two names that begin with cluster_ are alike to some degree.
_ALIKE = 0.8


@dataclass(frozen=True)
class Use:
    """`src`: the template as the task names it; `variables`: what it renders with."""

    playbook: Playbook
    play: Play
    task: Task
    host: Host
    src: str
    variables: Variables

    def failed(self, error: Pending | TaskError) -> UsageError:
        """The error for whoever wants to see the template: which variable it lacks, and where that comes from."""
        name, other = _lacking(error)
        unknown = self._only_a_run_knows(name)
        near = ""
        if unknown:
            next_step = f"only a run knows {unknown}: clusteradm bootstrap --check --diff asks the host"
        elif name:
            near, next_step = self._near(name, other), self._where_to_set(name, other)
        else:
            next_step = f"mend that line, or what it uses: clusteradm inventory --host {self.host.name}"
        place = f'the task "{self.task.name}" ({self.task.place})'
        return UsageError(f"{error}{near}", where=place, next_step=next_step)

    def _only_a_run_knows(self, name: str) -> str:
        """Of what the variable is part; "" where it would not be there in a run either."""
        if name == "item" and self.task.loop is not None:
            return "the items of the task's loop"
        if name.startswith("ansible_") and name not in CONNECTION:
            return "the facts of a host"
        for task in (step.task for play in self.playbook.plays for step in play.steps):
            if name in task.defines:
                return f'what comes of the task "{task.name}" ({task.place})'
        return ""

    def _near(self, name: str, other: str | None) -> str:
        if name in VARIABLES:
            return ""  # it is no slip: nobody has set it
        seen = self.playbook.cluster.hosts[other].vars if other else self.variables
        return nearest(name, [*seen, *VARIABLES], _ALIKE)

    def _where_to_set(self, name: str, other: str | None) -> str:
        """`other`: whose variable it is, where it is not the host's own."""
        cluster, known = self.playbook.cluster, VARIABLES.get(name)
        if known and known.scope == "cluster":
            return f"set it under all: vars: in {cluster.path}"
        places = []
        if known or not name.startswith("cluster_"):  # which the inventory would refuse
            places.append(f"for {other or self.host.name} in {cluster.path}")
        if not other:  # `hostvars` has no variables of a play
            places.append(f"under vars: of the play ({self.play.place})")
        return f"set it {', or '.join(places)}" if places else f"see what it has: clusteradm inventory --host {other}"


def _lacking(error: Pending | TaskError) -> tuple[str, str | None]:
    """The variable that is not there, or "" where it is something else; and of which other host, if so."""
    if isinstance(error, Pending):
        return error.name, None
    found = _UNDEFINED.search(str(error))
    return (found[1], found[2]) if found else ("", None)
