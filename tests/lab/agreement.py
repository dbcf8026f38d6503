"""One playbook, run by Ansible on four fresh boards and by clusteradm on four others: what each says, and leaves."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clusteradm.inventory import load
from clusteradm.lab import Lab

CASES = Path(__file__).with_name("agree")
NAMES = ("one", "two", "three", "four")
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")

# (play, task, host) -> its results in order, each with "_status".
Results = dict[tuple[str, str, str], list[dict[str, Any]]]

# A case is checked, run, and run again.
RUNS = {"check": ("--check", "--diff"), "run": ("--diff",), "rerun": ("--diff",)}

# What a result says of the moment, the machine or the engine, and not of the task.
VOLATILE = {
    "ansible_facts",
    "cmd",
    "delta",
    "deprecations",
    "diff",
    "end",
    "exception",
    "invocation",
    "start",
    "status",
}
VOLATILE |= {
    "censored",
    "stderr",
    "stderr_lines",
    "stdout",
    "stdout_lines",
    "warnings",
    "elapsed",
    "msg",
    "cache_update_time",
}
VOLATILE |= {
    "ssh_fingerprint",
    "ssh_public_key",
    "backup_file",
    "backup",
    "md5sum",
    "src",
    "attempts",
    "size",
    "checksum",
    "mtime",
    "atime",
    "ctime",
    "dev",
    "inode",
}

# Facts that are another moment's by the time that the other engine asks.
PASSING_FACTS = {"date_time", "machine_id", "memfree_mb", "swapfree_mb", "uptime_seconds"}

# All that a playbook may leave on a board: attributes and content of each file, accounts, packages, units, mounts.
_LOOK = r"""
find /etc /agree /home /root /opt /usr/local /var/spool/cron -xdev ! -type d ! -path '*/__pycache__/*' \
    ! -path '/home/*/.ansible/*' ! -path '/root/.ansible/*' ! -name '*-' ! -name .pwd.lock ! -name .updated \
    ! -name ld.so.cache ! -path '/etc/ssl/certs/*' ! -path '/etc/alternatives/*' \
    -printf 'file %p %y %#m %u:%g %l\n' 2>/dev/null
find /agree /home /opt -xdev -type d ! -path '*/.ansible*' -printf 'folder %p %#m %u:%g\n' 2>/dev/null
find /etc /agree /home /root /opt /usr/local /var/spool/cron -xdev -type f ! -path '*/.ansible/*' ! -name '*-' \
    ! -name .pwd.lock ! -name .updated ! -name ld.so.cache ! -path '*/__pycache__/*' ! -path '/etc/ssl/certs/*' \
    ! -path '*/system-connections/*' ! -name shadow ! -name gshadow ! -name 'id_*' -exec sha256sum {} + 2>/dev/null |
    awk '{ print "content", $2, $1 }'
