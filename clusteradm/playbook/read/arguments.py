"""Options of a module: names and types, checked against the node's table (clusteradm/node/spec/modules)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from clusteradm.node.spec.modules import MODULES, convert

# Options that may precede a command written as one string (Ansible's free form).
_FREE_FORM_OPTIONS = ("chdir", "creates", "executable", "removes", "stdin")
_FREE_FORM = re.compile(
    r"(?:^|(?<=\s))("
    + "|".join(_FREE_FORM_OPTIONS)
    + r""")=("[^"]*"|'[^']*'|(?:\{\{(?:(?!\}\}).)*\}\}|(?!\{\{)[^\s"'])+)(?:\s+|$)"""
)


def canonical(module: str) -> dict[str, str]:
    """Every name and alias of an option to its canonical name."""
    names = {}
    for name, option in MODULES[module]["options"].items():
        names.update(dict.fromkeys([name, *option.get("aliases", ())], name))
    return names


def check(module: str, option: str, value: Any) -> None:
    """Raise OptionError if the value does not fit the option."""
    convert(module, option, MODULES[module]["options"][option], value)


def lacking(module: str, given: Iterable[str], perhaps: Collection[str]) -> list[str]:
    """Messages about required options that are missing, and about options that exclude each other.

    `perhaps`: given options that may turn out to be omitted.
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
    """The options of a task written as one string, which is `option`; a command may have `creates=FILE` etc."""
    if option != "cmd":
        return {option: text}
    options: dict[str, str] = {}

    def take(match: re.Match[str]) -> str:
        value = match[2]
        options[match[1]] = value[1:-1] if value[0] in "\"'" else value
        return ""

    rest = _FREE_FORM.sub(take, text)
    return {"cmd": rest.strip() if options else text, **options}
