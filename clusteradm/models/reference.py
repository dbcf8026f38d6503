"""Reference to a version of a model, as people write it: NAME, NAME:VERSION, NAME@LABEL."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from clusteradm.errors import UsageError
from clusteradm.models.manifest import check_name
from clusteradm.node.spec.wire.versions import LABEL, LATEST, MOST_VERSION


@dataclass(frozen=True)
class Reference:
    """A version by its number or its label; with neither, the latest: the highest number."""

    name: str
    version: int | None = None
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read NAME, NAME:VERSION, NAME:latest or NAME@LABEL. Raises UsageError."""
        name, sign, rest = re.fullmatch(r"([^:@]*)([:@]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        check_name(name)
        if not sign or rest == LATEST:
            return cls(name)
        if sign == "@":
            return cls(name, label=check_label(rest))
        if not rest.isdecimal() and re.fullmatch(LABEL, rest):
            raise UsageError(f"{rest!r} is no version", next_step=f"a label stands behind @: {name}@{rest}")
        return cls(name, check_version(rest))

    def at(self, version: int | None) -> Reference:
        """The same model in the version of an option of its own. Raises UsageError where both say one, or for a number
        that is none."""
        if version is None:
            return self
        check_version(str(version))
        if self.version is not None or self.label is not None:
            raise UsageError(f"{self} says a version already: without --version {version}")
        return replace(self, version=version)

    def __str__(self) -> str:
        if self.label is not None:
            return f"{self.name}@{self.label}"
        return self.name if self.version is None else f"{self.name}:{self.version}"


def check_version(text: str) -> int:
    """A version's number. Raises UsageError for what is none."""
    if text.isascii() and text.isdecimal() and len(text) < 11 and 0 < int(text) <= MOST_VERSION:
        return int(text)
    raise UsageError(f"{text!r} is no version", next_step="versions are whole numbers from 1; a label stands behind @")


def check_label(text: str) -> str:
    """A label. Raises UsageError for what can be none."""
    if not re.fullmatch(LABEL, text):
        raise UsageError(
            f"{text!r} cannot be a label: a letter, then letters, digits, _ and -, 63 at most",
            next_step="for instance: stable, canary",
        )
    return text
