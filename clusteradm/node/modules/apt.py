"""apt: packages. Never through python3-apt, whose cache costs a board seconds and another Python has not got."""

import os
import re
import time
from typing import Any, Dict, List, Tuple

from clusteradm.node.modules import Completed, Context, Failed

_STATUS = "/var/lib/dpkg/status"
_LISTS = "/var/lib/apt/lists"
_LOCK_SECONDS = 600
# Keep what a person configured; ask nothing.
_ANSWERS = ["-y", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "APT_LISTCHANGES_FRONTEND": "none"}


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Have the packages, or not; refresh the lists first if asked to."""
    result: Dict[str, Any] = {"changed": False, "cache_updated": False}
    if options["update_cache"] and _stale(options["cache_valid_time"]) and not context.check:
        _apt(context, ["update", "-q"], "cannot refresh the package lists")
        result["cache_updated"] = True
    result["cache_update_time"] = int(_updated())
    names = options["name"] or []
    if not names:
        result["changed"] = result["cache_updated"]
        return result
    wanted = [name for name in names if not _settled(name, options["state"], context)]
    if not wanted:
        return result
    verb = "remove" if options["state"] == "absent" else "install"
    flags = list(_ANSWERS)
    if options["install_recommends"] is not None:
        flags += ["-o", "APT::Install-Recommends=%s" % ("yes" if options["install_recommends"] else "no")]
    if context.check:
        done = _run(context, ["-s", verb, *flags, *wanted])
        # The simulation knows no package whose source an earlier task of this run would have added.
        result["changed"] = done.rc != 0 or bool(re.search(r"^(Inst|Remv) ", done.stdout, re.M))
        return result
    _repair(context)
    done = _apt(context, [verb, *flags, *wanted], "'apt-get %s %s' failed" % (verb, " ".join(wanted)))
    context.memory.pop("dpkg", None)
    result.update(
        changed=not re.search(r"^0 upgraded, 0 newly installed, 0 to remove", done.stdout, re.M), **done.result()
    )
    return result


def _settled(name: str, state: str, context: Context) -> bool:
    """True if nothing needs doing, as far as dpkg's own file says."""
    package, _, version = name.partition("=")
    package = package.split(":")[0]
    installed, provided = _installed(context)
    if state == "absent":
        return package not in installed
    if state == "latest":
        return False
    if package in installed:
        return not version or installed[package] == version
    return not version and package in provided


def _installed(context: Context) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Installed packages with their versions, and what they provide; read once per batch."""
    if "dpkg" not in context.memory:
        installed: Dict[str, str] = {}
        provided: Dict[str, str] = {}
        try:
            with open(_STATUS, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except FileNotFoundError:
            raise Failed("this is no Debian system: %s is missing" % _STATUS) from None
        for entry in text.split("\n\n"):
            fields = dict(re.findall(r"^(Package|Status|Version|Provides): (.*)$", entry, re.M))
            if fields.get("Status", "").endswith(" ok installed"):
                installed[fields["Package"]] = fields.get("Version", "")
                for name in fields.get("Provides", "").split(","):
                    provided[name.split("(")[0].strip()] = fields["Package"]
        context.memory["dpkg"] = (installed, provided)
    return context.memory["dpkg"]  # type: ignore[no-any-return]


def _updated() -> float:
    for path in ("/var/lib/apt/periodic/update-success-stamp", _LISTS):
        try:
            return os.stat(path).st_mtime
        except FileNotFoundError:
            continue
    return 0.0


def _stale(valid: int) -> bool:
    return time.time() - _updated() > valid


def _repair(context: Context) -> None:
    """A package left half-configured (a power cut, a killed run) makes every apt run fail until it is finished."""
    if os.listdir("/var/lib/dpkg/updates") or context.run(["dpkg", "--audit"]).stdout.strip():
        done = context.run(
            ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"], environment=_ENVIRONMENT
        )
        if done.rc:
            raise Failed(
                "a package is half-installed, and dpkg --configure -a fails: %s" % done.last_words(), rc=done.rc
            )


def _apt(context: Context, words: List[str], failure: str) -> Completed:
    done = _run(context, words)
    if done.rc:
        raise Failed("%s: %s" % (failure, done.last_words()), **done.result())
    return done


def _run(context: Context, words: List[str]) -> Completed:
    """apt-get; while another holds its lock (apt before 2.0 cannot wait by itself), again and again."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        done = context.run(["apt-get", *words], environment=_ENVIRONMENT)
        held = re.search(r"Could not get lock|Unable to (?:acquire|lock)|is held by process", done.stderr)
        if done.rc == 0 or not held or time.monotonic() > deadline:
            return done
        context.line("waiting for another package manager: " + done.stderr.strip().splitlines()[0])
        time.sleep(2)
