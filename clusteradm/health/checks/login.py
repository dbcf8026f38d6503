"""Logins of the cluster user from the head, as MPI needs them: what keeps them out, and what helps against that."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clusteradm.health.finding import BOOTSTRAP
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host

_RELOAD = "then: systemctl reload ssh"


def refused(host: Host, reason: str, login: Reading) -> tuple[str, str]:
    """Cause and remedy of a login from the head that failed. `reason`: ssh's; `login`: that section of the document.

    Bootstrap helps where the key or a known host is missing, and nowhere else.
    """
    cause = f"the head's cluster user cannot log in: {reason}"
    if re.search(r"Connection refused", reason):
        what = f"; its sshd does not listen at {host.cluster_ip}, or a firewall refuses"
        return cause + what, "on it: ss -ltn 'sport = 22', and ListenAddress in /etc/ssh/sshd_config; then its firewall"
    if re.search(r"timed out|No route to host|no answer in time", reason):
        return cause, f"see the finding on its link; and whether a firewall on it lets {host.cluster_ip}, port 22, in"
    if re.search(r"Permission denied|closed by|reset by", reason) and (found := _obstacle(host, login)):
        return f"{cause}; {found[0]}", found[1]
    return cause, f"{BOOTSTRAP}; if that changes nothing, on it: journalctl -u ssh says why it refuses"


def _obstacle(host: Host, login: Reading) -> tuple[str, str] | None:
    """What sshd's configuration says against the user, and what to do."""
    user, sshd = login.text("user") or "the cluster user", login.part("sshd")
    groups = login.texts("groups") or ()
    file = f"in {host.name}'s /etc/ssh/sshd_config (or sshd_config.d)"
    for name, setting, having in (
        ("denyusers", "DenyUsers", (user,)),
        ("denygroups", "DenyGroups", groups),
    ):
        if _matching(having, sshd.texts(name) or ()):
            return f"{setting} there names it", f"take it out of {setting} {file}, {_RELOAD}"
    for name, setting, having in (
        ("allowusers", "AllowUsers", (user,)),
        ("allowgroups", "AllowGroups", groups),
    ):
        if sshd.has(name) and not _matching(having, sshd.texts(name) or ()):
            what = f"sshd there lets in only {setting} {' '.join(sshd.texts(name) or ())}"
            one = user if name == "allowusers" else having[0] if having else user
            return what, f"add {one} to {setting} {file}, {_RELOAD}"
    if (sshd.texts("pubkeyauthentication") or ("yes",))[0] == "no":
        return "sshd there takes no keys", f"set PubkeyAuthentication yes for {user} {file}, {_RELOAD}"
    files = sshd.texts("authorizedkeysfile")
    if files and not any(each.endswith(".ssh/authorized_keys") for each in files):
        what = f"sshd there reads keys from {' '.join(files)}, not from ~/.ssh/authorized_keys"
        return what, f"add .ssh/authorized_keys to AuthorizedKeysFile {file}, {_RELOAD}"
    if loose := login.texts("loose"):
        what = f"others may write {', '.join(loose)}, for which sshd refuses its keys"
        return what, f"on {host.name}: chown {user} {' '.join(loose)}; chmod go-w {' '.join(loose)}"
    return None


def _matching(having: Iterable[str], patterns: Iterable[str]) -> bool:
    """Whether one of the names is one of sshd's patterns; of USER@HOST only the user counts. "!" excludes a name."""
    positive = [pattern for pattern in patterns if not pattern.startswith("!")]
    negative = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return any(_is(name, positive) and not _is(name, negative) for name in having)


def _is(name: str, patterns: Iterable[str]) -> bool:
    # Not fnmatch, in which brackets mean something.
    return any(
        re.fullmatch(re.escape(pattern.rpartition("@")[0] or pattern).replace(r"\*", ".*").replace(r"\?", "."), name)
        for pattern in patterns
    )
