"""Placeholders of missing values: undefined, or not known yet. Every use of one raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from clusteradm.playbook.render.limits import BUDGET, ELEMENT, TooMuch


class Undefined(jinja2.StrictUndefined):
    """An undefined value. `a.b.c` of an undefined `a` is undefined too, so that `is defined` and `default` work."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self


class Deferred(Undefined):
    """A variable whose rendering raised. Raises that error when used, `is defined` included.

    Jinja looks up every name of a template before it renders it, also those that it then does not need.
    """

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        super().__init__(hint=str(error))
        self.error = error
        # Every method of Undefined raises self._undefined_exception(message).
        self._undefined_exception = lambda _message: error  # type: ignore[assignment]


def is_no_else(value: Any) -> bool:
    """Whether it is the value of `{{ x if false }}`, Jinja's placeholder of a missing `else`.

    As in Ansible it is empty where it is output beside other parts, and an error where it is the whole value.
    """
    return type(value) is jinja2.Undefined


def use(value: Any) -> Any:
    """The value; raises if it is undefined or not known yet."""
    if isinstance(value, jinja2.Undefined):
        value._fail_with_undefined_error()
    return value


def strict(value: Any) -> Any:
    """The value; raises if it, or anything within it, is undefined or not known yet, or there is too much of it."""
    use(value)
    if isinstance(value, Mapping | list | tuple):
        left = BUDGET // ELEMENT
        stack = [iter(value.values() if isinstance(value, Mapping) else value)]
        while stack:
            for element in stack[-1]:
                left -= 1
                if left < 0:
                    raise TooMuch
                if isinstance(element, str | int):
                    continue
                use(element)
                if isinstance(element, Mapping | list | tuple):
                    stack.append(iter(element.values() if isinstance(element, Mapping) else element))
                    break
            else:
                stack.pop()
    return value
