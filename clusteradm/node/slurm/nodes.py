"""Nodes as Slurm sees them: processors, TPUs, and which are drained. Drains here and there say the same.

What clusteradm has drained, Slurm drains; what Slurm has drained (a person by scontrol, the check of the TPUs),
clusteradm shows and gives no job. Each returns its own: the reason says whose it is.
"""

import re
import time
from typing import Dict, Iterable, List, NamedTuple, Optional

from clusteradm.node.slurm import programs
from clusteradm.node.slurm.programs import SlurmError
from clusteradm.node.spec.wire.fleet import DrainEntry

BY = "Slurm"  # who has drained, before the name of Slurm's user
PREFIX = "clusteradm: "  # of a reason that this program has given
_FORMAT = "%N|%c|%G|%T|%u|%H|%E"  # the reason last: it may have any character
_SECONDS = 5.0  # a controller that is away does not hold up those who ask for drains
_MOST_REASON = 300
_TPUS = re.compile(r"(?:^|,)(?:gres:)?tpu(?::[^:,()]+)?:(\d{1,4})(?:\(|,|$)")
_DRAINED = ("drain", "drng", "draining", "drained")


class Node(NamedTuple):
    """A node. `tpus`: that its gres names; `drained`: whether it gets no jobs for a `reason`; `since`: seconds."""

    name: str
    cpus: int
    tpus: int
    drained: bool
    user: str
    since: int
    reason: str


def read(text: str) -> List[Node]:
    """The nodes in the output of sinfo, each once. What is no line of it is passed over."""
    found: Dict[str, Node] = {}
    for line in text.splitlines():
        parts = line.split("|", 6)
        if len(parts) < 7 or parts[0] in found or not parts[0].strip():
            continue
        name, cpus, gres, state, user, when, reason = parts
        tpus = _TPUS.search(gres)
        found[name.strip()] = Node(
            name.strip(),
            int(cpus) if cpus.isdecimal() and len(cpus) < 6 else 1,
            int(tpus.group(1)) if tpus else 0,
            state.strip("*~#!%$@^-").startswith(_DRAINED),
            user.strip(),
            _seconds(when),
            " ".join(reason.split())[:_MOST_REASON],
        )
    return list(found.values())


def ask(partition: Optional[str] = None, seconds: float = programs.SECONDS) -> List[Node]:
    """The nodes, of one partition or of all. Raises SlurmError."""
    words = ["sinfo", "--noheader", "--Node", "--format", _FORMAT]
    words += ["--partition", partition] if partition else []
    return read(programs.ask(words, seconds=seconds))


def agree(drains: Dict[str, DrainEntry], undrained: Iterable[str]) -> Dict[str, DrainEntry]:
    """Have Slurm drain what is drained here, and return what no longer is; what Slurm has drained by itself, by host.

    `drains`: by subject, HOST or HOST:PCI-ADDRESS; Slurm drains a node whose TPUs are all drained. `undrained`: hosts
    that somebody returns now, whoever has drained them. A Slurm that does not answer, or is not ours, is left as it is.
    """
    if not programs.there():
        return {}
    try:
        nodes = ask(seconds=_SECONDS)
    except SlurmError:
        return {}
    returned, change = set(undrained), programs.ours()
    others: Dict[str, DrainEntry] = {}
    for node in nodes:
        entry = _wanted(node, drains)
        mine = node.reason.startswith(PREFIX)
        if entry is not None and not node.drained:
            if change:
                _update(node.name, "State=DRAIN", "Reason=" + _reason(entry))
        elif node.drained and entry is None and (mine or node.name in returned):
            if change:
                _update(node.name, "State=RESUME")
            elif not mine:
                others[node.name] = _entry(node)
        elif node.drained and not mine and node.name not in drains:
            others[node.name] = _entry(node)
    return others


def _wanted(node: Node, drains: Dict[str, DrainEntry]) -> Optional[DrainEntry]:
    """The drain that takes the whole node out of service."""
    if node.name in drains:
        return drains[node.name]
    tpus = [entry for tpu, entry in drains.items() if tpu.startswith(node.name + ":")]
    return tpus[0] if node.tpus and len(tpus) >= node.tpus else None


def _reason(entry: DrainEntry) -> str:
    return (PREFIX + " ".join(("%s (%s)" % (entry.reason or "drained", entry.by)).split()))[:_MOST_REASON]


def _entry(node: Node) -> DrainEntry:
    return DrainEntry(node.reason, "%s (%s)" % (BY, node.user), node.since)


def _update(name: str, *words: str) -> None:
    try:
        programs.ask(["scontrol", "update", "NodeName=" + name, *words], seconds=_SECONDS)
    except SlurmError:
        return  # it is said again with the next question


def _seconds(text: str) -> int:
    try:
        moment = time.strptime(text.strip(), "%Y-%m-%dT%H:%M:%S")
        return max(0, int(time.mktime(moment)))
    except (ValueError, OverflowError):
        return 0
