"""systemd: the state of a unit, now and at boot."""

from typing import Any, Dict

from clusteradm.node.modules import Context, Failed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Reload systemd, enable or disable, start or stop; each only where it is not so already."""
    result: Dict[str, Any] = {"name": options["name"], "changed": False}
    if options["daemon_reload"] and not context.check:
        _systemctl(context, "daemon-reload")
    unit = options["name"]
    if unit is None:
        return result
    unit = unit if "." in unit else unit + ".service"
    status = _show(unit, context)
    result["status"] = status
    if status.get("LoadState") == "not-found":
        if context.check:
            return dict(result, changed=True, msg="there is no unit %s yet" % unit)
        raise Failed("Could not find the requested service %s: host" % options["name"])
    if options["enabled"] is not None:
        enabled = status.get("UnitFileState") in ("enabled", "enabled-runtime", "static", "alias", "indirect")
        result["enabled"] = options["enabled"]
        if enabled != options["enabled"]:
            result["changed"] = True
            if not context.check:
                _systemctl(context, "enable" if options["enabled"] else "disable", unit)
    if options["state"] is not None:
        active = status.get("ActiveState") in ("active", "activating", "reloading")
        result["state"] = "stopped" if options["state"] == "stopped" else "started"
        verb = {
            "started": "" if active else "start",
            "stopped": "stop" if active else "",
            "restarted": "restart",
            "reloaded": "reload" if active else "start",
        }[options["state"]]
        if verb:
            result["changed"] = True
            if not context.check:
                _systemctl(context, verb, unit)
    return result


def _show(unit: str, context: Context) -> Dict[str, str]:
    done = context.run(["systemctl", "show", "-p", "LoadState,ActiveState,SubState,UnitFileState", unit])
    if done.rc:
        raise Failed(done.last_words(), rc=done.rc)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _systemctl(context: Context, *words: str) -> None:
    done = context.run(["systemctl", *words])
    if done.rc:
        raise Failed("Unable to %s: %s" % (" ".join(words), done.last_words()), rc=done.rc)
