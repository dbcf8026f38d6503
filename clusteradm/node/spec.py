"""Each module's options and their types. Pure data and its one judge; the admin side reads it as well, to refuse a bad
task before anything runs.

Names, types, defaults and aliases are Ansible's; an option of Ansible's that is not here is refused, never ignored.
"""

from typing import Any, Dict, List

_FILE: Dict[str, Dict[str, Any]] = {
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "mode"},
}

_COMMAND: Dict[str, Dict[str, Any]] = {
    "cmd": {"type": "str"},
    "argv": {"type": "list"},
    "chdir": {"type": "path"},
    "creates": {"type": "path"},
    "removes": {"type": "path"},
    "stdin": {"type": "str"},
}


def _path(*aliases: str) -> Dict[str, Any]:
    return {"type": "path", "required": True, "aliases": list(aliases)}


MODULES: Dict[str, Dict[str, Any]] = {
    "apt": {
        "runs": "node",
        "options": {
            "name": {"type": "list", "aliases": ["package", "pkg"]},
            "state": {"type": "str", "default": "present", "choices": ["present", "latest", "absent"]},
            "update_cache": {"type": "bool", "default": False, "aliases": ["update-cache"]},
            "cache_valid_time": {"type": "int", "default": 0},
            "install_recommends": {"type": "bool", "aliases": ["install-recommends"]},
        },
        "required_one_of": [["name", "update_cache"]],
    },
    "assert": {
        "runs": "admin",
        "options": {
            "that": {"type": "list", "required": True},
            "fail_msg": {"type": "str", "aliases": ["msg"]},
            "success_msg": {"type": "str"},
            "quiet": {"type": "bool", "default": False},
        },
    },
    "authorized_key": {
        "runs": "node",
        "options": {
            "user": {"type": "str", "required": True},
            "key": {"type": "str", "required": True},
            "key_options": {"type": "str"},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
        },
    },
    "blockinfile": {
        "runs": "node",
        "options": dict(
            _FILE,
            path=_path("dest", "destfile", "name"),
            block={"type": "str", "default": "", "aliases": ["content"]},
            marker={"type": "str", "default": "# {mark} ANSIBLE MANAGED BLOCK"},
            insertafter={"type": "str"},
            insertbefore={"type": "str"},
            create={"type": "bool", "default": False},
            backup={"type": "bool", "default": False},
            state={"type": "str", "default": "present", "choices": ["present", "absent"]},
        ),
        "mutually_exclusive": [["insertafter", "insertbefore"]],
    },
    "command": {
        "runs": "node",
        "free_form": True,
        "options": _COMMAND,
        "required_one_of": [["cmd", "argv"]],
        "mutually_exclusive": [["cmd", "argv"]],
    },
    "file": {
        "runs": "node",
        "options": dict(
            _FILE,
            path=_path("dest", "name"),
            state={"type": "str", "choices": ["absent", "directory", "file", "link", "touch"]},
            src={"type": "path"},
            recurse={"type": "bool", "default": False},
            force={"type": "bool", "default": False},
        ),
    },
    "get_url": {
        "runs": "node",
        "options": dict(
            _FILE,
            url={"type": "str", "required": True},
            dest={"type": "path", "required": True},
            checksum={"type": "str", "default": ""},
            force={"type": "bool", "default": False},
            timeout={"type": "int", "default": 10},
        ),
    },
    "group": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True},
            "gid": {"type": "int"},
            "system": {"type": "bool", "default": False},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
        },
    },
    "hostname": {"runs": "node", "options": {"name": {"type": "str", "required": True}}},
    "lineinfile": {
        "runs": "node",
        "options": dict(
            _FILE,
            path=_path("dest", "destfile", "name"),
            line={"type": "str", "aliases": ["value"]},
            regexp={"type": "str", "aliases": ["regex"]},
            insertafter={"type": "str"},
            insertbefore={"type": "str"},
            create={"type": "bool", "default": False},
            backup={"type": "bool", "default": False},
            state={"type": "str", "default": "present", "choices": ["present", "absent"]},
        ),
        "mutually_exclusive": [["insertafter", "insertbefore"]],
    },
    "mount": {
        "runs": "node",
        "options": {
            "path": _path("name"),
            "src": {"type": "str"},
            "fstype": {"type": "str"},
            "opts": {"type": "str", "default": "defaults"},
            "state": {
                "type": "str",
                "required": True,
                "choices": ["absent", "mounted", "present", "unmounted"],
            },
        },
    },
    "shell": {
        "runs": "node",
        "free_form": True,
        "options": dict(_COMMAND, executable={"type": "path", "default": "/bin/sh"}),
        "required_one_of": [["cmd"]],
    },
    "slurp": {"runs": "node", "options": {"src": _path("path")}},
    "systemd": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "aliases": ["service", "unit"]},
            "state": {"type": "str", "choices": ["reloaded", "restarted", "started", "stopped"]},
            "enabled": {"type": "bool"},
            "daemon_reload": {"type": "bool", "default": False, "aliases": ["daemon-reload"]},
        },
        "required_one_of": [["state", "enabled", "daemon_reload"]],
    },
    "template": {
        "runs": "node",
        "options": dict(
            _FILE,
            src={"type": "path", "required": True},
            dest={"type": "path", "required": True},
            backup={"type": "bool", "default": False},
            force={"type": "bool", "default": True},
        ),
    },
    "user": {
        "runs": "node",
        "options": {
            "name": {"type": "str", "required": True, "aliases": ["user"]},
            "uid": {"type": "int"},
            "group": {"type": "str"},
            "groups": {"type": "list"},
            "append": {"type": "bool", "default": False},
            "home": {"type": "path"},
            "shell": {"type": "path"},
            "comment": {"type": "str"},
            "system": {"type": "bool", "default": False},
            "create_home": {"type": "bool", "default": True, "aliases": ["createhome"]},
            "generate_ssh_key": {"type": "bool", "default": False},
            "ssh_key_type": {"type": "str", "default": "rsa"},
            "ssh_key_file": {"type": "path"},
            "ssh_key_comment": {"type": "str"},
            "state": {"type": "str", "default": "present", "choices": ["present"]},
        },
    },
    "wait_for_connection": {
        "runs": "admin",
        "options": {
            "delay": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 600},
        },
    },
}

