"""Packages from addresses and files: fetched by the admin's machine, accepted once, kept to what was accepted."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clusteradm.errors import ClusteradmError
from clusteradm.fetch import Fetched, Progress, WrongContent, deb, fetch
from clusteradm.fetch.lock import Lock, Locked
from clusteradm.inventory import Cluster

# Bytes of a package at most. Those of Edge TPUs have less than a tenth of it.
_MOST = 1 << 30


@contextlib.contextmanager
def unseen() -> Iterator[Callable[[Progress], None]]:
    """Progress that nobody looks at."""
    yield lambda state: None


@dataclass(frozen=True)
class _Wish:
    """A package that hosts need. `sha256`: that it must have, by `text`, which an inventory or a playbook has."""

    address: str
    text: str
    sha256: str | None

    @classmethod
    def of(cls, text: str) -> _Wish:
        """ADDRESS or ADDRESS#sha256=HEX, as pip writes it."""
        address, _, fragment = text.partition("#")
        found = re.fullmatch(r"sha256=([0-9A-Fa-f]{64})", fragment)
        return cls(address, text, found[1].lower() if found else None)


class Packages:
    """What the plays of a run may install.

    `known`: address -> its entry in clusteradm.lock, as JSON values, and for those that were asked for: "path" in the
    cache of this machine, or "error"; in check mode "pending" for one that a run would fetch and ask about.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        accept_new: bool = False,
        ask: Callable[[str], bool] = lambda table: False,
        showing: Callable[[], AbstractContextManager[Callable[[Progress], None]]] = unseen,
        check: bool = False,
        cache: Path | None = None,
    ) -> None:
        """`ask`: a person, about a table of packages; `showing`: shows progress. Raises UsageError for a bad lock."""
        self._cluster = cluster
        self._accept_new = accept_new
        self._ask = ask
        self._showing = showing
        self._check = check
        self._cache = cache
        self.lock = Lock(cluster.package_lock)
        self._locked = self.lock.read()
        self.known: dict[str, dict[str, Any]] = {address: asdict(entry) for address, entry in self._locked.items()}

    def provide(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Fetch what hosts need (host -> ADDRESS or ADDRESS#sha256=HEX), and enter it into `known`.

        New packages are shown in one table, with one question. Raises nothing but KeyboardInterrupt: what cannot be had
        is an error of its address.
        """
        hosts: dict[str, list[str]] = {}
        wishes: dict[str, _Wish] = {}
        for host, texts in wanted.items():
            for text in texts:
                wish = _Wish.of(text)
                hosts.setdefault(wish.address, []).append(host)
                other = wishes.setdefault(wish.address, wish)
                if other.sha256 != wish.sha256:
                    self._fail(wish.address, f"{wish.address} is wanted with two sha256, or once without")
        with self._showing() as progress:
            fetched = {address: self._fetched(wish, progress) for address, wish in wishes.items()}
        new = {address: entry for address, entry in fetched.items() if entry is not None}
        if new and self._may_add(new, hosts, wishes):
            try:
                self.lock.add(new)
            except ClusteradmError as error:
                for address in new:
                    self._fail(address, _one_line(error))
            else:
                for address, entry in new.items():
                    self._locked[address] = entry
                    self.known[address].update(asdict(entry))

    def _fail(self, address: str, why: str) -> None:
        self.known.setdefault(address, {}).pop("path", None)
        self.known[address]["error"] = why

    def _fetched(self, wish: _Wish, progress: Callable[[Progress], None]) -> Locked | None:
        """Fetch a package into the cache; its entry if it is none of the lock's yet."""
        address, locked = wish.address, self._locked.get(wish.address)
        if "error" in self.known.get(address, {}):
            return None
        if locked is None and self._check:
            self.known[address] = {"pending": True}
            return None
        if locked is not None and wish.sha256 not in (None, locked.sha256):
            self._fail(
                address,
                f"{address} is to have sha256 {wish.sha256}, and {self.lock.path} has {locked.sha256}. "
                + _if_intended(address),
            )
            return None
        try:
            found = fetch(
                self._place(address),
                sha256=locked.sha256 if locked else wish.sha256,
                size=locked.size if locked else None,
                most=_MOST,
                cache=self._cache,
                progress=progress,
            )
            entry = locked or _entry(address, found)
        except WrongContent as error:
            step = _if_intended(address) if locked else "See that the address and the sha256 are right."
            known = f", which {self.lock.path} has" if locked else ""
            self._fail(address, f"{error.where}: {error.what}{known}. {step}")
            return None
        except ClusteradmError as error:
            self._fail(address, _one_line(error))
            return None
        # What a server or a file can bring about that nobody has thought of ends no other host's run.
        except Exception as error:
            self._fail(address, f"{address}: an internal error of clusteradm ({type(error).__name__}: {error})")
            return None
        self.known[address] = {**asdict(entry), "path": str(found.path)}
        return None if locked else entry

    def _place(self, address: str) -> str:
        """The address; a path that is relative is one from the folder of clusteradm.lock."""
        if address.startswith("/") or "://" in address:
            return address
        return str(self.lock.path.parent.resolve() / address)

    def _may_add(self, new: dict[str, Locked], hosts: Mapping[str, list[str]], wishes: Mapping[str, _Wish]) -> bool:
        """Whether these may be entered into the lock. A sha256 that the inventory itself names is its answer."""
        named = {
            text
            for host in self._cluster.hosts.values()
            for text in self._cluster.setting("cluster_tpu_packages", host) or ()
        }
        asked = {
            address: entry
            for address, entry in new.items()
            if wishes[address].sha256 is None or wishes[address].text not in named
        }
        if not asked or self._accept_new or self._ask(table(asked, hosts)):
            return True
        for address in asked:
            del new[address]
            self._fail(
                address,
                f"{address} was not accepted. When you know that it is right: clusteradm bootstrap --accept-new",
            )
        return bool(new)


def table(new: Mapping[str, Locked], hosts: Mapping[str, list[str]]) -> str:
    """What a person is asked about: each package with its sha256, size and origin, and the hosts that need it."""
    lines = ["Packages not seen before, to be installed by root:"]
    for address, entry in new.items():
        lines += [
            f"  {entry.deb}, {entry.size:,} bytes, for {', '.join(hosts[address])}",
            f"    {address}",
            *([f"    by way of {entry.origin}"] if entry.origin != address else []),
            f"    sha256 {entry.sha256}",
        ]
    return "\n".join(lines)


def _entry(address: str, found: Fetched) -> Locked:
    """What the lock is to have of it. `origin` of a path: as it is written: another machine has another folder."""
    about = deb.read(found.path)
    origin = found.origin[:2048] if "://" in address else address
    return Locked(found.sha256, found.size, origin, about.package, about.version, about.architecture)


def _if_intended(address: str) -> str:
    return f"If the change is intended: clusteradm packages forget {shlex.quote(address)}"


def _one_line(error: ClusteradmError) -> str:
    place = f"{error.where}: " if error.where else ""
    return f"{place}{error.what}" + (f"; {error.next_step}" if error.next_step else "")
