"""nmcli: a connection of NetworkManager, of type ethernet."""

import re
from typing import Any, Dict, List, Optional

from clusteradm.node.context import Completed, Context, ModuleFailed

# NetworkManager's settings and the module's options, in the order in which nmcli gets them.
_SETTINGS = (
    ("connection.autoconnect", "autoconnect"),
    ("connection.autoconnect-priority", "autoconnect_priority"),
    ("connection.zone", "zone"),
    ("ipv4.addresses", "ip4"),
    ("ipv4.dns", "dns4"),
    ("ipv4.dns-search", "dns4_search"),
    ("ipv4.ignore-auto-dns", "dns4_ignore_auto"),
    ("ipv4.gateway", "gw4"),
    ("ipv4.ignore-auto-routes", "gw4_ignore_auto"),
    ("ipv4.route-metric", "route_metric4"),
    ("ipv4.never-default", "never_default4"),
    ("ipv4.method", "method4"),
    ("ipv4.may-fail", "may_fail4"),
    ("ipv6.addresses", "ip6"),
    ("ipv6.dns", "dns6"),
    ("ipv6.dns-search", "dns6_search"),
    ("ipv6.ignore-auto-dns", "dns6_ignore_auto"),
    ("ipv6.gateway", "gw6"),
    ("ipv6.ignore-auto-routes", "gw6_ignore_auto"),
    ("ipv6.method", "method6"),
    ("802-3-ethernet.cloned-mac-address", "mac"),
    ("802-3-ethernet.mtu", "mtu"),
)
_LISTS = tuple(setting for setting, _ in _SETTINGS if setting.split(".")[1] in ("addresses", "dns", "dns-search"))
_MAC = "802-3-ethernet.cloned-mac-address"
_MTU = "802-3-ethernet.mtu"


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Add or change the connection, or remove it; activate or deactivate it."""
    name, state = options["conn_name"], options["state"]
    result: Dict[str, Any] = {"conn_name": name, "state": state, "changed": False}
    there = name in _checked(_nmcli(context, "--fields", "name", "--terse", "con", "show"), name).stdout.splitlines()
    if state == "present":
        return _present(options, there, context, result)
    if not there:
        return result
    if context.check:
        return {"changed": True}
    if state == "absent":
        _nmcli(context, "con", "down", name)
        return _result(_nmcli(context, "con", "del", name), "Error removing connection named %s" % name, result)
    if options["conn_reload"]:
        _nmcli(context, "con", "reload")
    return _result(_nmcli(context, "con", state, name), "Error bringing %s connection named %s" % (state, name), result)


def _present(options: Dict[str, Any], there: bool, context: Context, result: Dict[str, Any]) -> Dict[str, Any]:
    name = options["conn_name"]
    wanted = _settings(options)
    if options["type"] is None and wanted.pop(_MTU) is not None:
        # Ansible ignores it then.
        raise ModuleFailed("mtu needs type: ethernet", name=name)
    if not there:
        if options["type"] is None:
            raise ModuleFailed("connection %s does not exist: give its type to create it" % name, name=name)
        result.update(Connection="Connection %s of Type %s is being added" % (name, options["type"]), changed=True)
        if context.check:
            return result
        begin = ["con", "add", "type", options["type"], "con-name", name]
        interface = [] if options["ifname"] else ["connection.interface-name", name]
        done = _nmcli(context, *begin, *interface, *_arguments(wanted))
        if done.rc == 0 and any(options[option] is not None for option in ("mtu", "dns4", "dns6")):
            done = _nmcli(context, "con", "up", name)
        return _result(done, name, result)
    now = _show(name, context)
    if now.get("connection.type") != "802-3-ethernet":
        raise ModuleFailed("connection %s is of type %s, not ethernet" % (name, now.get("connection.type")), name=name)
    before, after = _compared(now, _with_mtu(wanted, "auto"))
    if context.diff:
        result["diff"] = {"before": before, "after": after}
    if before == after:
        result["Exists"] = "Connections already exist and no changes made"
        return result
    result.update(Exists="Connections do exist so we are modifying them", changed=True)
    if context.check:
        return result
    done = _nmcli(context, "con", "modify", name, *_arguments(_with_mtu(wanted, "0")))
    if options["conn_reload"]:
        done = _nmcli(context, "con", "reload")
    return _result(done, name, result)


def _settings(options: Dict[str, Any]) -> Dict[str, Any]:
    """Setting -> a text, a list of texts, or None if it is not given."""
    wanted: Dict[str, Any] = {"connection.interface-name": options["ifname"]}
    for setting, option in _SETTINGS:
        value = options[option]
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = [str(each) for each in value]
        elif value is not None:
            value = str(value)
        wanted[setting] = value
    for setting, option, bits in (("ipv4", "ip4", "/32"), ("ipv6", "ip6", "/128")):
        if options[option] is not None:
            wanted[setting + ".addresses"] = [
                each if "/" in each else each + bits for each in wanted[setting + ".addresses"]
            ]
            if options[option] and wanted[setting + ".method"] is None:
                wanted[setting + ".method"] = "manual"
    return wanted


def _with_mtu(wanted: Dict[str, Any], usual: str) -> Dict[str, Any]:
    """Without an MTU, the interface's default again: `usual`."""
    return dict(wanted, **{_MTU: wanted[_MTU] or usual}) if _MTU in wanted else wanted


def _compared(now: Dict[str, Any], wanted: Dict[str, Any]) -> Any:
    """Present and wanted values of the given settings."""
    before: Dict[str, Any] = {}
    after: Dict[str, Any] = {}
    for key, value in wanted.items():
        if value or value == []:
            current = now.get(key)
            if key == _MAC:
                value, current = value.upper(), current and current.upper()
            before[key], after[key] = current, value
    return before, after


def _show(name: str, context: Context) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for line in _checked(_nmcli(context, "con", "show", name), name).stdout.splitlines():
        key, colon, said = line.partition(":")
        value: Optional[str] = said.strip()
        if value == "--":
            value = None
        if key in _LISTS:
            found[key] = [part.strip() for part in value.split(",")] if value else []
        elif colon:
            number = re.match(r"(-?\d+) \(\w+\)\Z", value or "")
            found[key] = number.group(1) if number else value
    return found


def _arguments(wanted: Dict[str, Any]) -> List[str]:
    """The given settings as arguments of nmcli."""
    words = []
    for key, value in wanted.items():
        if value is not None:
            words += [key, ",".join(value) if isinstance(value, list) else value]
    return words


def _checked(done: Completed, name: str) -> Completed:
    if done.rc:
        raise ModuleFailed(done.stderr, name=name)
    return done


def _result(done: Completed, name: str, result: Dict[str, Any]) -> Dict[str, Any]:
    if done.rc:
        raise ModuleFailed(done.stderr, name=name, rc=done.rc)
    said = {key: text for key, text in (("stdout", done.stdout), ("stderr", done.stderr)) if text}
    return dict(result, changed=True, **said)


def _nmcli(context: Context, *words: str) -> Completed:
    command: List[str] = ["nmcli", *words]
    try:
        return context.run(command)
    except FileNotFoundError:
        raise ModuleFailed("nmcli is missing: NetworkManager is not installed") from None
