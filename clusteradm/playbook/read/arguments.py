"""A module's options: their names, and values of the right type, by the node's own table (clusteradm/node/spec)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from clusteradm.node.spec import MODULES, convert

# What may stand before a command that is written as one string, in Ansible's old form.
_FREE_FORM_OPTIONS = ("chdir", "creates", "executable", "removes", "stdin")
_FREE_FORM = re.compile(
    r"(?:^|(?<=\s))(" + "|".join(_FREE_FORM_OPTIONS) + r""")=("[^"]*"|'[^']*'|(?:\{\{.*?\}\}|[^\s"'])+)(?:\s+|$)"""
)


def canonical(module: str) -> dict[str, str]:
    """Every name by which an option may be written -> its own name."""
    names = {}
    for name, option in MODULES[module]["options"].items():
        names.update(dict.fromkeys([name, *option.get("aliases", ())], name))
    return names


def check(module: str, option: str, value: Any) -> None:
    """Raise OptionError if the option does not take the value."""
    convert(module, option, MODULES[module]["options"][option], value)


def lacking(module: str, given: Iterable[str], perhaps: Collection[str]) -> list[str]:
    """What is missing among the options that are given, or one too many: messages, none if all is well.

    `perhaps`: those of them that may turn out to be omitted.
    """
    spec, given = MODULES[module], set(given)
    messages = [
        f'{module} needs the option "{name}"'
        for name, option in spec["options"].items()
        if option.get("required") and name not in given
    ]
    for names in spec.get("required_one_of", ()):
        if not given & set(names):
            messages.append(f"{module} needs one of the options {', '.join(names)}")
    for names in spec.get("mutually_exclusive", ()):
        both = [name for name in names if name in given and name not in perhaps]
        if len(both) > 1:
            messages.append(f"{module} takes only one of the options {', '.join(both)}")
    return messages


def free_form(option: str, text: str) -> dict[str, str]:
    """The options of a task that gives one text, for `option`; `creates=FILE` and the like of a command are others."""
    if option != "cmd":
        return {option: text}
    options: dict[str, str] = {}

    def take(match: re.Match[str]) -> str:
        value = match[2]
        options[match[1]] = value[1:-1] if value[0] in "\"'" else value
        return ""

    rest = _FREE_FORM.sub(take, text)
    return {"cmd": rest.strip() if options else text, **options}
