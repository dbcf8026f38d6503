"""The variables of a template, by Ansible's precedence, each rendered when it is used.

From weak to strong: inventory, facts, the play's vars, its vars_files, the task's vars, registered results, Ansible's
magic variables (hostvars, groups, ...), the loop's item. Values that a host reported are never rendered.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2.defaults
from jinja2.exceptions import UndefinedError
from jinja2.utils import generate_lorem_ipsum

from clusteradm import regular
from clusteradm.inventory.document import UnsafeText
from clusteradm.inventory.yaml_text import read_text
from clusteradm.playbook.model import Task
from clusteradm.playbook.render.jinja import Templates
from clusteradm.playbook.render.limits import STEP, charge, format_widths
from clusteradm.playbook.render.undefined import Deferred, Undefined
from clusteradm.playbook.result import UnknownUntilRun
from clusteradm.playbook.state import Pending, RunState


class Omit:
    """The value of `omit`: the option is left out."""

    def __repr__(self) -> str:
        return "omit"


OMIT = Omit()
_MISSING = object()


class VariableError(Exception):
    """The template of a variable failed; the message names the variable."""


def _now(utc: bool = False, fmt: str | None = None) -> Any:
    moment = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) if utc else datetime.datetime.now()
    format_widths(fmt or "")
    return moment.strftime(fmt) if fmt else moment


def _lipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:
    charge(STEP * n * max)
    return generate_lorem_ipsum(n, html, min, max)


GLOBALS: dict[str, Any] = {**jinja2.defaults.DEFAULT_NAMESPACE, "lipsum": _lipsum, "omit": OMIT, "now": _now}


class Variables(Mapping[str, Any]):
    """The variables that one task on one host sees, by name."""

    def __init__(
        self,
        templates: Templates,
        host: str,
        position: int,
        run_state: RunState,
        *,
        magic: Mapping[str, Any],
        layers: tuple[Mapping[str, Any], ...],
        local: Mapping[str, Any] | None = None,
    ) -> None:
        """`position`: the task's in the play; `magic`: Ansible's magic variables; `layers`: those of playbook files,
        the strongest first; `local`: the loop's item."""
        self._templates = templates
        self._host = host
        self._position = position
        self._run_state = run_state
        self._magic = magic
        self._layers = layers
        self._local = local or {}
        self._rendered: dict[str, Any] = {}
        self._rendering: list[str] = []

    def with_local(self, local: Mapping[str, Any]) -> Variables:
        """These, with variables added that override all others."""
        return Variables(
            self._templates,
            self._host,
            self._position,
            self._run_state,
            magic=self._magic,
            layers=self._layers,
            local={**self._local, **local},
        )

    def __getitem__(self, name: str) -> Any:
        if name in self._local:
            return self._local[name]
        if name in self._magic:
            return self._magic[name]
        if name not in self._rendered:
            try:
                self._rendered[name] = self._lookup(name)
            except Exception as error:
                self._rendered[name] = Deferred(error)
        if self._rendered[name] is _MISSING:
            raise KeyError(name)
        return self._rendered[name]

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        names: dict[str, None] = {}
        for layer in (self._local, self._magic, *self._layers, self._run_state.hosts[self._host].host.vars):
            names.update(dict.fromkeys(layer))
        return iter(names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def written(self, text: str) -> bool:
        """Whether this text is a variable, or within one, of a playbook or inventory, and may be evaluated."""
        layers = [*self._layers, *(state.host.vars for state in self._run_state.hosts.values())]
        return any(_within(text, layer) for layer in layers)

    def render(self, value: Any) -> Any:
        """The value with every template in it rendered; an undefined element raises when it is used."""
        if isinstance(value, UnsafeText):
            return str(value)
        if isinstance(value, str):
            return self._templates.string(value, self)
        if isinstance(value, dict):
            return {key: self._element(element) for key, element in value.items()}
        if isinstance(value, list):
            return [self._element(element) for element in value]
        return value

    def _element(self, value: Any) -> Any:
        try:
            return self.render(value)
        except UndefinedError as error:
            return Undefined(hint=str(error))

    def _lookup(self, name: str) -> Any:
        there, value = self._run_state.result(name, self._host, self._position)
        if there:
            return value
        for layer in self._layers:
            if name in layer:
                return self._variable(name, layer[name])
        inventory = self._run_state.hosts[self._host].host.vars
        # Facts override the inventory; but ansible_host and the like are no facts and need not wait for them.
        if name == "ansible_facts" or (name.startswith("ansible_") and name not in inventory):
            facts = self._run_state.facts(self._host)
            if name == "ansible_facts":
                return facts
            if name.removeprefix("ansible_") in facts:
                return facts[name.removeprefix("ansible_")]
        if name in inventory:
            return self._variable(name, inventory[name])
        return GLOBALS.get(name, _MISSING)

    def _variable(self, name: str, value: Any) -> Any:
        if name in self._rendering:
            chain = " -> ".join([*self._rendering[self._rendering.index(name) :], name])
            raise UndefinedError(f"the variable refers to itself: {chain}")
        self._rendering.append(name)
        try:
            return self.render(value)
        except UndefinedError as error:
            return Undefined(hint=f"{error} (in the variable {name!r})")
        except (Pending, UnknownUntilRun, VariableError):
            raise
        except Exception as error:
            raise VariableError(f"{error} (in the variable {name!r})") from error
        finally:
            self._rendering.pop()


def _within(text: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_within(text, element) for element in value.values())
    if isinstance(value, list):
        return any(_within(text, element) for element in value)
    return bool(value == text)


class HostView(Mapping[str, Any]):
    """One element of `hostvars`. Its attributes begin with an underscore, so that none hides a variable."""

    __slots__ = ("_host", "_variables")

    def __init__(self, host: str, variables: Variables) -> None:
        self._host = host
        self._variables = variables

    def __getitem__(self, name: str) -> Any:
        if name in self._variables:
            return self._variables[name]
        return Undefined(hint=f"{name!r} is undefined for the host {self._host}")

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


class HostVars(Mapping[str, HostView]):
    """`hostvars`: the variables of every host that do not depend on a play."""

    def __init__(self, of_host: Callable[[str], Variables], run_state: RunState) -> None:
        self._of_host = of_host
        self._run_state = run_state

    def __getitem__(self, name: str) -> HostView:
        if name not in self._run_state.hosts:
            raise KeyError(name)
        return HostView(name, self._of_host(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._run_state.hosts)

    def __len__(self) -> int:
        return len(self._run_state.hosts)


def lookup(task: Task) -> Callable[..., Any]:
    """The function `lookup` of a task: reads a file of the admin machine, or lists the files that match a pattern."""

    def read(kind: str, name: str = "", **options: Any) -> str | list[str]:
        kind = kind.removeprefix("ansible.builtin.")
        if kind == "fileglob" and options == {"wantlist": True}:
            folder, pattern = Path(name).parent, Path(name).name
            return [str(path) for path in (task.folder / folder).glob(pattern) if regular.is_file(path)]
        if kind != "file" or options:
            raise UndefinedError(
                f"lookup({kind!r}) is not in the subset; there are lookup('file', PATH)"
                " and lookup('fileglob', PATTERN, wantlist=True)"
            )
        return read_text(find(name, task, "files")).rstrip()

    return read


def find(name: str, task: Task, folder: str) -> Path:
    """The file that a task names, looked up in `folder` beside its playbook, then beside the playbook itself.

    Raises FileNotFoundError that names both paths.
    """
    places = [task.folder / folder / name, task.folder / name]
    for place in places:
        if regular.is_file(place):
            return place
        if regular.exists(place) and not regular.is_folder(place):
            raise FileNotFoundError(f"{place} is {regular.kind(place.stat().st_mode)}, not a file")
    tried = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise FileNotFoundError(f"there is neither {tried}")
