"""Tasks of a playbook file: keywords, module and options, checked against the node's table of modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clusteradm import regular
from clusteradm.inventory.yaml_text import read_text
from clusteradm.nearest import nearest
from clusteradm.node.spec.modules import MODULES, NAMES, OptionError
from clusteradm.playbook.model import CONNECTION_MODULES, Conditions, Place, Task
from clusteradm.playbook.read import arguments
from clusteradm.playbook.read.keywords import HANDLER, IMPORT_TASKS, LINEAR_ONLY, TASK, Keyword, Keywords, tags_of
from clusteradm.playbook.read.source import Entry, Source, Unreadable, Value
from clusteradm.playbook.render import bodies
from clusteradm.playbook.render.jinja import TemplateProblem, Templates, is_template
from clusteradm.playbook.render.variables import find


@dataclass(frozen=True)
class Inherited:
    """Keywords that tasks inherit from their play and from import_tasks. `files`: those being imported."""

    strategy: str
    become: bool = False
    become_user: str = "root"
    tags: frozenset[str] = frozenset()
    when: Conditions = ()
    vars: Mapping[str, Any] = field(default_factory=dict)
    any_errors_fatal: bool = False
    files: tuple[Path, ...] = ()

    def with_own(self, values: Mapping[str, Any]) -> Inherited:
        """These, with the keywords of a play, an import or a task added."""
        return replace(
            self,
            become=values.get("become", self.become),
            become_user=values.get("become_user", self.become_user),
            tags=self.tags | tags_of(values.get("tags")),
            when=self.when + (_conditions(values.get("when")) or ()),
        )


class TaskReader:
    """Reads the tasks of one file within one play."""

    def __init__(self, source: Source, templates: Templates, inherited: Inherited) -> None:
        self._source = source
        self._templates = templates
        self._inherited = inherited

    def tasks(self, values: Iterable[Value]) -> Iterator[Task]:
        """The tasks of a list, with those of imported files in their places; a problem for each invalid one."""
        for value in values:
            if not value.is_mapping:
                self._source.problem(value.line, "a task is a mapping")
                continue
            entries = list(value.entries())
            imported = next((entry for entry in entries if entry.key in _IMPORT_TASKS), None)
            if imported is not None:
                yield from self._import(imported, [entry for entry in entries if entry is not imported])
                continue
            task = self._task(value, entries, TASK, "a task")
            if task is not None:
                yield task

    def handlers(self, values: Iterable[Value]) -> Iterator[Task]:
        """The handlers of a list; a problem for each invalid one."""
        for value in values:
            if not value.is_mapping:
                self._source.problem(value.line, "a handler is a mapping")
                continue
            handler = self._task(value, list(value.entries()), HANDLER, "a handler")
            if handler is not None:
                yield handler

    def _import(self, imported: Entry, others: list[Entry]) -> Iterator[Task]:
        values = Keywords(IMPORT_TASKS, "import_tasks", self._source, self._templates).read(others)
        name = imported.value.plain()
        if not isinstance(name, str) or is_template(name):
            self._source.problem(imported.line, "import_tasks takes the name of a file, without variables")
            return
        folder = self._source.path.parent
        path = next((each for each in (folder / "tasks" / name, folder / name) if regular.is_file(each)), None)
        if path is None:
            near = nearest(Path(name).name, [each.name for each in folder.iterdir()])
            self._source.problem(imported.line, f"there is no file {folder / name}{near}")
            return
        if path.resolve() in self._inherited.files:
            self._source.problem(imported.line, f"{name} imports itself")
            return
        if not self._source.may_import(imported.line):
            return
        source = Source(path, self._source.problems, self._source.imported)
        document = source.read()
        if document is None or document.is_null:
            return
        if not document.is_list:
            source.problem(document.line, "a file of tasks is a list")
            return
        inherited = replace(
            self._inherited.with_own(values),
            files=(*self._inherited.files, path.resolve()),
            vars={**self._inherited.vars, **values.get("vars", {})},
        )
        with contextlib.suppress(Unreadable):
            yield from TaskReader(source, self._templates, inherited).tasks(document.items())

    def _task(self, value: Value, entries: list[Entry], known: Mapping[str, Keyword], what: str) -> Task | None:
        modules = [entry for entry in entries if entry.key in NAMES]
        others = [entry for entry in entries if entry.key not in known and entry not in modules]
        keywords = Keywords(known, what, self._source, self._templates)
        values = keywords.read([entry for entry in entries if entry.key in known])
        if len(modules) != 1:
            self._no_module(value, modules, others, known)
            return None
        for entry in others:
            keywords.unknown(entry)
        module = NAMES[modules[0].key]
        place = Place(self._source.path, value.line)
        args = self._options(module, modules[0], next((each for each in entries if each.key == "args"), None), place)
        for message in _refusals(module, values, self._inherited.strategy):
            self._source.problem(value.line, message)
        return self._made(values, module, args, place)

    def _no_module(self, value: Value, modules: list[Entry], others: list[Entry], known: Mapping[str, object]) -> None:
        if len(modules) > 1:
            names = " and ".join(entry.key for entry in modules)
            self._source.problem(modules[1].line, f"a task has one module, not {names}")
            return
        for entry in others:
            near = nearest(entry.key.rpartition(".")[2], [*MODULES, *known])
            self._source.problem(entry.line, f'there is no module and no keyword "{entry.key}" here{near}')
        if not others:
            self._source.problem(value.line, "the task has no module")

    def _made(self, values: Mapping[str, Any], module: str, args: dict[str, Any], place: Place) -> Task:
        whole = self._inherited.with_own(values)
        return Task(
            name=values.get("name", module),
            module=module,
            args=args,
            place=place,
            when=whole.when,
            loop=values.get("loop"),
            label=values.get("loop_control", {}).get("label"),
            register=values.get("register"),
            notify=_texts(values.get("notify")),
            listen=_texts(values.get("listen")),
            changed_when=_conditions(values.get("changed_when")),
            failed_when=_conditions(values.get("failed_when")),
            check_mode=values.get("check_mode"),
            ignore_errors=values.get("ignore_errors", False),
            no_log=values.get("no_log", False),
            vars={**whole.vars, **values.get("vars", {})},
            tags=whole.tags,
            become_user=whole.become_user if whole.become else None,
            delegate_to=values.get("delegate_to"),
            run_once=values.get("run_once", False),
            any_errors_fatal=values.get("any_errors_fatal", self._inherited.any_errors_fatal),
            until=_conditions(values.get("until")) or (),
            retries=values.get("retries", 3),
            delay=values.get("delay", 5),
        )

    def _options(self, module: str, entry: Entry, more: Entry | None, place: Place) -> dict[str, Any]:
        """The module's options by canonical name; a problem for each invalid one."""
        written: list[tuple[str, int, Any]] = []
        if entry.value.is_mapping:
            written += [(each.key, each.line, each.value.plain()) for each in entry.value.entries()]
        elif not entry.value.is_null:
            free_form = self._free_form(module, entry)
            if free_form is None:
                return {}
            written += free_form
        if more is not None and more.value.is_mapping:
            written += [(each.key, each.line, each.value.plain()) for each in more.value.entries()]
        args: dict[str, Any] = {}
        if MODULES[module].get("names"):
            return Keywords({}, module, self._source, self._templates).variables(entry.value)
        names = arguments.canonical(module)
        for name, line, value in written:
            if name not in names:
                self._source.problem(line, f'{module} has no option "{name}" here{nearest(name, names)}')
            elif names[name] in args:
                self._source.problem(line, f'"{names[name]}" is given twice')
            else:
                args[names[name]] = self._option(module, names[name], line, value, place)
        if all(name in names for name, _, _ in written):
            perhaps = [name for name, value in args.items() if not _is_constant(value)]
            for message in arguments.lacking(module, args, perhaps):
                self._source.problem(entry.line, message)
        if module == "copy" and not args.get("remote_src") and isinstance(args.get("src"), str):
            self._copied(entry.line, args["src"], place)
        return args

    def _copied(self, line: int, src: str, place: Place) -> None:
        if _is_constant(src):
            try:
                bodies.source(Task("", "copy", {}, place), src)
            except (ValueError, FileNotFoundError) as error:
                self._source.problem(line, str(error))

    def _free_form(self, module: str, entry: Entry) -> list[tuple[str, int, Any]] | None:
        text = entry.value.plain()
        option = MODULES[module].get("free_form")
        if not isinstance(text, str) or not option:
            self._source.problem(entry.line, f"{module} takes its options as a mapping, one on each line")
            return None
        return [(name, entry.line, value) for name, value in arguments.free_form(option, text).items()]

    def _option(self, module: str, option: str, line: int, value: Any, place: Place) -> Any:
        keywords = Keywords({}, module, self._source, self._templates)
        if (module, option) == ("assert", "that"):
            conditions = value if isinstance(value, list) else [value]
            keywords.check(line, option, conditions, expression=True)
            return conditions
        keywords.check(line, option, value)
        if _is_constant(value) and value is not None:
            try:
                arguments.check(module, option, value)
            except OptionError as error:
                self._source.problem(line, str(error))
            if (module, option) == ("template", "src") and isinstance(value, str):
                self._template(line, value, place)
        return value

    def _template(self, line: int, src: str, place: Place) -> None:
        task = Task("", "template", {}, place)
        try:
            path = find(src, task, "templates")
        except FileNotFoundError as error:
            folder = (place.file.parent / src).parent
            near = nearest(
                Path(src).name, [each.name for each in folder.iterdir()] if regular.is_folder(folder) else []
            )
            self._source.problem(line, f"{error}{near}")
            return
        try:
            self._templates.check_file(read_text(path), str(path))
        except TemplateProblem as problem:
            Source(path, self._source.problems).problem(problem.line, str(problem))
        except (OSError, UnicodeDecodeError) as error:
            self._source.problem(line, f"{path} cannot be read: {error}")