# Options that the admin side turns into others before a task is sent: a template arrives as a rendered body.
WIRE: Dict[str, Dict[str, Dict[str, Any]]] = {"template": {"blob": {"type": "str", "required": True}}}

FQCN = {"ansible.builtin." + name: name for name in MODULES if name not in ("authorized_key", "mount")}
FQCN.update({"ansible.posix.mount": "mount", "ansible.posix.authorized_key": "authorized_key"})
FQCN["ansible.builtin.systemd_service"] = "systemd"


class OptionError(ValueError):
    """An option that the module does not have, lacks, or cannot take; the text says which and why."""


def normalise(module: str, args: Dict[str, Any]) -> Dict[str, Any]:
    """The module's options with aliases resolved, types converted and defaults filled in. Raises OptionError."""
    known = dict(MODULES[module]["options"], **WIRE.get(module, {}))
    names = {alias: name for name, option in known.items() for alias in option.get("aliases", ())}
    result: Dict[str, Any] = {}
    for given, value in args.items():
        name = names.get(given, given)
        if name not in known:
            raise OptionError("%s has no option %s" % (module, given))
        if value is not None:
            result[name] = convert(module, name, known[name], value)
    for name, option in known.items():
        if name in result:
            continue
        if option.get("required") and not (name == "src" and "blob" in result):
            raise OptionError("%s needs the option %s" % (module, name))
        result[name] = option.get("default")
    for group in MODULES[module].get("required_one_of", ()):
        if all(result[name] in (None, False, []) for name in group):
            raise OptionError("%s needs one of %s" % (module, ", ".join(group)))
    for group in MODULES[module].get("mutually_exclusive", ()):
        if sum(result[name] is not None for name in group) > 1:
            raise OptionError("%s takes only one of %s" % (module, ", ".join(group)))
    return result


_TRUE = ("yes", "on", "1", "true", "t", "y")
_FALSE = ("no", "off", "0", "false", "f", "n")


def convert(module: str, name: str, option: Dict[str, Any], value: Any) -> Any:
    """The value as the option's type has it. Raises OptionError."""
    kind = option["type"]
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
    if isinstance(value, (dict, list)):
        raise bad
    if kind == "mode":
        return _mode(value, bad)
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


def _mode(value: Any, bad: OptionError) -> int:
    """A file mode as a number. Symbolic modes are not in the subset."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(str(value), 8)
    except ValueError:
        raise bad from None
