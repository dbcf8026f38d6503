"""One task of a playbook file, with its module and options judged by the node's table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusteradm.node.spec import MODULES, NAMES, OptionError
from clusteradm.playbook import arguments
from clusteradm.playbook.jinja import TemplateProblem, Templates, is_template
from clusteradm.playbook.keywords import HANDLER, TASK, Keywords
from clusteradm.playbook.model import Conditions, Place, Task
from clusteradm.playbook.nearest import nearest
from clusteradm.playbook.source import Entry, Source, Value
from clusteradm.playbook.variables import find


class TaskReader:
    """Reads the tasks of one play. `play`: the play's own keywords, which a task inherits."""

    def __init__(self, source: Source, templates: Templates, play: Mapping[str, Any]) -> None:
        self._source = source
        self._templates = templates
        self._play = play
        self._told = False

    def task(self, value: Value, *, is_handler: bool) -> Task | None:
        """The task, or None where problems say why there is none."""
        if not value.is_mapping:
            self._source.problem(value.line, "a task is a mapping")
            return None
        known = HANDLER if is_handler else TASK
        entries = list(value.entries())
        modules = [entry for entry in entries if entry.key in NAMES]
        others = [entry for entry in entries if entry.key not in known and entry not in modules]
        keywords = Keywords(known, "a handler" if is_handler else "a task", self._source, self._templates)
        values = keywords.read([entry for entry in entries if entry.key in known])
        if len(modules) != 1:
            self._no_module(value, modules, others, known)
            return None
        for entry in others:
            keywords.unknown(entry)
        module = NAMES[modules[0].key]
        place = Place(self._source.path, value.line)
        args = self._options(module, modules[0], next((each for each in entries if each.key == "args"), None), place)
        if module == "wait_for_connection" and "loop" in values:
            self._source.problem(value.line, "wait_for_connection takes no loop")
        if MODULES[module]["runs"] == "node" and not values.get("become", self._play.get("become", False)):
            self._not_root(value.line)
        return self._made(values, module, args, place)

    def _not_root(self, line: int) -> None:
        """Said once in a play: it is the play that lacks it, as a rule."""
        if not self._told:
            self._source.problem(line, "tasks run as root here: the play (or the task) needs become: true")
            self._told = True

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
        return Task(
            name=values.get("name", module),
            module=module,
            args=args,
            place=place,
            when=_conditions(values.get("when")) or (),
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
            vars=values.get("vars", {}),
        )

    def _options(self, module: str, entry: Entry, more: Entry | None, place: Place) -> dict[str, Any]:
        """The module's options under their own names; a problem for each that is wrong."""
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
        names = arguments.canonical(module)
        args: dict[str, Any] = {}
        for name, line, value in written:
            if name not in names:
                self._source.problem(line, f'{module} has no option "{name}" here{nearest(name, names)}')
            elif names[name] in args:
                self._source.problem(line, f'"{names[name]}" is given twice')
            else:
                args[names[name]] = self._option(module, names[name], line, value, place)
        if all(name in names for name, _, _ in written):
            for message in arguments.lacking(module, args):
                self._source.problem(entry.line, message)
        return args

    def _free_form(self, module: str, entry: Entry) -> list[tuple[str, int, Any]] | None:
        text = entry.value.plain()
        if not isinstance(text, str) or not MODULES[module].get("free_form"):
            self._source.problem(entry.line, f"{module} takes its options as a mapping, one on each line")
            return None
        return [(name, entry.line, value) for name, value in arguments.free_form(text).items()]

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
            near = nearest(Path(src).name, [each.name for each in folder.iterdir()] if folder.is_dir() else [])
            self._source.problem(line, f"{error}{near}")
            return
        try:
            self._templates.check_file(path.read_text(encoding="utf-8"), str(path))
        except TemplateProblem as problem:
            Source(path, self._source.problems).problem(problem.line, str(problem))
        except (OSError, UnicodeDecodeError) as error:
            self._source.problem(line, f"{path} cannot be read: {error}")


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
