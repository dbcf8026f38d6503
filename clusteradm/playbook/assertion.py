"""The module `assert`: it asks nothing of the node, so it is judged where its variables are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusteradm.playbook.conditions import holds
from clusteradm.playbook.jinja import Scope, Templates
from clusteradm.playbook.result import failed


def judge_assertion(args: Mapping[str, Any], templates: Templates, scope: Scope) -> dict[str, Any]:
    """The result of an assertion with these options (`that`: conditions that must all be true)."""
    for condition in args["that"]:
        if not holds(condition, templates, scope):
            message = args["fail_msg"] or "Assertion failed"
            return {**failed(message), "assertion": condition, "evaluated_to": False}
    return {"changed": False, "msg": args["success_msg"] or "All assertions passed"}
