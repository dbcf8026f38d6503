"""One task on one host, rendered: a request for the node, or a result that the admin machine found by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from clusteradm.inventory import Host
from clusteradm.inventory.yaml_text import read_text
from clusteradm.node.spec.modules import normalise
from clusteradm.playbook import result
from clusteradm.playbook.model import Play, Playbook, Step, Task, constant
from clusteradm.playbook.render import bodies
from clusteradm.playbook.render.conditions import all_hold
from clusteradm.playbook.render.jinja import TemplateProblem, Templates, error_line
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.render.variables import OMIT, HostVars, Variables, find, lookup
from clusteradm.playbook.result import UnknownUntilRun
from clusteradm.playbook.run import local
from clusteradm.playbook.state import HostState, Pending, RunState


class TaskError(Exception):
    """A task that cannot be rendered; the message says where and why."""


@dataclass
class Planned:
    """A rendered step on one host: a `request` for the node, or a `result` that needs no node.

    Neither: a handler that nothing notified. `items`: the loop's items; `local`: results of those items that the node
    is not asked about, by position; `blobs`: file bodies that the node needs, by sha256.
    """

    play: Play
    step: Step
    name: str
    variables: Variables
    request: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    items: list[Any] | None = None
    local: dict[int, dict[str, Any]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        return self.step.task


class Planner:
    """Renders tasks and completes their results. One for a whole run, shared by the threads of all hosts."""

    def __init__(
        self,
        playbook: Playbook,
        run_state: RunState,
        templates: Templates,
        *,
        check: bool,
        diff: bool,
        limit: str | None,
        host_keys: Callable[[Host], list[str]] | None = None,
        files: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`host_keys`: a host's accepted ssh-ed25519 key in base64, or none; None: it is not known here. `files`: what
        is known of files from addresses (run/files.py)."""
        self._run_state = run_state
        self._templates = templates
        self._check = check
        self._diff = diff
        cluster = playbook.cluster
        self._inventory = cluster.path
        self._host_keys = host_keys
        names = ["all", *(name for name in cluster.groups if name != "all")]
        self._magic: dict[str, Any] = {
            "groups": {"ungrouped": [], **{name: list(cluster.members(name)) for name in names}},
            "playbook_dir": str(playbook.path.resolve().parent),
            "ansible_check_mode": check,
            "ansible_diff_mode": diff,
            "ansible_inventory_sources": [str(cluster.path.resolve())],
        }
        if limit is not None:
            self._magic["ansible_limit"] = limit
        if files is not None:
            self._magic["clusteradm_files"] = files

    def plan(self, state: HostState, play: Play, step: Step) -> Planned:
        """Render a step. Raises Pending if it needs a result that is not there yet.

        Any other error of the task becomes its result: failed, or in check mode perhaps unknown.
        """
        task = step.task
        planned = Planned(play, step, task.name, self.variables(state.host, play, step.task, step.index))
        try:
            planned.name = self._name(task, planned.variables)
            self._plan(planned)
        except Pending:
            raise
        except UnknownUntilRun as unknown:
            planned.result = {"unknown": True, "msg": str(unknown)}
        except Exception as error:
            planned.result = result.failed(f"{task.place}: {_reason(error)}")
        return planned

    def complete(self, planned: Planned, outcome: dict[str, Any]) -> dict[str, Any]:
        """The node's result, completed with the items that it was not asked about, changed_when and failed_when."""
        task = planned.task
        if planned.items is None:
            return self._complete_one(planned, outcome, planned.variables)
        theirs = iter(outcome.get("results", ()))
        results = []
        for position, item in enumerate(planned.items):
            if position in planned.local:
                results.append(planned.local[position])
                continue
            one = next(theirs, None)
            if one is None:  # the loop ended early: it was cancelled, or the node stopped at a failure
                break
            results.append(self._complete_one(planned, dict(one), planned.variables.with_local({"item": item})))
        combined = result.of_items(results)
        if outcome.get("failed") and not combined.get("failed") and task.failed_when is None:
            combined.update(failed=True, msg=outcome.get("msg", combined["msg"]))
        return combined

    def is_done(self, planned: Planned, outcome: dict[str, Any]) -> bool:
        """Whether a completed result satisfies the task's `until`."""
        return all_hold(planned.task.until, self._templates, _with_result(planned.task, outcome, planned.variables))

    def attempts(self, planned: Planned) -> tuple[int, float]:
        """Number of attempts of a task with `until`, and the seconds between two. Raises TaskError."""
        try:
            task, variables = planned.task, planned.variables
            return 1 + int(strict(variables.render(task.retries))), float(strict(variables.render(task.delay)))
        except (ValueError, TypeError, jinja2.TemplateError) as error:
            raise TaskError(f"{planned.task.place}: retries and delay are numbers: {_reason(error)}") from error

    def delegate(self, planned: Planned) -> HostState | None:
        """The host that the task is delegated to; None if it is not. Raises TaskError."""
        if planned.task.delegate_to is None:
            return None
        name = str(strict(planned.variables.render(planned.task.delegate_to)))
        if name not in self._run_state.hosts:
            raise TaskError(f"{planned.task.place}: delegate_to names a host of the inventory, not {name!r}")
        return self._run_state.hosts[name]

    def variables(self, host: Host, play: Play, task: Task, position: int) -> Variables:
        """The variables that the task's templates see on this host."""
        magic = {
            **self._host_magic(host),
            "ansible_play_name": play.name,
            "ansible_play_hosts": self._run_state.hosts_left(),
            "ansible_play_batch": self._run_state.hosts_left(self._run_state.members),
            "ansible_play_hosts_all": list(self._run_state.all_members),
            "lookup": lookup(task),
        }
        if self._host_keys is not None:
            magic["clusteradm_accepted_keys"] = self._host_keys(host)

        def of_host(name: str) -> Variables:
            other = self._host_magic(self._run_state.hosts[name].host)
            return Variables(self._templates, name, position, self._run_state, magic=other, layers=())

        magic["hostvars"] = HostVars(of_host, self._run_state)
        layers = tuple(layer for layer in (task.vars, play.file_vars, play.vars) if layer)
        return Variables(self._templates, host.name, position, self._run_state, magic=magic, layers=layers)

    def template(self, task: Task, src: str, variables: Variables) -> str:
        """The text of a template file. Raises TaskError that names file and line."""
        path = find(src, task, "templates")
        try:
            text, syntax = bodies.syntax(read_text(path), task, variables)
            return self._templates.file(text, str(path), variables, **syntax)
        except (Pending, UnknownUntilRun):
            raise
        except TemplateProblem as error:
            raise TaskError(f"{path}:{error.line}: {error}") from error
        except Exception as error:
            raise TaskError(f"{path}:{error_line(error, str(path)) or 1}: {_reason(error)}") from error

    def _host_magic(self, host: Host) -> dict[str, Any]:
        # As in Ansible: of a folder, the file that names the host first.
        file = Path(host.place.file or self._inventory).resolve()
        return {
            **self._magic,
            "inventory_dir": str(file.parent),
            "inventory_file": str(file),
            "inventory_hostname": host.name,
            "inventory_hostname_short": host.name.split(".")[0],
            "group_names": sorted(host.groups) or ["ungrouped"],
        }

    def _name(self, task: Task, variables: Variables) -> str:
        try:
            return str(strict(self._templates.string(task.name, variables)))
        except Exception:
            # A name may contain the loop's item, or a value that is not known yet: it is shown as it is written.
            return task.name

    def _plan(self, planned: Planned) -> None:
        task, variables = planned.task, planned.variables
        if task.loop is None:
            if all_hold(task.when, self._templates, variables):
                self._one(planned, variables)
            else:
                planned.result = result.skipped()
            return
        try:
            planned.items = _items(strict(variables.render(task.loop)))
        except jinja2.UndefinedError:
            # As in Ansible: an undefined loop is no error if `when` is false without it.
            if all_hold(task.when, self._templates, variables):
                raise
            planned.result = result.skipped()
            planned.items = None
            return
        self._loop(planned)

    def _loop(self, planned: Planned) -> None:
        task, items = planned.task, planned.items or []
        requests = []
        facts: dict[str, Any] = {}  # set by set_fact for earlier items
        for position, item in enumerate(items):
            variables = planned.variables.with_local({**facts, "item": item})
            label = strict(self._templates.string(task.label, variables)) if task.label else item
            extra = {"item": item, "ansible_loop_var": "item", "_ansible_item_label": label}
            one = Planned(planned.play, planned.step, planned.name, variables)
            if all_hold(task.when, self._templates, variables):
                self._one(one, variables)
            else:
                one.result = result.skipped()
            if one.request is not None:
                requests.append({"item": item, "label": str(label), "args": one.request["args"]})
                planned.request = one.request
                planned.blobs.update(one.blobs)
            else:
                planned.local[position] = {**(one.result or {}), **extra}
                facts.update((one.result or {}).get("ansible_facts", {}))
        if planned.request is not None:
            planned.request.update(items=requests, args={})
        else:
            planned.result = result.of_items(list(planned.local.values()))

    def _one(self, planned: Planned, variables: Variables) -> None:
        """Plan a task, or one item of its loop, whose condition is true."""
        task = planned.task
        args = self._arguments(task, variables)
        outcome = local.evaluate(task.module, args, self._templates, variables)
        if outcome is not None:
            planned.result = self._complete_one(planned, outcome, variables)
            return
        body = None
        if task.module == "template":
            src = str(args.get("src", ""))
            body = self.template(task, src, variables).encode()
            bodies.described(find(src, task, "templates"), args)
        elif task.module == "copy":
            body = bodies.of_copy(task, args)
        if body is not None:
            args["blob"] = hashlib.sha256(body).hexdigest()
            planned.blobs[args["blob"]] = body
        normalise(task.module, args)  # checked here too, because here the error has a file and a line
        planned.request = {
            "index": planned.step.index,
            "name": planned.name,
            "module": task.module,
            "args": args,
            "items": None,
            "check": self._check if task.check_mode is None else task.check_mode,
            "diff": self._diff and not task.no_log,
            "notify": planned.play.notified_by(task),
            "handler": planned.step.handler,
            "user": self._user(task, variables),
            "ignore_errors": task.ignore_errors,
            "changed_when": constant(task.changed_when),
            "failed_when": constant(task.failed_when),
            "no_log": task.no_log,
        }

    def _user(self, task: Task, variables: Variables) -> str | None:
        """The user that the node becomes: None for root, "" for the login user."""
        if task.become_user is None:
            return ""
        user = str(strict(variables.render(task.become_user)))
        return None if user == "root" else user

    def _arguments(self, task: Task, variables: Variables) -> dict[str, Any]:
        args: dict[str, Any] = {}
        for option, written in task.args.items():
            if (task.module, option) in local.EXPRESSIONS:
                args[option] = written
                continue
            try:
                value = _without_omitted(strict(variables.render(written)))
            except (Pending, UnknownUntilRun):
                raise
            except Exception as error:
                raise TaskError(f"{option}: {_reason(error)}") from error
            if value is not OMIT and value is not None:
                args[option] = value
        return args

    def _complete_one(self, planned: Planned, outcome: dict[str, Any], variables: Variables) -> dict[str, Any]:
        task = planned.task
        if outcome.get("unknown") or outcome.get("skipped"):
            return outcome
        scope = _with_result(task, outcome, variables)
        try:
            if task.changed_when is not None:
                outcome["changed"] = all_hold(task.changed_when, self._templates, scope)
            if task.failed_when is not None:
                outcome["failed"] = outcome["failed_when_result"] = all_hold(task.failed_when, self._templates, scope)
        except (Pending, UnknownUntilRun):
            raise
        except Exception as error:
            outcome.update(failed=True, msg=f"{task.place}: {_reason(error)}")
        return outcome


def _with_result(task: Task, outcome: dict[str, Any], variables: Variables) -> Variables:
    """The variables of conditions about a task's result: with the result under the name that registers it."""
    return variables.with_local({task.register: outcome}) if task.register else variables


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TaskError(f"loop takes a list, not {type(value).__name__}")
    return list(value)


def _without_omitted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_omitted(element) for key, element in value.items() if element is not OMIT}
    if isinstance(value, list):
        return [_without_omitted(element) for element in value if element is not OMIT]
    return value


def _reason(error: BaseException) -> str:
    """The message of an expected error; of any other also its class."""
    text = str(error)
    expected = isinstance(error, TaskError | jinja2.TemplateError | ValueError | FileNotFoundError)
    return text if expected and text else f"{type(error).__name__}: {text}"
