"""apt: packages. Without python3-apt, whose cache costs a board seconds and which another Python does not have."""

import os
import re
import time
from typing import Any, Dict, List

from clusteradm.node.context import Completed, Context, ModuleFailed

_STATUS = "/var/lib/dpkg/status"
_MARKS = "/var/lib/apt/extended_states"
_LISTS = "/var/lib/apt/lists"
# Longer than Ansible waits for another package manager: the first upgrade of a new board takes minutes.
LOCK_SECONDS = 600
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "APT_LISTCHANGES_FRONTEND": "none"}
_NOTHING = re.compile(r"^0 upgraded, 0 newly installed, 0 to remove", re.M)
_UPGRADES = {
    "dist": ["dist-upgrade"],
    "full": ["dist-upgrade"],
    "safe": ["upgrade", "--with-new-pkgs"],
    "yes": ["upgrade", "--with-new-pkgs"],
}


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Refresh the lists, upgrade, install or remove packages, clean up, as the options say."""
    names = [str(name).strip() for name in options["name"] or []]
    for name in names:
        if re.search(r"[*?\[\]!]|>=", name.split("=")[0]) or ">=" in name or name.count("=") > 1:
            raise ModuleFailed("invalid package spec: %s (a name, or name=version)" % name)
    result: Dict[str, Any] = {"changed": False, "cache_updated": False}
    if options["clean"]:
        if not context.check:
            _apt(options, context, ["clean"], "apt-get clean failed")
        result["changed"] = not names and options["upgrade"] == "no" and not options["deb"]
        if result["changed"]:
            return result
    refreshed = options["update_cache"] or options["cache_valid_time"]
    if refreshed:
        result["cache_updated"] = _refresh(options, context)
    result["cache_update_time"] = int(_updated())
    if options["upgrade"] != "no":
        return _change(options, context, result, _UPGRADES[options["upgrade"]], [])
    if options["deb"]:
        return _debs(options, context, result)
    if names:
        return (
            _remove(options, context, result, names)
            if options["state"] == "absent"
            else _install(options, context, result, names)
        )
    if refreshed:
        return dict(result, changed=result["cache_updated"])
    for verb, sign in (("autoclean", r"^Del "), ("autoremove", "^The following packages will be REMOVED")):
        if options[verb]:
            purge = ["--purge"] if options["purge"] else []
            done = _apt(options, context, [verb, *_flags(options, context), *purge], "'apt-get %s' failed" % verb)
            return dict(result, changed=bool(re.search(sign, done.stdout, re.M)), **done.result())
    return result


def _refresh(options: Dict[str, Any], context: Context) -> bool:
    """Fetch the lists if they are too old. True if they changed; in check mode, if they would be fetched."""
    before = _updated()
    if time.time() - before <= options["cache_valid_time"]:
        return False
    if not context.check:
        retries, longest = options["update_cache_retries"], options["update_cache_retry_max_delay"]
        update(context, retries, longest, options["lock_timeout"])
    return context.check or int(_updated()) != int(before)


def update(context: Context, retries: int, longest: int, lock_seconds: int = LOCK_SECONDS) -> None:
    """Fetch the lists of all sources; after a failure again, in 1, 2, 4 seconds and so on, at most `longest`."""
    for attempt in range(retries):
        done = _run(context, ["update", "-q"], lock_seconds)
        # If a source does not answer, apt-get keeps its old lists and succeeds.
        if done.rc == 0 and not re.search(r"^W: (Failed to fetch|Some index files failed)", done.stderr, re.M):
            return
        if attempt + 1 < retries:
            context.line("a source does not answer: " + done.tail())
            time.sleep(min(2**attempt, longest))
    raise ModuleFailed("Failed to update apt cache after %d retries: %s" % (retries, done.tail()), rc=done.rc)


def _install(options: Dict[str, Any], context: Context, result: Dict[str, Any], names: List[str]) -> Dict[str, Any]:
    wanted = [name for name in names if not _is_satisfied(name, options, context)]
    if wanted:
        _change(options, context, result, ["install"], wanted)
    automatic = _marked_automatic()
    needed = [name.partition("=")[0] for name in names if name.partition("=")[0].split(":")[0] in automatic]
    if needed and not context.check:
        context.run(["apt-mark", "manual", *needed])
    return result


def _remove(options: Dict[str, Any], context: Context, result: Dict[str, Any], names: List[str]) -> Dict[str, Any]:
    dpkg = _dpkg(context)
    there = {**dpkg["kept"], **dpkg["installed"]} if options["purge"] else dpkg["installed"]
    wanted = [name for name in names if name.partition("=")[0] in there]
    if wanted:
        return _change(options, context, result, ["remove", *(["--purge"] if options["purge"] else [])], wanted)
    return result


def _debs(options: Dict[str, Any], context: Context, result: Dict[str, Any]) -> Dict[str, Any]:
    if options["state"] != "present":
        raise ModuleFailed("deb only supports state=present")
    wanted = []
    for path in options["deb"].split(","):
        if "://" in path:
            raise ModuleFailed("deb: %s is no path; get_url fetches it" % path)
        about = context.run(["dpkg-deb", "-f", path, "Package", "Version"])
        fields = dict(re.findall(r"^(\w+): (.*)$", about.stdout, re.M))
        if about.rc or "Package" not in fields:
            raise ModuleFailed("Unable to install package: %s" % about.tail())
        if _dpkg(context)["installed"].get(fields["Package"]) != fields["Version"]:
            wanted.append(os.path.abspath(path))
    return _change(options, context, result, ["install"], wanted) if wanted else result


def _change(
    options: Dict[str, Any], context: Context, result: Dict[str, Any], words: List[str], names: List[str]
) -> Dict[str, Any]:
    """Change the packages by apt-get; in check mode, have it simulate that."""
    if not context.check:
        _repair(context)
    flags = _flags(options, context)
    if options["default_release"]:
        flags += ["-t", options["default_release"]]
    if options["install_recommends"] is not None:
        flags += ["-o", "APT::Install-Recommends=%s" % ("yes" if options["install_recommends"] else "no")]
    for option, flag in (
        ("autoremove", "--auto-remove"),
        ("fail_on_autoremove", "--no-remove"),
        ("only_upgrade", "--only-upgrade"),
        ("allow_unauthenticated", "--allow-unauthenticated"),
        ("allow_downgrade", "--allow-downgrades"),
        ("allow_change_held_packages", "--allow-change-held-packages"),
    ):
        if options[option]:
            flags.append(flag)
    called = " ".join([*words, *names])
    done = _apt(options, context, [*words, *flags, *names], "'apt-get %s' failed" % called)
    context.memory.pop("dpkg", None)
    result.update(done.result(), changed=not _NOTHING.search(done.stdout))
    if context.diff:
        result["diff"] = _diff(done.stdout)
    return result


def _diff(said: str) -> Dict[str, str]:
    """The part of apt-get's output that lists the changes, with its summary line."""
    lines = said.splitlines()
    begin = next((index + 1 for index, line in enumerate(lines) if line == "Reading state information..."), 0)
    end = next((index for index, line in enumerate(lines) if re.match(r"\d+ upgraded", line)), len(lines))
    return {"prepared": "\n".join(lines[begin : end + 1])}


