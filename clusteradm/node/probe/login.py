"""Section "login": what could keep the cluster user's logins from the head out, by sshd's own configuration."""

import grp
import os
import pwd
import re
import stat
from typing import Any, Dict, List

from clusteradm.node.probe.programs import output
from clusteradm.node.texts import names, read

# Asked of sshd only where its files have one of them: it takes a board a while to start.
_SETTINGS = ("allowusers", "denyusers", "allowgroups", "denygroups", "authorizedkeysfile", "pubkeyauthentication")
_IN_FILE = re.compile(r"^\s*(%s)[\s=]" % "|".join(_SETTINGS), re.MULTILINE | re.IGNORECASE)
_FILE, _FOLDER = "etc/ssh/sshd_config", "etc/ssh/sshd_config.d"
_SECONDS = 5.0
# group or others may write
_LOOSE = 0o022


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """`options`: "user": the cluster's, "head": the head's address (null on the head itself), "address": its own."""
    user = str(options.get("user"))
    return {
        "user": user,
        "sshd": settings(root, user, str(options.get("head") or options.get("address"))),
        "groups": groups(user),
        "loose": loose(user),
    }


def settings(root: str, user: str, address: str) -> Dict[str, List[str]]:
    """Values of sshd's settings about who may log in, for this user from this address; {} where none is set."""
    texts = [read(root, _FILE), *(read(root, _FOLDER, name) for name in names(root, _FOLDER))]
    if not any(_IN_FILE.search(text or "") for text in texts):
        return {}
    sshd = next((path for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if os.path.exists(path)), "sshd")
    said = output([sshd, "-T", "-C", "user=%s,host=%s,addr=%s" % (user, address, address)], _SECONDS) or ""
    found = {}  # type: Dict[str, List[str]]
    for line in said.splitlines():
        name, _, values = line.partition(" ")
        if name in _SETTINGS:
            found.setdefault(name, []).extend(values.split())
    return found


def groups(user: str) -> List[str]:
    """Names of the user's groups; none where there is no such user."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return []
    found = []
    for number in os.getgrouplist(user, account.pw_gid):
        try:
            found.append(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return found


def loose(user: str) -> List[str]:
    """Paths to the user's keys that others may write, for which sshd refuses the keys (StrictModes)."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return []
    home = account.pw_dir
    found = []
    for path in (home, os.path.join(home, ".ssh"), os.path.join(home, ".ssh", "authorized_keys")):
        try:
            about = os.stat(path)
        except OSError:
            continue
        if stat.S_IMODE(about.st_mode) & _LOOSE or about.st_uid not in (0, account.pw_uid):
            found.append(path)
    return found
