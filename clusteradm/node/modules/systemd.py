"""systemd: the state of a unit, now and at boot."""

import os
import time
from typing import Any, Dict, List

from clusteradm.node.context import Completed, Context, ModuleFailed

# UnitFileState values that decide whether a unit is enabled; for others `is-enabled` is asked.
_ENABLED = {"enabled": True, "static": True, "disabled": False, "masked": False}
# Output of a successful `is-enabled` for a unit that `enable` would still change.
_NOT_YET = ("enabled-runtime", "indirect", "alias")
# A unit can start, stop or fail by itself: an older state is read again.
_FRESH_SECONDS = 1.0


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Reload systemd; mask, enable and start a unit, or the contrary, each only if it is not in that state."""
    for option in ("daemon_reload", "daemon_reexec"):
        if options[option] and not context.check:
            verb = option.replace("_", "-")
            done = _systemctl(options, context, verb)
            if done.rc:
                raise ModuleFailed("failure %d during %s: %s" % (done.rc, verb, done.stderr))
            context.memory.pop("units", None)
    unit = options["name"]
    result: Dict[str, Any] = {"name": unit, "changed": False, "status": {}}
    if unit is None:
        if any(options[option] is not None for option in ("state", "enabled", "masked")):
            raise ModuleFailed("state, enabled and masked need the option name")
        return result
    if _is_pattern(unit):
        raise ModuleFailed(
            "This module does not currently support using glob patterns, found one in service name: %s" % unit
        )
    status = result["status"] = _show(unit, context)
    there = status.get("LoadState", "not-found") != "not-found" or _init_script(unit)
    if status.get("LoadError") and status.get("LoadState") not in ("not-found", "masked"):
        raise ModuleFailed("Error loading unit file '%s': %s" % (unit, status["LoadError"]))
    if options["masked"] is not None:
        _mask(options, context, result)
    if not there and (options["enabled"] is not None or options["state"] is not None):
        raise ModuleFailed("Could not find the requested service %s: host" % unit)
    if options["enabled"] is not None:
        _enable(options, context, result)
    if options["state"] is not None:
        _set_state(options, context, result)
    return result


def _mask(options: Dict[str, Any], context: Context, result: Dict[str, Any]) -> None:
    unit = options["name"]
    masked = _systemctl(options, context, "is-enabled", unit).stdout.strip() == "masked"
    if masked != options["masked"]:
        result["changed"] = True
        if not context.check:
            verb = "mask" if options["masked"] else "unmask"
            done = _systemctl(options, context, verb, unit)
            if done.rc:
                raise ModuleFailed("Failed to %s the service (%s): %s" % (verb, unit, done.stderr.strip()))


def _enable(options: Dict[str, Any], context: Context, result: Dict[str, Any]) -> None:
    unit = options["name"]
    enabled = _ENABLED.get(result["status"].get("UnitFileState", ""))
    if enabled is None or options["masked"] is not None:
        said = _systemctl(options, context, "is-enabled", unit, "-l")
        enabled = said.rc == 0 and said.stdout.rstrip() not in _NOT_YET
    if enabled != options["enabled"]:
        result["changed"] = True
        if not context.check:
            verb = "enable" if options["enabled"] else "disable"
            done = _systemctl(options, context, verb, unit)
            if done.rc:
                raise ModuleFailed("Unable to %s service %s: %s" % (verb, unit, done.stdout + done.stderr))
    result["enabled"] = options["enabled"]


def _set_state(options: Dict[str, Any], context: Context, result: Dict[str, Any]) -> None:
    unit, state, now = options["name"], options["state"], result["status"].get("ActiveState")
    runs = now in ("active", "activating")
    result["state"] = "stopped" if state == "stopped" else "started"
    if state == "stopped":
        verb = "stop" if runs or now == "deactivating" else ""
    elif state == "started" or not runs:
        verb = "" if runs else "start"
    else:
        verb = "restart" if state == "restarted" else "reload"
    if verb:
        result["changed"] = True
        if not context.check:
            done = _systemctl(options, context, verb, unit)
            if done.rc:
                raise ModuleFailed("Unable to %s service %s: %s" % (verb, unit, done.stderr))


def _is_pattern(unit: str) -> bool:
    return any(sign in unit for sign in "*?[")


def _show(unit: str, context: Context) -> Dict[str, str]:
    """The unit's properties.

    The first task of a batch reads those of all its units: starting systemctl takes longer than its answer. After a
    change each task reads its own.
    """
    asked, states = context.memory.get("units", (0.0, {}))
    if unit not in states or time.monotonic() - asked > _FRESH_SECONDS:
        others = [args.get("name") for module, args in context.tasks if module in ("systemd", "service")]
        context.tasks = ()
        names = [name for name in others if isinstance(name, str) and name and not _is_pattern(name)]
        states = _ask(list(dict.fromkeys([unit, *names])), context) or _ask([unit], context)
        context.memory["units"] = (time.monotonic(), states)
    return dict(states[unit])


def _ask(units: List[str], context: Context) -> Dict[str, Dict[str, str]]:
    """Each unit's properties; {} if the answers cannot be told apart, or a name is not one of a unit."""
    done = context.run(["systemctl", "show", *units])
    answers = done.stdout.strip("\n").split("\n\n") if len(units) > 1 else [done.stdout]
    if done.rc or len(answers) != len(units):
        if len(units) == 1:
            raise ModuleFailed(done.tail(), rc=done.rc)
        return {}
    return {unit: _properties(answer) for unit, answer in zip(units, answers)}


def _properties(text: str) -> Dict[str, str]:
    """Properties of one unit. Commands are in braces and may have several lines."""
    status: Dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if key:
            status[key] += "\n" + line
        elif "=" in line:
            key, _, status_text = line.partition("=")
            status[key] = status_text.strip()
            if not (key.startswith("Exec") and status_text.lstrip().startswith("{")):
                key = ""
        if key and line.rstrip().endswith("}"):
            key = ""
    return status


def _init_script(unit: str) -> bool:
    return os.path.exists(os.path.join("/etc/init.d", unit))


def _systemctl(options: Dict[str, Any], context: Context, *words: str) -> Completed:
    flags = [flag for flag, wanted in (("--no-block", options["no_block"]), ("--force", options["force"])) if wanted]
    return context.run(["systemctl", *flags, *words])