def _flags(options: Dict[str, Any], context: Context) -> List[str]:
    """Flags for no questions; configuration files that were edited are kept, unless the options say otherwise."""
    flags = ["-y"] + (["-s"] if context.check else [])
    for option in options["dpkg_options"].split(","):
        flags += ["-o", "Dpkg::Options::=--" + option.strip()]
    return flags


def _is_satisfied(name: str, options: Dict[str, Any], context: Context) -> bool:
    """Whether the package is as wanted, by dpkg's status file."""
    package, _, version = name.partition("=")
    dpkg = _dpkg(context)
    if package not in dpkg["installed"]:
        return options["only_upgrade"] or (
            not version and package in dpkg["provided"] and options["state"] == "present"
        )
    if version:
        return dpkg["installed"][package] == version  # which version a pattern means, apt-get knows
    return bool(options["state"] == "present")


def _dpkg(context: Context) -> Dict[str, Dict[str, str]]:
    """Packages with their versions: "installed", "provided" by these, and "kept" (only configuration). Read once."""
    if "dpkg" not in context.memory:
        found: Dict[str, Dict[str, str]] = {"installed": {}, "provided": {}, "kept": {}}
        try:
            with open(_STATUS, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except FileNotFoundError:
            raise ModuleFailed("this is no Debian system: %s is missing" % _STATUS) from None
        for entry in text.split("\n\n"):
            fields = dict(re.findall(r"^(Package|Status|Architecture|Version|Provides): (.*)$", entry, re.M))
            status = fields.get("Status", "")
            kind = "installed" if status.endswith(" ok installed") else "kept"
            if kind == "installed" or status.endswith(" config-files"):
                for name in (fields["Package"], "%s:%s" % (fields["Package"], fields.get("Architecture"))):
                    found[kind][name] = fields.get("Version", "")
            if kind == "installed":
                for name in fields.get("Provides", "").split(","):
                    found["provided"][name.split("(")[0].strip()] = fields["Package"]
        context.memory["dpkg"] = found
    return context.memory["dpkg"]  # type: ignore[no-any-return]


def _marked_automatic() -> List[str]:
    """Packages that were installed as dependencies of others."""
    try:
        with open(_MARKS, encoding="utf-8") as file:
            return re.findall(r"^Package: (\S+)\n(?:Architecture: .*\n)?Auto-Installed: 1$", file.read(), re.M)
    except FileNotFoundError:
        return []


def _updated() -> float:
    for path in ("/var/lib/apt/periodic/update-success-stamp", _LISTS):
        try:
            return os.stat(path).st_mtime
        except FileNotFoundError:
            continue
    return 0.0


def _repair(context: Context) -> None:
    """Finish a half-configured package (after a power cut, a killed run): until then every run of apt fails."""
    if os.listdir("/var/lib/dpkg/updates") or context.run(["dpkg", "--audit"]).stdout.strip():
        done = context.run(
            ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"], environment=_ENVIRONMENT
        )
        if done.rc:
            raise ModuleFailed(
                "a package is half-installed, and dpkg --configure -a fails: %s" % done.tail(), rc=done.rc
            )


def _apt(options: Dict[str, Any], context: Context, words: List[str], failure: str) -> Completed:
    done = _run(context, words, options["lock_timeout"])
    if done.rc:
        raise ModuleFailed("%s: %s" % (failure, done.tail()), **done.result())
    return done


def _run(context: Context, words: List[str], lock_seconds: int) -> Completed:
    """Run apt-get; repeat while another process holds its lock (apt before 2.0 cannot wait for it)."""
    deadline = time.monotonic() + lock_seconds
    while True:
        done = context.run(["apt-get", *words], environment=_ENVIRONMENT)
        held = re.search(r"Could not get lock|Unable to (?:acquire|lock)|is held by process", done.stderr)
        if done.rc == 0 or not held or time.monotonic() > deadline:
            return done
        context.line("waiting for another package manager: " + done.stderr.strip().splitlines()[0])
        time.sleep(2)
