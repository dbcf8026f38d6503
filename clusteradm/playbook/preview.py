"""A template as a host would get it, without a connection: through the same planner as the run."""

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
from clusteradm.playbook.state import Board, Pending
from clusteradm.playbook.use import Use


def preview(path: Path, playbook: Path, cluster: Cluster, host: Host) -> str:
    """The text of the template at `path` for the host, with the variables of the first task that uses it.

    Raises UsageError where no task uses it, or where it needs what only a run can know.
    """
    templates = Templates()
    plays = load(playbook, cluster, templates)
    board = Board(cluster.hosts.values())
    planner = Planner(plays, board, templates, check=False, diff=False, limit=None)
    for play, step in _template_steps(plays):
        members = [each.name for each in cluster.select(play.hosts)]
        board.begin(play, members)
        variables = planner.variables(host, play, step.task, step.index)
        found = _uses(path, step, variables)
        if found is None:
            continue
        if host.name not in members:
            raise UsageError(f'{path} is for the play "{play.name}", which {host.name} takes no part in')
        use = Use(plays, play, step.task, host, *found)
        try:
            return planner.template(use.task, use.src, use.variables)
        except (Pending, TaskError) as error:
            raise use.failed(error) from error
    raise UsageError(f"no task of {playbook} uses the template {path}")


def _template_steps(playbook: Playbook) -> Iterator[tuple[Play, Step]]:
    for play in playbook.plays:
        for step in play.steps:
            if step.task.module == "template":
                yield play, step


def _uses(path: Path, step: Step, variables: Variables) -> tuple[str, Variables] | None:
    """The source as the task names it and the variables that it renders with, if that is the file."""
    scopes = [variables]
    if step.task.loop is not None:
        try:
            items = strict(variables.render(step.task.loop))
        except Exception:  # a loop over what only a run knows: its source may still be one file
            items = None
        if isinstance(items, list):
            scopes = [variables.with_local({"item": item}) for item in items]
    for scope in scopes:
        # What cannot be told without a run is not about the file, as far as can be told.
        with contextlib.suppress(Exception):
            src: Any = strict(scope.render(step.task.args["src"]))
            if find(src, step.task, "templates").resolve() == path.resolve():
                return src, scope
    return None
