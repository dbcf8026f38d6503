"""The supported keywords of plays and tasks, and the values that each takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusteradm.nearest import nearest
from clusteradm.playbook.read.source import Entry, Source, Value
from clusteradm.playbook.render.jinja import TemplateProblem, Templates, is_template

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class Keyword:
    """One keyword. `shape`: its values, as errors describe them; `fits`: whether a value is one; `expression`: it is a
    condition, not a template."""

    shape: str
    fits: Callable[[Any], bool]
    expression: bool = False


def _number(value: Any, kinds: Any) -> bool:
    """Whether it is a number from 0 on, or a template that may render to one."""
    if isinstance(value, str):
        return is_template(value)
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= 0


def _batches(value: Any) -> bool:
    """Whether it is a value of `serial`."""
    each = value if isinstance(value, list) else [value]
    return bool(each) and all(
        (isinstance(one, int) and not isinstance(one, bool) and one > 0)
        or (isinstance(one, str) and bool(re.fullmatch(r"[0-9]+%?", one)) and int(one.rstrip("%")) > 0)
        for one in each
    )


def _texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _conditions(value: Any) -> bool:
    each = value if isinstance(value, list) else [value]
    return bool(each) and all(isinstance(one, bool | str) and one != "" for one in each)


_TEXT = Keyword("text", lambda value: isinstance(value, str))
_TEXTS = Keyword("text, or a list of texts", _texts)
_BOOL = Keyword("true or false", lambda value: isinstance(value, bool))
_MAPPING = Keyword("a mapping", lambda value: isinstance(value, dict))
_CONDITIONS = Keyword("a condition, or a list of conditions", _conditions, expression=True)
_NESTED = Keyword("a list of tasks", lambda value: True)
_COUNT = Keyword("a whole number from 0 on", lambda value: _number(value, int))
_SECONDS = Keyword("a number of seconds", lambda value: _number(value, (int, float)))
_TAGS = Keyword("a tag, tags with commas between them, or a list of tags", _texts)

# Names that have a meaning of their own in Jinja or Ansible.
_RESERVED = {"true", "false", "none", "True", "False", "None", "hostvars", "groups", "group_names", "omit", "item"}


def _variable(value: Any) -> bool:
    return isinstance(value, str) and bool(_NAME.match(value)) and value not in _RESERVED


_VARIABLE = Keyword("the name of a variable", _variable)

_BECOME = {"become": _BOOL, "become_user": _TEXT}

PLAY = {
    "name": _TEXT,
    "hosts": _TEXT,
    **_BECOME,
    "any_errors_fatal": _BOOL,
    "gather_facts": _BOOL,
    "handlers": _NESTED,
    "max_fail_percentage": Keyword(
        "a number from 0 to 100",
        lambda value: _number(value, (int, float)) and not isinstance(value, str) and value <= 100,
    ),
    "pre_tasks": _NESTED,
    "serial": Keyword("a number of hosts, a percentage, or a list of these", _batches),
    "strategy": Keyword('"linear" or "free"', lambda value: value in ("linear", "free")),
    "tags": _TAGS,
    "tasks": _NESTED,
    "vars": _MAPPING,
    "vars_files": Keyword("a list of files", lambda value: isinstance(value, list) and _texts(value)),
}

TASK = {
    "name": _TEXT,
    "any_errors_fatal": _BOOL,
    "args": _MAPPING,
    **_BECOME,
    "changed_when": _CONDITIONS,
    "check_mode": _BOOL,
    "delay": _SECONDS,
    "delegate_to": _TEXT,
    "failed_when": _CONDITIONS,
    "ignore_errors": _BOOL,
    "loop": Keyword("a list", lambda value: isinstance(value, str | list)),
    "loop_control": Keyword(
        'a mapping with the one key "label"', lambda value: isinstance(value, dict) and set(value) == {"label"}
    ),
    "no_log": _BOOL,
    "notify": _TEXTS,
    "register": _VARIABLE,
    "retries": _COUNT,
    "run_once": _BOOL,
    "tags": _TAGS,
    "until": _CONDITIONS,
    "vars": _MAPPING,
    "when": _CONDITIONS,
}

HANDLER = {**{name: keyword for name, keyword in TASK.items() if name != "tags"}, "listen": _TEXTS}

IMPORT = {"name": _TEXT}

# Inherited by each task of the imported file.
IMPORT_TASKS = {name: TASK[name] for name in ("name", "become", "become_user", "tags", "vars", "when")}

# Keywords that need hosts to wait for each other. Ansible ignores most of them in a free play, with a warning.
LINEAR_ONLY = ("any_errors_fatal", "max_fail_percentage", "run_once")


def tags_of(value: Any) -> frozenset[str]:
    """The tags in a value of `tags`."""
    texts = value.split(",") if isinstance(value, str) else value or ()
    return frozenset(part.strip() for text in texts for part in text.split(",") if part.strip())


class Keywords:
    """Reads the keywords of one play or task. `what`: its name in errors."""

    def __init__(self, known: Mapping[str, Keyword], what: str, source: Source, templates: Templates) -> None:
        self._known = known
        self._what = what
        self._source = source
        self._templates = templates

    def read(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """The values of all valid keywords; a problem for each other one."""
        values = {}
        for entry in entries:
            keyword = self._known.get(entry.key)
            if keyword is None:
                self.unknown(entry)
            elif keyword is _NESTED:
                continue
            elif entry.key == "vars" and entry.value.is_mapping:
                values["vars"] = self.variables(entry.value)
            else:
                value = entry.value.plain()
                if not keyword.fits(value):
                    self._source.problem(entry.line, f"{entry.key} takes {keyword.shape}")
                    continue
                self.check(entry.line, entry.key, value, expression=keyword.expression)
                values[entry.key] = value
        return values

    def unknown(self, entry: Entry) -> None:
        """Add a problem: the keyword is not in the subset."""
        self._source.problem(
            entry.line, f'{self._what} has no keyword "{entry.key}" here{nearest(entry.key, self._known)}'
        )

    def variables(self, value: Value) -> dict[str, Any]:
        """The variables of a mapping, not rendered; a problem for each name that is not valid."""
        found: dict[str, Any] = {}
        if not value.is_mapping:
            self._source.problem(value.line, f"{self._what} takes a mapping of variables")
            return found
        for entry in value.entries():
            if not _variable(entry.key):
                self._source.problem(entry.line, f'"{entry.key}" is not a valid variable name')
                continue
            found[entry.key] = entry.value.plain()
            self.check(entry.line, entry.key, found[entry.key])
        return found

    def check(self, line: int, name: str, value: Any, *, expression: bool = False) -> None:
        """Add a problem for every template within the value that cannot be compiled."""
        if isinstance(value, Mapping):
            for element in value.values():
                self.check(line, name, element)
        elif isinstance(value, list):
            for element in value:
                self.check(line, name, element, expression=expression)
        elif isinstance(value, str):
            try:
                if expression and not value.strip().startswith("{{"):
                    self._templates.check_expression(value)
                else:
                    self._templates.check_string(value)
            except TemplateProblem as problem:
                self._source.problem(line, f"{name}: {problem}")
