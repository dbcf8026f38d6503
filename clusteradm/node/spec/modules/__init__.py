"""Options of each module, with their types: pure data, and the check of a task's options against it. The admin side
uses it as well, to refuse a bad task before anything runs.

Names, types, defaults and aliases are Ansible's; an option of Ansible's that is not here is refused, never ignored.
"runs": where; "free_form": the option that gets the text of a task without a mapping; "names": any option is taken, as
the name of a variable; "collection": Ansible's, if not ansible.builtin; "also": other names of the module.
"""

import re
from typing import Any, Dict, List, Union

from clusteradm.node.spec.modules import files, flow, host, packages, system

MODULES: Dict[str, Dict[str, Any]] = dict(
    sorted({**files.MODULES, **flow.MODULES, **host.MODULES, **packages.MODULES, **system.MODULES}.items())
)

# Options that the admin side adds before a task is sent: a template arrives as a rendered body, a copied file as its
# content.
WIRE: Dict[str, Dict[str, Dict[str, Any]]] = {
    "copy": {"blob": {"type": "str"}},
    "template": {"blob": {"type": "str", "required": True}},
}

# Every name of a module in a task, full and short -> the module.
NAMES: Dict[str, str] = {
    prefix + name: module
    for module, spec in MODULES.items()
    for name in [module, *spec.get("also", ())]
    for prefix in ("", spec.get("collection", "ansible.builtin") + ".")
}


class OptionError(ValueError):
    """An option that is unknown, missing or has a bad value; the text says which and why."""


def normalise(module: str, args: Dict[str, Any]) -> Dict[str, Any]:
    """The module's options with aliases resolved, types converted and defaults filled in. Raises OptionError."""
    if MODULES[module].get("names"):
        return dict(args)
    known = dict(MODULES[module]["options"], **WIRE.get(module, {}))
    names = {alias: name for name, option in known.items() for alias in option.get("aliases", ())}
    result: Dict[str, Any] = {}
    for given, value in args.items():
        name = names.get(given, given)
        if name not in known:
            raise OptionError("%s has no option %s" % (module, given))
        if value is not None:
            result[name] = convert(module, name, known[name], value)
    chosen = set(result)
    for name, option in known.items():
        if name in chosen:
            continue
        if option.get("required") and not (name == "src" and "blob" in result):
            raise OptionError("%s needs the option %s" % (module, name))
        result[name] = option.get("default")
    for group in MODULES[module].get("required_one_of", ()):
        if not chosen & set(group):
            raise OptionError("%s needs one of %s" % (module, ", ".join(group)))
    for group in MODULES[module].get("mutually_exclusive", ()):
        if len(chosen & set(group)) > 1:
            raise OptionError("%s takes only one of %s" % (module, ", ".join(group)))
    return result


_TRUE = ("yes", "on", "1", "true", "t", "y")
_FALSE = ("no", "off", "0", "false", "f", "n")


def convert(module: str, name: str, option: Dict[str, Any], value: Any) -> Any:
    """The value, converted to the option's type. Raises OptionError."""
    kind = option["type"]
    if kind == "raw":
        return value
    bad = OptionError("%s: %s cannot be %r (%s)" % (module, name, value, kind))
    if kind == "bool":
        text = str(value).lower()
        if isinstance(value, bool) or text in _TRUE + _FALSE:
            return value if isinstance(value, bool) else text in _TRUE
        raise bad
    if kind == "int":
        try:
            return int(value)
        except (TypeError, ValueError):
            raise bad from None
    if kind == "list":
        return _list(value)
    if kind == "dict" and isinstance(value, dict):
        return value
    if isinstance(value, (dict, list)):
        raise bad
    if kind == "mode":
        return value if value in option.get("choices", ()) else _mode(value, bad)
    if kind == "path" and not isinstance(value, str):
        raise bad
    text = value if isinstance(value, str) else str(value)
    if option.get("choices") and text not in option["choices"]:
        raise OptionError("%s: %s must be one of %s, not %r" % (module, name, ", ".join(option["choices"]), text))
    return text


def _list(value: Any) -> List[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]


# chmod's letters, as in u=rwX,go-w.
_LETTERS = re.compile(r"([ugo]*|a)([-+=][rwxXstugo]*)+(,([ugo]*|a)([-+=][rwxXstugo]*)+)*\Z")


def _mode(value: Any, bad: OptionError) -> Union[int, str]:
    """A file mode as a number, or as letters, which only the node can turn into a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(str(value), 8)
    except ValueError:
        if _LETTERS.match(str(value)):
            return str(value)
        raise bad from None
