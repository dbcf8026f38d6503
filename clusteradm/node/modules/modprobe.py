"""modprobe: a kernel module, now and at boot."""

import os
import re
import shlex
from typing import Any, Dict, List

from clusteradm.node import files
from clusteradm.node.context import Context, ModuleFailed

_LOADED = "/proc/modules"
_BUILT_IN = "/lib/modules/%s/modules.builtin" % os.uname().release
_AT_BOOT = "/etc/modules-load.d"
_PARAMETERS = "/etc/modprobe.d"


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Load or unload the module; `persistent`: also configure that for boot."""
    name = options["name"]
    result: Dict[str, Any] = {key: options[key] for key in ("name", "params", "state")}
    result["changed"] = False
    loaded = _loaded(name)
    if options["state"] == "present" and not loaded:
        _modprobe([name, *shlex.split(options["params"])], context, result)
        # A module that is loaded under another name, or unloads at once, is no change.
        result["changed"] = context.check or _loaded(name)
    elif options["state"] == "absent" and loaded:
        _modprobe(["-r", name], context, result)
        result["changed"] = True
    if options["persistent"] != "disabled":
        result["changed"] = _at_boot(options, context) or result["changed"]
    return result


def _modprobe(words: List[str], context: Context, result: Dict[str, Any]) -> None:
    done = context.run(["modprobe", *(["-n"] if context.check else []), *words])
    if done.rc:
        raise ModuleFailed(done.stderr, **dict(result, **done.result()))


def _loaded(name: str) -> bool:
    wanted = name.replace("-", "_")
    with open(_LOADED) as file:
        if any(line.split(" ", 1)[0] == wanted for line in file):
            return True
    with open(_BUILT_IN) as file:
        return any(line.rstrip().endswith("/%s.ko" % name) for line in file)


def _at_boot(options: Dict[str, Any], context: Context) -> bool:
    """Write or comment out the lines that load it and set its parameters; True if that is a change."""
    name, params = options["name"], options["params"].split()
    loading = re.compile(r" *%s *(?:[#;].*)?\Z" % re.escape(name))
    giving = re.compile(r"options %s (\w+=\S+) *(?:[#;].*)?\Z" % re.escape(name))
    loads = any(loading.match(line) for line in _lines(_AT_BOOT))
    given = {match.group(1) for match in map(giving.match, _lines(_PARAMETERS)) if match}
    if options["persistent"] == "absent":
        if not context.check:
            _comment_out(loading, _AT_BOOT)
            _comment_out(giving, _PARAMETERS)
        return loads or bool(given)
    if not context.check:
        if not loads:
            _write(os.path.join(_AT_BOOT, name + ".conf"), [name])
        if given != set(params):
            _comment_out(giving, _PARAMETERS)
            _write(os.path.join(_PARAMETERS, name + ".conf"), ["options %s %s" % (name, each) for each in params])
    return not loads or given != set(params)


def _files(folder: str) -> List[str]:
    paths = [os.path.join(folder, name) for name in os.listdir(folder)] if os.path.isdir(folder) else []
    return [path for path in paths if os.path.isfile(path)]


def _lines(folder: str) -> List[str]:
    return [line for path in _files(folder) for line in (files.read(path) or b"").decode("utf-8").splitlines()]


def _comment_out(pattern: "re.Pattern[str]", folder: str) -> None:
    for path in _files(folder):
        lines = (files.read(path) or b"").decode("utf-8").splitlines()
        if any(pattern.match(line) for line in lines):
            _write(path, ["#" + line if pattern.match(line) else line for line in lines])


def _write(path: str, lines: List[str]) -> None:
    files.write(path, ("\n".join(lines) + "\n").encode("utf-8"))