# Of a network connection, all but what is its own.
for file in /etc/NetworkManager/system-connections/*; do
    [ -e "$file" ] && echo content $file $(sed '/^uuid=/d; /^timestamp=/d' "$file" | sha256sum)
done
getent passwd | sed 's/:/ /; s/^/passwd /'; getent group | sed 's/:/ /; s/^/group /'
cut -d: -f1,2,4-8 /etc/shadow | sed 's/:/ /; s/^/shadow /'
dpkg-query -W -f 'package ${Package} ${Version} ${db:Status-Status}\n'
systemctl list-unit-files --no-legend | awk '$2 != "transient" { print "unit", $1, $2 }'
# What D-Bus starts when somebody asks, and ends by itself, is nobody's work.
systemctl list-units --all --no-legend --plain --type service |
    awk '$1 !~ /^(systemd-(hostname|timedate|locale|oom)d|user(-runtime-dir)?@|apt-|polkit|dbus-org|.*-dispatcher)/ {
        print "service", $1, $3 }'
sysctl net.ipv4.ip_forward net.ipv4.conf.lo.log_martians net.ipv4.tcp_syncookies 2>/dev/null | sed 's/^/sysctl /'
awk '/agree/ { print "mount", $2, $1, $3 }' /proc/mounts
echo name running $(uname -n)
"""

# A copy that was kept carries the time and the process in its name.
_KEPT = re.compile(r"\.\d+\.\d{4}-\d\d-\d\d@\d\d:\d\d:\d\d~")


@dataclass(frozen=True)
class Look:
    """What is on a board: "kind name" -> the rest of the line."""

    lines: dict[str, str]

    @classmethod
    def read(cls, text: str) -> Look:
        lines = {}
        for line in text.splitlines():
            kind, name, *rest = _KEPT.sub(".KEPT~", line).split(" ", 2)
            lines[f"{kind} {name}"] = " ".join(rest)
        return cls(lines)

    def changes(self, before: Look) -> list[str]:
        """What came, went or became different since."""
        now = [f"{key} {rest}" for key, rest in self.lines.items() if before.lines.get(key) != rest]
        return sorted(now + [f"{key} is gone" for key in before.lines if key not in self.lines])


@dataclass
class Side:
    """One engine and its four boards, which both sides call by the same names."""

    lab: Lab
    engine: str
    boards: Sequence[str]
    inventory: Path
    # Board -> what was on it when it was last looked at; all sides of one engine share it.
    seen: dict[str, Look]

    @classmethod
    def of(cls, lab: Lab, engine: str, boards: Sequence[str], folder: Path, seen: dict[str, Look]) -> Side:
        """Write its inventory."""
        there = load(lab.inventory)
        hosts = {
            name: {
                "ansible_host": there.hosts[board].address,
                "cluster_ip": f"10.79.0.{number}",
                "cluster_interface": "eth0",
            }
            for number, (name, board) in enumerate(zip(NAMES, boards, strict=True), start=1)
        }
        everybody = {
            key: there.head.vars[key]
            for key in ("ansible_user", "ansible_ssh_private_key_file", "ansible_ssh_common_args")
        }
        everybody |= {"cluster_subnet": "10.79.0.0/24", "ansible_python_interpreter": "/usr/bin/python3"}
        document = {
            "all": {
                "vars": everybody,
                "hosts": hosts,
                "children": {
                    "head": {"hosts": {"one": None}},
                    "compute": {"hosts": dict.fromkeys(NAMES[1:])},
                    "pair": {"hosts": {"one": None, "two": None}},
                },
            }
        }
        path = folder / f"{engine}.yml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return cls(lab, engine, boards, path, seen)

    def look(self, names: Iterable[str]) -> dict[str, Look]:
        """Board -> what is on it."""
        boards = [board for name, board in zip(NAMES, self.boards, strict=True) if name in names]
        return {
            board: Look.read(str(self.lab.exec(board, ["sh", "-c", _LOOK], check=False, timeout=120).stdout))
            for board in boards
        }

    def changes(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Host -> what has become different on its board since it was last looked at."""
        now = self.look(names)
        found = {name: look.changes(self.seen[board]) for name, (board, look) in zip(names, now.items(), strict=True)}
        self.seen |= now
        return found

    def case(self, case: Path, names: Sequence[str]) -> list[Said]:
        """Run a case three times, as RUNS has it. `names`: the hosts that it may change."""
        self.seen |= self.look(
            [n for n, board in zip(NAMES, self.boards, strict=True) if n in names and board not in self.seen]
        )
        return [self._said(case, options) for options in RUNS.values()]

    def _said(self, case: Path, options: Sequence[str]) -> Said:
        results, failed = self.run(case, *options)
        return Said(results, failed, self.changes([name for name in NAMES if any(name == key[2] for key in results)]))

    def run(self, playbook: Path, *options: str) -> tuple[Results, bool]:
        """(play, task, host) -> its results in order, each with "_status"; and whether a host failed."""
        if self.engine == "ansible":
            results, counts = run_ansible(self.inventory, playbook, *options)
            return results, any(one["failures"] for one in counts.values())
        command = [sys.executable, "-m", "clusteradm", "bootstrap", "--accept-new", "--json", "-i", str(self.inventory)]
        done = subprocess.run(
            [*command, "--playbook", str(playbook), *options], capture_output=True, text=True, timeout=600, check=False
        )
        if not done.stdout.startswith("{"):
            raise AssertionError(f"clusteradm: {done.returncode}\n{done.stderr[-4000:]}")
        found: Results = {}
        hosts = json.loads(done.stdout)["hosts"]
        for host, about in hosts.items():
            for task in about["tasks"]:
                found.setdefault((task["play"], task["task"], host), []).append(
                    {**task["result"], "_status": task["status"]}
                )
        return found, any(about["failed"] for about in hosts.values())


@dataclass(frozen=True)
class Said:
    """One run of a case by one engine: its results, whether a host failed, and host -> what changed on its board."""

    results: Results
    failed: bool
    left: dict[str, list[str]]

    def to_json(self) -> dict[str, Any]:
        return {
            "results": [[*key, found] for key, found in self.results.items()],
            "failed": self.failed,
            "left": self.left,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Said:
        results = {(play, task, host): found for play, task, host, found in document["results"]}
        return cls(results, document["failed"], document["left"])


def run_ansible(inventory: Path, playbook: Path, *options: str) -> tuple[Results, dict[str, dict[str, int]]]:
    """What ansible-playbook says: (play, task, host) -> results with "_status"; host -> its counts."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(CASES / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=10s -o UserKnownHostsFile=/dev/null",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        [str(ANSIBLE), "-i", str(inventory), str(playbook), *options],
        env=environment,
        stdin=subprocess.DEVNULL,  # Ansible refuses one that does not block
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    begin = done.stdout.find("{\n")
    if begin < 0:
        raise AssertionError(f"ansible-playbook: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    document = json.JSONDecoder().raw_decode(done.stdout[begin:])[0]
    found: Results = {}
    for play in document["plays"]:
        for task in play["tasks"]:
            for host, result in task["hosts"].items():
                result["_status"] = _status_of_ansible(result)
                found.setdefault((play["play"]["name"], task["task"]["name"], host), []).append(result)
    return found, document["stats"]


def _status_of_ansible(result: dict[str, Any]) -> str:
    if result.get("unreachable"):
        return "unreachable"
    if result.get("failed"):
        return "failed"
    if result.get("skipped"):
        return "skipped"
    return "changed" if result.get("changed") else "ok"


class Disagreements:
    """Compares both sides, and says what differs."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def results(self, run: str, theirs: Any, ours: Any, *, check: bool) -> None:
        """Per task and host: the status, the diff, and each key of our result that Ansible has too."""
        for key in dict.fromkeys([*theirs, *ours]):
            place = f"{run}: {' / '.join(key)}"
            a, b = theirs.get(key), ours.get(key)
            if a is None or b is None or len(a) != len(b):
                self.said.append(f"{place}: {len(a or [])} result(s) of Ansible, {len(b or [])} of clusteradm")
                continue
            for one, other in zip(a, b, strict=True):
                self._result(place, one, other, check=check)

    def _result(self, place: str, theirs: dict[str, Any], ours: dict[str, Any], *, check: bool) -> None:
        status = ours.get("_status", "")
        if check and status == "unknown":
            return  # Ansible has no word for it
        wanted = theirs.get("_status", "")
        if status.replace("ignored", "failed") != wanted:
            self.said.append(
                f"{place}: {wanted} in Ansible, {status} in clusteradm\n    {_short(theirs)}\n    {_short(ours)}"
            )
            return
        if status in ("skipped",):
            return
        said = {"msg"} if status == "ok" and str(theirs.get("action", "")).endswith("debug") else set()
        for name in sorted(set(theirs) & set(ours) - (VOLATILE - said)):
            if name == "results":
                if len(theirs[name]) != len(ours[name]):
                    self.said.append(f"{place}: {len(theirs[name])} items in Ansible, {len(ours[name])} in clusteradm")
                for number, (one, other) in enumerate(zip(theirs[name], ours[name], strict=False)):
                    one["_status"] = _status_of_ansible(one)
                    other["_status"] = "unknown" if other.get("unknown") else _status_of_ansible(other)
                    self._result(f"{place} [{number}]", one, other, check=check)
            elif name == "stat" and theirs["stat"]["exists"] == ours["stat"]["exists"]:
                self._result(f"{place} {name}", theirs["stat"], ours["stat"], check=check)
            elif name != "_status" and theirs[name] != ours[name]:
                self.said.append(f"{place}: {name} is {theirs[name]!r} in Ansible, {ours[name]!r} in clusteradm")
        if "gather_subset" in theirs.get("ansible_facts", {}):
            self._facts(place, theirs["ansible_facts"], ours["ansible_facts"])
        if _diff(theirs) != _diff(ours):
            self.said.append(f"{place}: another diff\n    {_diff(theirs)!r}\n    {_diff(ours)!r}")

    def _facts(self, place: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
        for name in sorted(set(ours) - PASSING_FACTS):
            if theirs.get(f"ansible_{name}", theirs.get(name)) != ours[name]:
                wanted = theirs.get(f"ansible_{name}", theirs.get(name))
                self.said.append(f"{place}: the fact {name} is {wanted!r} in Ansible, {ours[name]!r} in clusteradm")

    def boards(self, run: str, theirs: dict[str, list[str]], ours: dict[str, list[str]]) -> None:
        """What a run has changed on the boards."""
        for host in dict.fromkeys([*theirs, *ours]):
            lines = list(
                difflib.unified_diff(
                    theirs.get(host, []), ours.get(host, []), "ansible", "clusteradm", n=0, lineterm=""
                )
            )
            if lines:
                shown = [line for line in lines[2:] if line[0] != "@"]
                self.said.append(
                    f"{run}: {host} is left differently (-Ansible, +clusteradm):\n    " + "\n    ".join(shown[:40])
                )


def _diff(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """The changed lines of the texts that a result shows; attributes alone are no text."""
    diffs = result.get("diff") or []
    found = []
    for diff in diffs if isinstance(diffs, list) else [diffs]:
        before, after = diff.get("before"), diff.get("after")
        if isinstance(before, str) and isinstance(after, str) and before != after and not diff.get("prepared"):
            texts = [text.splitlines() for text in (before, after)]
            found.append(tuple(line for line in difflib.ndiff(*texts) if line[0] in "+-"))
    return found


def _short(result: dict[str, Any]) -> str:
    kept = {key: value for key, value in result.items() if key not in ("invocation", "diff", "ansible_facts")}
    return json.dumps(kept, default=str)[:400]


def disagreements(theirs: Sequence[Said], ours: Sequence[Said], *, may_fail: bool = False) -> list[str]:
    """What differs between the runs of a case by Ansible and those by clusteradm, in words; [] is agreement.

    `may_fail`: hosts fail in it on purpose.
    """
    found = Disagreements()
    for run, one, other in zip(RUNS, theirs, ours, strict=True):
        found.results(run, one.results, other.results, check=run == "check")
        if run != "check" and one.failed and not may_fail:
            # Two that fail at one task agree about nothing that comes after.
            found.said.append(f"{run}: the case itself fails, and shows nothing of its later tasks")
        found.boards(run, one.left, other.left)
    return found.said