_IMPORT_TASKS = ("import_tasks", "ansible.builtin.import_tasks")


def _refusals(module: str, values: Mapping[str, Any], strategy: str) -> Iterator[str]:
    """Messages about keywords that cannot be combined in a task."""
    if strategy == "free":
        for name in LINEAR_ONLY:
            if values.get(name):
                yield f"{name} needs strategy: linear (in a free play no host waits for another)"
    if "loop" in values:
        for name in ("until", "delegate_to"):
            if name in values:
                yield f"a task with a loop takes no {name} here: one task for each item does"
        if module in CONNECTION_MODULES:
            yield f"{module} takes no loop"
    for name in ("retries", "delay"):
        if name in values and "until" not in values:
            yield f"{name} is about until, which the task does not have"
    if module in CONNECTION_MODULES:
        for name in ("until", "delegate_to"):
            if name in values:
                yield f"{module} takes no {name}"
    if module == "meta":
        for name in values:
            if name not in ("name", "tags"):
                yield f"meta takes no {name}: handlers are flushed on all hosts at once"


def _is_constant(value: Any) -> bool:
    if isinstance(value, str):
        return not is_template(value)
    if isinstance(value, Mapping):
        return all(_is_constant(element) for element in value.values())
    if isinstance(value, list):
        return all(_is_constant(element) for element in value)
    return True


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _conditions(value: Any) -> Conditions | None:
    return None if value is None else tuple(value) if isinstance(value, list) else (value,)
