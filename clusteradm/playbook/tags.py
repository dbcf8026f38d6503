"""Selection of tasks by `--tags` and `--skip-tags`, with Ansible's special tags."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from clusteradm.errors import UsageError
from clusteradm.nearest import nearest

ALL = frozenset({"all"})
# Ansible's special tags, which mean something in every playbook.
SPECIAL = frozenset({"all", "tagged", "untagged", "always", "never"})


@dataclass(frozen=True)
class Tags:
    """A selection: tasks with one of the tags `only` and none of the tags `skip`."""

    only: frozenset[str] = ALL
    skip: frozenset[str] = frozenset()

    def choose(self, tags: Set[str]) -> bool:
        """Whether a task with these tags runs. `always` does unless skipped; `never` only by another of its tags."""
        names = tags or {"untagged"}
        chosen = (
            ("always" in names)
            or ("all" in self.only and "never" not in names)
            or bool(self.only & names)
            or ("tagged" in self.only and names != {"untagged"} and "never" not in names)
        )
        if not chosen or not self.skip:
            return chosen
        if "all" in self.skip:
            return "always" in names and "always" not in self.skip
        if self.skip & names:
            return False
        return not ("tagged" in self.skip and names != {"untagged"})

    def check(self, known: Set[str]) -> None:
        """Raise UsageError for names that no task has (`known`: those that there are): they would select nothing."""
        problems = []
        for option, names in (("--tags", self.only), ("--skip-tags", self.skip)):
            for name in sorted(names - known - SPECIAL):
                problems.append(f'{option}: no task has the tag "{name}"{nearest(name, known | SPECIAL, 0.7)}')
        if problems:
            there = ", ".join(sorted(known - SPECIAL)) or "none"
            raise UsageError("\n".join(problems), next_step=f"tags of this playbook: {there}")
