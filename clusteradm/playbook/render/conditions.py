"""Conditions: expressions of `when`, `changed_when`, `failed_when`, `until` and `assert`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from clusteradm.playbook.render.jinja import Scope, Templates
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.render.variables import Variables


class NoCondition(ValueError):
    """A condition whose value is not a boolean."""


def value_of(expression: str, templates: Templates, scope: Scope) -> Any:
    """The value of an expression; raises if it is undefined."""
    return strict(templates.expression(expression, scope))


def holds(condition: Any, templates: Templates, scope: Scope) -> bool:
    """Whether one condition is true. As in Ansible, "{{ name }}" may name another expression.

    That expression must be written in a playbook or inventory: what a host answers is never evaluated.
    """
    value = condition
    if isinstance(value, str) and value.strip().startswith("{{") and value.strip().endswith("}}"):
        value = strict(templates.string(value.strip(), scope))
        if isinstance(value, str) and not (isinstance(scope, Variables) and scope.written(value)):
            raise NoCondition(
                f'"{condition}" is a text that is not written in a playbook or inventory, and is not evaluated:'
                " compare it with something, or use a test"
            )
    if isinstance(value, str):
        value = value_of(value, templates, scope)
    if not isinstance(value, bool):
        raise NoCondition(
            f'"{condition}" is {type(value).__name__}, not a boolean: compare it with something, or use a test'
        )
    return value


def all_hold(conditions: Iterable[Any], templates: Templates, scope: Scope) -> bool:
    """Whether all are true; evaluated up to the first that is not."""
    return all(holds(condition, templates, scope) for condition in conditions)
