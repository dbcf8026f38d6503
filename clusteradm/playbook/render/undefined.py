"""What stands for a value that is not there: undefined for good, or not known yet. Every use of it raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2


class Undefined(jinja2.StrictUndefined):
    """`a.b.c` of an undefined `a` is undefined itself, so that `is defined` and `default` work; any use raises."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self


class Deferred(Undefined):
    """A variable whose rendering raised. Jinja looks up every name of a template before it begins, also those that it
    turns out not to need: only a use raises, and asking whether it is defined is a use."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        super().__init__(hint=str(error))
        self.error = error
        # Every method of Undefined raises self._undefined_exception(message).
        self._undefined_exception = lambda _message: error  # type: ignore[assignment]


def is_no_else(value: Any) -> bool:
    """Whether it is what `{{ x if false }}` gives, Jinja's own stand-in for the else that is not there.

    As in Ansible: nothing where it is put out beside something else, an error where it would be the value itself.
    """
    return type(value) is jinja2.Undefined


def use(value: Any) -> Any:
    """The value; raises if it is not there."""
    if isinstance(value, jinja2.Undefined):
        value._fail_with_undefined_error()
    return value


def strict(value: Any) -> Any:
    """The value; raises if it, or anything within it, is not there."""
    use(value)
    if isinstance(value, Mapping):
        for element in value.values():
            strict(element)
    elif isinstance(value, list | tuple):
        for element in value:
            strict(element)
    return value
