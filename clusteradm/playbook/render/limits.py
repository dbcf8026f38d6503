"""Bounds of what one rendering may make: an amount of work and memory that no template of a playbook comes near.

Everything that can multiply a value (operators, calls, filters, loops, output) is charged before or as it is made:
a character 1, an element of a list or mapping 100, a call or a round of a loop 500. A rendering includes the variables
that it uses. Python has no means to interrupt one long operation of a thread; hence charges, not a clock.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinMethodType
from typing import Any

import jinja2

BUDGET = 100_000_000
ELEMENT = 100
STEP = 500
# Bits of the largest integer that * and ** may make.
_BITS = 100_000


class TooMuch(jinja2.TemplateRuntimeError):
    """A template that would take too much memory or time."""

    def __init__(self) -> None:
        super().__init__(
            f"the template makes too much: its texts, lists and loops are limited to {BUDGET:,} characters in all"
            f" (an element of a list counts {ELEMENT}, a call or a round of a loop {STEP}); make its values smaller"
        )


class _Rendering(threading.local):
    """The current rendering of a thread: what is left of its budget."""

    left = BUDGET
    active = False


_current = _Rendering()


def render(function: Callable[[], Any]) -> Any:
    """The value of a rendering; one within another shares its budget. Raises TooMuch, also for nesting without end."""
    if _current.active:
        charge(STEP)
        return function()
    _current.active, _current.left = True, BUDGET
    try:
        return function()
    except RecursionError:
        raise jinja2.TemplateRuntimeError(
            "nested too deeply: a macro or a variable that calls itself, or values within values"
        ) from None
    except MemoryError:
        raise TooMuch from None
    finally:
        _current.active = False


def charge(amount: int) -> None:
    """Take an amount from the budget. Raises TooMuch if it is spent."""
    if not _current.active:  # a single step outside of a template has a budget of its own
        _current.left = BUDGET
    _current.left -= amount
    if _current.left < 0:
        raise TooMuch


def measure(value: Any) -> int:
    """Size of a value, all that is within it included, each time that it is there. Raises TooMuch above the budget."""
    if isinstance(value, str | bytes):
        return len(value)
    if not isinstance(value, list | tuple | dict | set | frozenset | range):
        return 1
    total = 0
    stack: list[Any] = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, str | bytes):
            total += len(one)
        elif isinstance(one, dict):
            total += ELEMENT * len(one)
            stack += one
            stack += one.values()
        elif isinstance(one, range):
            total += ELEMENT * ((one[-1] - one[0]) // one.step + 1) if one else 0
        elif isinstance(one, list | tuple | set | frozenset):
            total += ELEMENT * len(one)
            if total <= BUDGET:
                stack += one
        if total > BUDGET:
            raise TooMuch
    return total


def counted(values: Iterable[Any]) -> Iterator[Any]:
    """The elements, each one charged as a round of a loop. Raises at once what iter(values) raises."""
    return _charged(iter(values), lambda _: STEP)


def _charged(values: Iterator[Any], cost: Callable[[Any], int]) -> Iterator[Any]:
    for value in values:
        charge(cost(value))
        yield value


def power(base: Any, exponent: Any) -> Any:
    """`**`, whose result has at most _BITS bits."""
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1 and exponent * base.bit_length() > _BITS:
        raise TooMuch
    return base**exponent


def times(left: Any, right: Any) -> Any:
    """`*`, whose result is charged before it is made."""
    for values, number in ((left, right), (right, left)):
        if isinstance(values, str | bytes | list | tuple) and isinstance(number, int):
            charge(len(values) * max(number, 0) * (1 if isinstance(values, str | bytes) else ELEMENT))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _BITS:
        raise TooMuch
    return left * right


def plus(left: Any, right: Any) -> Any:
    """`+`, whose result is charged before it is made."""
    if isinstance(left, str | bytes | list | tuple) and isinstance(right, str | bytes | list | tuple):
        charge((len(left) + len(right)) * (1 if isinstance(left, str | bytes) else ELEMENT))
    return left + right


# The numbers of a format: `%99d`, `%(name)-99.9f`, `%099Y`.
_WIDTH = re.compile(r"%(?:\([^()%]*\))?[-#0 +_^]*(\d*)(?:\.(\d*))?")


def widths(numbers: Iterable[str]) -> None:
    """Charge for the numbers in a format: each may be the width of a text."""
    for number in numbers:
        charge(int(number) if len(number) < len(str(BUDGET)) else BUDGET + 1)


def format_widths(form: str) -> None:
    """Charge for the widths in a format with `%`."""
    widths(number for found in _WIDTH.findall(form) for number in found if number)


def percent(left: Any, right: Any) -> Any:
    """`%`: of numbers, or the formatting of a text."""
    if isinstance(left, str):
        formatting(left, right)
    return left % right


def formatting(form: str, value: Any) -> None:
    """Charge for the formatting of values with `%`."""
    format_widths(form)
    values = value if isinstance(value, tuple) else (value,)
    numbers = sum(abs(one) for one in values if isinstance(one, int)) if "*" in form else 0
    charge(form.count("%") * (measure(value) + numbers))


# Methods of texts and numbers whose result may be as large as the product of what they are given.
_GROWING = {"center", "expandtabs", "join", "ljust", "replace", "rjust", "to_bytes", "translate", "zfill"}


# Methods of lists and mappings that look at one element.
_QUICK = {"append", "get", "items", "keys", "pop", "popitem", "setdefault", "values"}


def call(function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """Charge for a call by a template; the arguments to call with: iterators made lists where their length matters."""
    charge(STEP)
    owner = getattr(function, "__self__", None) if isinstance(function, BuiltinMethodType) else None
    if owner is None or isinstance(owner, type):
        charge(sum(map(measure, (*args, *options.values()))))
        return args
    name = function.__name__
    if name in _GROWING and isinstance(owner, str | bytes | int):
        args = tuple(_listed(one) for one in args)
        charge(_product(name, (owner, *args, *options.values())))
    elif name == "strftime":
        for one in (*args, *options.values()):
            format_widths(str(one))
    elif isinstance(owner, str | bytes):
        charge(len(owner))
    elif isinstance(owner, list | dict | set) and name not in _QUICK:
        charge(sum(ELEMENT * len(one) for one in (owner, *args) if isinstance(one, list | tuple | dict | set)))
        args = tuple(_listed(one) for one in args)
    return args


def _listed(value: Any) -> Any:
    """The value; an iterator or a range as a list, whose elements are charged."""
    return list(counted(value)) if isinstance(value, Iterator | range) else value


def _product(name: str, values: Iterable[Any]) -> int:
    product = 1
    for value in values:
        if isinstance(value, int):
            product *= 1 if name == "replace" else max(abs(value), 1)
        else:
            product *= max(measure(value), 1)
    return product


# Filters with a number that says how much to make, and filters that put one text into another at many places.
_AMOUNTS = {
    *("batch", "center", "indent", "round", "slice", "tojson", "to_json", "to_nice_json", "to_nice_yaml", "to_yaml"),
    *("truncate", "wordwrap"),
}
_INSERTING = {"indent", "join", "regex_replace", "replace", "wordwrap"}
# Filters that compare each element with each.
_COMPARING = {"difference", "intersect", "symmetric_difference", "union", "unique"}
# Filters that look at the length, or one element, of a range or a list.
_GLANCING = {"count", "first", "last", "length", "random"}


def of_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, made to charge for what it is given and makes."""
    if name in _GLANCING:
        return function
    # Jinja gives some filters its environment or context before the value.
    place = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def charged(*args: Any, **options: Any) -> Any:
        if name in _INSERTING or name in _COMPARING:
            args = tuple(_listed(one) for one in args)
        value, *others = *args[place:], *options.values()
        size, sizes = measure(value), [measure(other) for other in others]
        charge(STEP + size + sum(sizes))
        if name in _AMOUNTS:
            lines = 1 + size // ELEMENT + (value.count("\n") if isinstance(value, str) else 0)
            charge(lines * sum(abs(one) for one in others if isinstance(one, int)))
        if name in _INSERTING:
            charge(size * max(sizes, default=1))
        if name in _COMPARING:
            charge(sum(len(one) for one in (value, *others) if isinstance(one, list | tuple | dict)) ** 2)
        if name == "sum" and any(isinstance(one, list | tuple) for one in others):
            charge(size * size // ELEMENT)
        if name == "format":
            formatting(str(value), tuple(others))
        if name == "strftime":
            format_widths(str(value))
        result = function(*args, **options)
        return _charged(result, lambda one: STEP + measure(one)) if isinstance(result, Iterator) else result

    return charged
