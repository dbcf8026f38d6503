"""clusteradm.lock: the packages from addresses and files that a person has accepted, by their sha256.

It lies beside the inventory, to be kept and shared with it. Whoever can write it decides what root installs on the
hosts, so that a file which is not exactly of this form is an error, never a file without entries.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from clusteradm import atomic, regular
from clusteradm.errors import UsageError
from clusteradm.fetch.deb import FIELDS, Deb

NAME = "clusteradm.lock"
_VERSION = 1
_MOST_BYTES = 1 << 20
_MOST_SIZE = 1 << 40


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[ -~]{1,2048}", value))


def _field(name: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(FIELDS[name].fullmatch(value))


_FITS: dict[str, Callable[[Any], bool]] = {
    "sha256": lambda value: isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{64}", value)),
    "size": lambda value: type(value) is int and 0 < value < _MOST_SIZE,
    "origin": _text,
    "package": _field("Package"),
    "version": _field("Version"),
    "architecture": _field("Architecture"),
}


@dataclass(frozen=True)
class Locked:
    """A package that was accepted. `origin`: where it came from; `size`: in bytes; the rest as the package says."""

    sha256: str
    size: int
    origin: str
    package: str
    version: str
    architecture: str

    @property
    def deb(self) -> Deb:
        return Deb(self.package, self.version, self.architecture)


class Lock:
    """The file: address, as the inventory or the table names it -> Locked. A missing file has no entries."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Locked]:
        """All entries. Raises UsageError for a file that cannot be read, or has anything that is not understood."""
        if not regular.exists(self.path):
            return {}
        try:
            mode = self.path.stat().st_mode
        except OSError as error:
            raise self._unusable("read", error) from None
        if mode & stat.S_IWOTH:
            raise UsageError(
                "anybody on this machine may write it, and so decide what is installed on the hosts",
                where=str(self.path),
                next_step=f"see that its entries are right, then: chmod o-w {self.path}",
            )
        return self._parse(regular.read(self.path, _MOST_BYTES))

    def add(self, entries: Mapping[str, Locked]) -> None:
        """Write these entries beside those that are there.

        Raises UsageError; also for one that is another there, and for one that `read` would not take.

        Another process may do the same at the same time: the entries of both are there afterwards.
        """
        for address, entry in entries.items():
            why = _misfit(address, asdict(entry))
            if why is not None:
                raise UsageError(f"it is not entered: {why}", where=str(self.path))
        with self._changing() as there:
            for address, entry in entries.items():
                known = there.get(address)
                if known is not None and known.sha256 != entry.sha256:
                    raise UsageError(
                        f"somebody has accepted another file of {address} meanwhile (sha256 {known.sha256})",
                        where=str(self.path),
                        next_step="agree on one, and run the command again",
                    )
                there[address] = entry

    def remove(self, address: str) -> Locked:
        """Remove an entry; returns it. Raises UsageError if there is none."""
        with self._changing() as there:
            if address not in there:
                raise UsageError(f"there is no entry for {address}", where=str(self.path))
            return there.pop(address)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Locked]]:
        """The entries, to be changed within the block and written at its end, locked against other processes."""
        # What is no file is not opened to write.
        self.read()
        try:
            with self._locked() as new:
                entries = {} if new else self.read()
                yield entries
                files = {address: asdict(entries[address]) for address in sorted(entries)}
                document = {"version": _VERSION, "packages": files}
                text = json.dumps(document, indent=2) + "\n"
                if len(text) > _MOST_BYTES:
                    raise UsageError(
                        f"it would have {len(text):,} bytes, more than {_MOST_BYTES:,}",
                        where=str(self.path),
                        next_step="clusteradm packages forget those that no host needs",
                    )
                atomic.write(self.path, text)
        except OSError as error:
            raise self._unusable("written", error) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """The file, locked; whether it is empty: made by this, or by one that was killed.

        Opened again if it was replaced while the lock was awaited.
        """
        while True:
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not regular.is_at(file.fileno(), self.path):
                    continue
                empty = os.fstat(file.fileno()).st_size == 0
                try:
                    yield empty
                except BaseException:
                    if empty:
                        self.path.unlink(missing_ok=True)
                    raise
                return

    def _parse(self, data: bytes) -> dict[str, Locked]:
        if not data:
            # What is left of a process that was killed before its first entry.
            return {}
        try:
            document = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            hint = "a conflict of git is to be resolved" if b"<<<<<<<" in data else error.msg
            raise self._wrong(f"line {error.lineno} is no JSON: {hint}") from None
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"it is no JSON: {error or type(error).__name__}") from None
        if not isinstance(document, dict) or type(document.get("version")) is not int:
            raise self._wrong('it is no mapping with a whole number under "version"')
        if document["version"] > _VERSION:
            raise self._wrong(f"it was written by a later version of clusteradm (format {document['version']})")
        if document["version"] != _VERSION or set(document) != {"version", "packages"}:
            raise self._wrong('it has other keys than "version" (1) and "packages"')
        packages = document["packages"]
        if not isinstance(packages, dict):
            raise self._wrong('"packages" is no mapping')
        return {address: self._entry(address, entry) for address, entry in packages.items()}

    def _entry(self, address: str, entry: Any) -> Locked:
        why = _misfit(address, entry)
        if why is not None:
            raise self._wrong(why)
        return Locked(**entry)

    def _wrong(self, why: str) -> UsageError:
        return UsageError(
            f"it cannot be understood: {why}",
            where=str(self.path),
            next_step="restore it from a copy; or remove it, and accept each package again",
        )

    def _unusable(self, what: str, error: OSError) -> UsageError:
        return UsageError(f"cannot be {what}: {error.strerror}", where=str(self.path))


def _misfit(address: str, entry: Any) -> str | None:
    """Why this is no entry of the file; None if it is one."""
    if not _text(address):
        return f"{address[:100]!r} is no address"
    names = {field.name for field in fields(Locked)}
    if not isinstance(entry, dict) or set(entry) != names:
        return f"the entry of {address} has not just these keys: {', '.join(sorted(names))}"
    for name, value in entry.items():
        if not _FITS[name](value):
            return f"the {name} of {address} is not one: {str(value)[:100]!r}"
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping whose keys occur once: of two entries, a reader of another program might take the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)[:100]!r} is there twice")
    return found
