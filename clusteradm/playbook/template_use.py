"""Use of a template by a task on one host, and the error where it cannot be rendered without a run."""

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

# Jinja's error has the name only in its message; that of `hostvars` also has the host.
_UNDEFINED = re.compile(r"'(\w+)' is undefined(?: for the host (\S+))?")
# Stricter than nearest's default: any two names that begin with cluster_ are similar.
_ALIKE = 0.8


@dataclass(frozen=True)
class TemplateUse:
    """A template task on one host. `src`: the template as the task names it; `variables`: those it is rendered with."""

    playbook: Playbook
    play: Play
    task: Task
    host: Host
    src: str
    variables: Variables

    def explain(self, error: Pending | TaskError) -> UsageError:
        """The error for the user: which variable is missing, and where to set it."""
        name, other = _missing(error)
        unknown = self._only_a_run_knows(name)
        near = ""
        if unknown:
            next_step = f"only a run knows {unknown}: clusteradm bootstrap --check --diff asks the host"
        elif name:
            near, next_step = self._near(name, other), self._where_to_set(name, other)
        else:
            next_step = f"correct that line, or the variables it uses: clusteradm inventory --host {self.host.name}"
        place = f'the task "{self.task.name}" ({self.task.place})'
        return UsageError(f"{error}{near}", where=place, next_step=next_step)

    def _only_a_run_knows(self, name: str) -> str:
        """The kind of value that the variable is; "" if a run would not know it either."""
        if name == "item" and self.task.loop is not None:
            return "the items of the task's loop"
        if name.startswith("ansible_") and name not in CONNECTION:
            return "the facts of a host"
        for task in (step.task for play in self.playbook.plays for step in play.steps):
            if name in task.defines:
                return f'the result of the task "{task.name}" ({task.place})'
        return ""

    def _near(self, name: str, other: str | None) -> str:
        if name in VARIABLES:
            return ""  # not misspelt, only not set
        seen = self.playbook.cluster.hosts[other].vars if other else self.variables
        return nearest(name, [*seen, *VARIABLES], _ALIKE)

    def _where_to_set(self, name: str, other: str | None) -> str:
        """`other`: the host whose variable it is, if it is not this one's."""
        cluster, known = self.playbook.cluster, VARIABLES.get(name)
        if known and known.scope == "cluster":
            return f"set it under all: vars: in {cluster.path}"
        places = []
        if known or not name.startswith("cluster_"):  # the inventory refuses unknown cluster_ variables
            places.append(f"for {other or self.host.name} in {cluster.path}")
        if not other:  # `hostvars` has no variables of a play
            places.append(f"under vars: of the play ({self.play.place})")
        return f"set it {', or '.join(places)}" if places else f"see what it has: clusteradm inventory --host {other}"


def _missing(error: Pending | TaskError) -> tuple[str, str | None]:
    """The variable that is missing ("" if the error is another), and the host it was asked of if not the own."""
    if isinstance(error, Pending):
        return error.name, None
    found = _UNDEFINED.search(str(error))
    return (found[1], found[2]) if found else ("", None)
