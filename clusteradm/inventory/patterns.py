"""Host patterns, as in Ansible: names, groups, globs and ranges; `:` or `,` join, `:&` intersects, `:!` excludes."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Mapping

from clusteradm.errors import UsageError
from clusteradm.inventory.ranges import expand

# The parts between commas and colons that stand in no range.
_PARTS = re.compile(r"(?:\[[^\[\]]*\]|[^,:])+")
# `compute[0]`, `compute[-1]`, `compute[1:3]`: positions in a group, both ends included.
_PLACES = re.compile(r"(.+)\[(-?\d+)(?:(:|(?<=\d)-)(-?\d*))?\]")


def select(pattern: str, hosts: Collection[str], groups: Mapping[str, Collection[str]]) -> list[str]:
    """The hosts that match the pattern, in the order of `hosts`. `groups`: name to hosts of it, "all" included.

    Raises UsageError if a part of the pattern matches nothing.
    """
    parts = [part for each in _PARTS.findall(pattern) if (part := each.strip()).strip(" !&")]
    if not parts:
        raise UsageError("empty host pattern")
    chosen: set[str] = set()
    if all(part[0] in "!&" for part in parts):
        chosen = set(hosts)
    # As in Ansible, unions first, then intersections, then exclusions, in whatever order they are written.
    for part in parts:
        if part[0] not in "!&":
            chosen |= _term(part, hosts, groups)
    for part in parts:
        if part[0] == "&":
            chosen &= _term(part[1:], hosts, groups)
    for part in parts:
        if part[0] == "!":
            chosen -= _term(part[1:], hosts, groups)
    return [name for name in hosts if name in chosen]


def _term(term: str, hosts: Collection[str], groups: Mapping[str, Collection[str]]) -> set[str]:
    if term == "*":
        term = "all"
    places = _PLACES.fullmatch(term)
    # Brackets after a group's name are positions in it; after anything else, a range of names.
    if places and places[1] in groups:
        return _at(places, list(groups[places[1]]), term)
    try:
        wanted = list(expand(term))
    except ValueError as error:
        raise UsageError(str(error)) from None
    names = [*hosts, *groups]
    found: set[str] = set()
    for one in wanted:
        matches = fnmatch.filter(names, one)
        if not matches:
            raise UsageError(
                f"the pattern {one!r} matches no host and no group",
                next_step=f"hosts: {' '.join(hosts)}; groups: {' '.join(groups)}",
            )
        for name in matches:
            # A group and a host may have the same name: both match.
            found |= set(groups.get(name, ())) | ({name} & set(hosts))
    return found


def _at(places: re.Match[str], members: list[str], term: str) -> set[str]:
    first = int(places[2])
    if places[3] is None:
        if not -len(members) <= first < len(members):
            raise UsageError(f"the pattern {term!r} is out of range: its group has {len(members)} hosts")
        return {members[first]}
    last = int(places[4]) if places[4] else -1
    return set(members[first : last + 1 or None])
