"""The modules that run on the admin machine, where the variables are: assert, debug, fail and set_fact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2.exceptions import UndefinedError

from clusteradm.node.spec.modules import normalise
from clusteradm.playbook.render.conditions import holds, value_of
from clusteradm.playbook.render.jinja import Scope, Templates
from clusteradm.playbook.result import failed

# Options that are bare expressions, not templates.
EXPRESSIONS = {("assert", "that"), ("debug", "var")}

UNDEFINED = "VARIABLE IS NOT DEFINED!"


def _assert(args: Mapping[str, Any], templates: Templates, scope: Scope) -> dict[str, Any]:
    for condition in args["that"]:
        if not holds(condition, templates, scope):
            message = args["fail_msg"] or "Assertion failed"
            return {**failed(message), "assertion": condition, "evaluated_to": False}
    return {"changed": False, "msg": args["success_msg"] or "All assertions passed"}


def _debug(args: Mapping[str, Any], templates: Templates, scope: Scope) -> dict[str, Any]:
    if args["verbosity"] > 0:
        return {"changed": False, "skipped": True, "skipped_reason": "Verbosity threshold not met."}
    if args["var"] is None:
        return {"changed": False, "msg": "Hello world!" if args["msg"] is None else args["msg"]}
    try:
        return {"changed": False, args["var"]: value_of(args["var"], templates, scope)}
    except UndefinedError:
        return {"changed": False, args["var"]: UNDEFINED}


def _fail(args: Mapping[str, Any], templates: Templates, scope: Scope) -> dict[str, Any]:
    return failed(args["msg"])


def _set_fact(args: Mapping[str, Any], templates: Templates, scope: Scope) -> dict[str, Any]:
    return {"changed": False, "ansible_facts": dict(args)}


_MODULES: dict[str, Callable[[Mapping[str, Any], Templates, Scope], dict[str, Any]]] = {
    "assert": _assert,
    "debug": _debug,
    "fail": _fail,
    "set_fact": _set_fact,
}


def evaluate(module: str, args: dict[str, Any], templates: Templates, scope: Scope) -> dict[str, Any] | None:
    """The result of a task with these options (rendered, except EXPRESSIONS); None for a module of the node."""
    if module not in _MODULES:
        return None
    return _MODULES[module](normalise(module, args), templates, scope)
