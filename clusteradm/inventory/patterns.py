"""Host patterns, as in Ansible: names, groups, globs and ranges; `:` or `,` join, `:&` intersects, `:!` excludes."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

from clusteradm.errors import UsageError
from clusteradm.inventory.ranges import expand

if TYPE_CHECKING:
    from clusteradm.inventory.cluster import Cluster

# A separator is a comma, or a colon that stands in no range.
_SEPARATOR = re.compile(r",|:(?![^\[]*\])")


def select(pattern: str, cluster: Cluster) -> list[str]:
    """The names that the pattern means, in the inventory's order."""
    parts = [part.strip() for part in _SEPARATOR.split(pattern) if part.strip()]
    if not parts:
        raise UsageError("empty host pattern")
    chosen: set[str] = set()
    if all(part[0] in "!&" for part in parts):
        chosen = set(cluster.hosts)
    # Ansible's order: what joins first, then what intersects, then what excludes, however they were written.
    for part in parts:
        if part[0] not in "!&":
            chosen |= _term(part, cluster)
    for part in parts:
        if part[0] == "&":
            chosen &= _term(part[1:], cluster)
    for part in parts:
        if part[0] == "!":
            chosen -= _term(part[1:], cluster)
    return [name for name in cluster.hosts if name in chosen]


def _term(term: str, cluster: Cluster) -> set[str]:
    names = [*cluster.hosts, *cluster.groups, "all"]
    if term == "*":
        term = "all"
    try:
        wanted = list(expand(term))
    except ValueError as error:
        raise UsageError(str(error)) from None
    found: set[str] = set()
    for one in wanted:
        matches = fnmatch.filter(names, one)
        if not matches:
            raise UsageError(
                f"the pattern {one!r} matches no host and no group",
                next_step=f"hosts: {' '.join(cluster.hosts)}; groups: {' '.join(cluster.groups)}",
            )
        for name in matches:
            found |= {name} if name in cluster.hosts else set(cluster.members(name))
    return found
