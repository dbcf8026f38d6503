"""A template rendered for a host without a connection, by the planner that a run uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.playbook.model import Play, Playbook, Step
from clusteradm.playbook.read.reader import load
from clusteradm.playbook.render.jinja import Templates
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.render.variables import Variables, find
from clusteradm.playbook.run.planner import Planner, TaskError
from clusteradm.playbook.state import Pending, RunState
from clusteradm.playbook.template_use import TemplateUse


def preview(path: Path, playbook: Path, cluster: Cluster, host: Host) -> str:
    """The text of the template at `path` for the host, with the variables of the first task that uses it.

    Raises UsageError if no task uses it, or if it needs a value that only a run can know.
    """
    templates = Templates()
    plays = load(playbook, cluster, templates)
    run_state = RunState(cluster.hosts.values())
    planner = Planner(plays, run_state, templates, check=False, diff=False, limit=None)
    for play, step in _template_steps(plays):
        members = [each.name for each in cluster.select(play.hosts)]
        run_state.begin_play(play, members)
        variables = planner.variables(host, play, step.task, step.index)
        found = _uses(path, step, variables)
        if found is None:
            continue
        if host.name not in members:
            raise UsageError(f'{path} belongs to the play "{play.name}", which does not include {host.name}')
        use = TemplateUse(plays, play, step.task, host, *found)
        try:
            return planner.template(use.task, use.src, use.variables)
        except (Pending, TaskError) as error:
            raise use.explain(error) from error
    raise UsageError(f"no task of {playbook} uses the template {path}")


def _template_steps(playbook: Playbook) -> Iterator[tuple[Play, Step]]:
    for play in playbook.plays:
        for step in play.steps:
            if step.task.module == "template":
                yield play, step


def _uses(path: Path, step: Step, variables: Variables) -> tuple[str, Variables] | None:
    """The source as the task names it, and the variables to render it with; None if the task uses another file."""
    scopes = [variables]
    if step.task.loop is not None:
        try:
            items = strict(variables.render(step.task.loop))
        except Exception:  # a loop over values that only a run knows: its source may still be constant
            items = None
        if isinstance(items, list):
            scopes = [variables.with_local({"item": item}) for item in items]
    for scope in scopes:
        # A source that cannot be rendered without a run is taken for another file.
        with contextlib.suppress(Exception):
            src: Any = strict(scope.render(step.task.args["src"]))
            if find(src, step.task, "templates").resolve() == path.resolve():
                return src, scope
    return None
