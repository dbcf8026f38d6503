"""timezone: the time zone, and whether the hardware clock runs in it or in UTC, by systemd."""

import os
import re
import shutil
from typing import Any, Dict

from clusteradm.node.context import Completed, Context, ModuleFailed

_ZONES = "/usr/share/zoneinfo/"


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Set the ones that differ."""
    wanted = {name: options[name] for name in ("hwclock", "name") if options[name] is not None}
    if not shutil.which("timedatectl"):
        raise ModuleFailed("timedatectl is missing, by which this module sets a time zone")
    if "name" in wanted and not os.path.isfile(_ZONES + wanted["name"]):
        raise ModuleFailed('Error message:\ngiven timezone "%s" is not available' % wanted["name"])
    has = _current(context)
    before = {name: has[name] for name in wanted}
    result: Dict[str, Any] = {"changed": before != wanted, "diff": {"before": before, "after": wanted}}
    if context.check:
        return result
    if before.get("hwclock") != wanted.get("hwclock"):
        _do(context, "set-local-rtc", "yes" if wanted["hwclock"] == "local" else "no")
    if before.get("name") != wanted.get("name"):
        _do(context, "set-timezone", wanted["name"])
    if result["changed"]:
        has = _current(context)
        after = {name: has[name] for name in wanted}
        if after != wanted:
            raise ModuleFailed(
                "still not desired state, though changes have made - planned: %s, after: %s" % (wanted, after)
            )
    return result


def _current(context: Context) -> Dict[str, str]:
    said = _do(context, "status").stdout
    zone = re.search(r"^\s*Time ?zone\s*:\s*(\S+)", said, re.M)
    local = re.search(r"^\s*RTC in local TZ\s*:\s*(\S+)", said, re.M)
    if zone is None or local is None:
        raise ModuleFailed("timedatectl status has no time zone:\n" + said)
    return {"name": zone.group(1), "hwclock": "local" if local.group(1) == "yes" else "UTC"}


def _do(context: Context, *words: str) -> Completed:
    done = context.run(["timedatectl", *words])
    if done.rc:
        raise ModuleFailed(done.stderr.rstrip(), rc=done.rc)
    return done
