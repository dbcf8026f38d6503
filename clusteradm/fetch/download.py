"""Fetching one file: from the cache, a path or an address, in as many attempts as it takes, checked while it comes."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.fetch import answers
from clusteradm.fetch.address import Address, name_of
from clusteradm.fetch.errors import Broken, FetchFailed, Restart, WrongContent
from clusteradm.fetch.exchange import Answer, Exchange
from clusteradm.fetch.store import Part, Store, Version, default_cache

# Without an answer, or less than a KiB of it.
SECONDS = 30.0
# Attempts in a row that bring less than _GAIN bytes; pauses before all but the first.
PAUSES = (1.0, 2.0, 4.0, 8.0)
_GAIN = 1 << 16
_LONGEST_PAUSE = 60.0
_REDIRECTIONS = 10
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Progress:
    """State of one file. `done`, `total`: bytes, `total` None while it is not known; `note`: why it waits, or ""."""

    name: str
    done: int
    total: int | None
    note: str = ""


@dataclass(frozen=True)
class Fetched:
    """A whole file in the cache.

    `path`: there; it is named by its sha256. `name`: its name by its address, safe as the name of a file. `origin`:
    where it came from after all redirections, without a query. `cached`: it was here already, and nobody was asked.
    """

    path: Path
    name: str
    sha256: str
    size: int
    origin: str
    cached: bool


def fetch(
    address: str,
    *,
    sha256: str | None = None,
    size: int | None = None,
    most: int = 1 << 30,
    cache: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Fetched:
    """Fetch a file into the cache, unless it is there.

    `address`: https://..., file:///... or an absolute path; http://... of this machine, or with `sha256`. `sha256`,
    `size`: which the file must have; without `sha256` an address is always asked. `most`: bytes that it may have.
    `cache`: a folder, by default `default_cache()`. A path is always read, so that a changed file is noticed.

    Raises UsageError for an address or sha256 that is none, FetchFailed, and of these WrongContent for another file
    than the expected one. What has come before an error or Ctrl-C stays, and the next call goes on from there.
    """
    place = Address.parse(address)
    sha256 = sha256.lower() if sha256 is not None else None
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UsageError(f"{sha256[:80]!r} is no sha256: 64 of 0-9a-f", where=place.shown)
    if size is not None and size > most:
        raise FetchFailed(f"it has {size:,} bytes, more than {most:,}", where=place.shown)
    _check_scheme(place, sha256)
    store = Store(default_cache() if cache is None else cache)
    return _Fetch(place, sha256, size, most, store, progress or (lambda state: None)).run()


def _check_scheme(place: Address, sha256: str | None) -> None:
    if place.scheme == "http" and not place.is_loopback and sha256 is None:
        raise UsageError(
            "over plain http anybody on the way may change it",
            where=place.shown,
            next_step="name an https address, or the sha256 that the file must have",
        )


class _Fetch:
    """One call of `fetch`."""

    def __init__(
        self,
        place: Address,
        sha256: str | None,
        size: int | None,
        most: int,
        store: Store,
        progress: Callable[[Progress], None],
    ) -> None:
        self._place = place
        self._name = name_of(place.text)
        self._sha256 = sha256
        self._size = size
        self._most = most if size is None else size
        self._store = store
        self._progress = progress
        # Where the redirections ended.
        self._origin = place
        # The server's parts do not fit together: no more of them.
        self._only_whole = False

    def run(self) -> Fetched:
        if self._place.path is not None:
            return self._copied(self._place.path)
        found = self._cached()
        if found is not None:
            return found
        with self._store.part(
            f"{self._place.text}\n{self._sha256}", lambda: self._say(0, "another run fetches it")
        ) as part:
            # The one that was waited for has it.
            return self._cached() or self._downloaded(part)

    def _say(self, done: int, note: str = "", total: int | None = None) -> None:
        self._progress(Progress(self._name, done, self._size if total is None else total, note))

    def _cached(self) -> Fetched | None:
        if self._sha256 is None:
            return None
        path = self._store.whole(self._sha256, lambda done: self._say(done))
        if path is None:
            return None
        size = path.stat().st_size
        self._check_size(size)
        return Fetched(path, self._name, self._sha256, size, self._place.shown, True)

    def _copied(self, path: Path) -> Fetched:
        """The file of a path, in the cache."""
        digest, size = hashlib.sha256(), 0
        for chunk in self._chunks_of(path):
            digest.update(chunk)
            size += len(chunk)
        sha256 = digest.hexdigest()
        if self._sha256 not in (None, sha256):
            raise self._wrong(sha256, size, b"")
        whole = self._store.whole(sha256, lambda done: None)
        if whole is None:
            with self._store.part(str(path), lambda: self._say(0, "another run reads it")) as part:
                part.restart(Version(total=size))
                for chunk in self._chunks_of(path):
                    part.write(chunk)
                if part.sha256 != sha256:
                    part.drop()
                    raise FetchFailed("it changes while it is read", where=regular.readable(path))
                whole = part.publish()
        return Fetched(whole, self._name, sha256, size, self._place.shown, False)

    def _chunks_of(self, path: Path) -> Iterator[bytes]:
        """The content of a file of this machine. Raises UsageError, WrongContent or FetchFailed."""
        with regular.open_file(path) as file:
            size, done = os.fstat(file.fileno()).st_size, 0
            self._check_size(size)
            while done <= size:
                try:
                    chunk = file.read(_CHUNK)
                except OSError as error:
                    raise UsageError(f"cannot read it: {error.strerror}", where=regular.readable(path)) from None
                if not chunk:
                    break
                done += len(chunk)
                self._say(done, total=size)
                yield chunk

    def _downloaded(self, part: Part) -> Fetched:
        self._attempts(part)
        if self._sha256 not in (None, part.sha256) and self._resumed and not self._only_whole:
            # Parts of two files, where the server did not say that it has another one now.
            self._only_whole = True
            part.restart(Version())
            self._attempts(part)
        self._check_content(part)
        sha256, size = part.sha256, part.offset
        return Fetched(part.publish(), self._name, sha256, size, self._origin.shown, False)

    def _attempts(self, part: Part) -> None:
        """Attempt until the file is whole."""
        self._resumed = part.offset > 0
        best, failures = part.offset, 0
        while True:
            try:
                self._attempt(part)
                return
            except Restart:
                # By an answer to a part: without parts there is none.
                self._only_whole = True
                part.restart(Version())
                continue
            except Broken as error:
                if part.offset >= best + _GAIN:
                    best, failures = part.offset, 0
                if failures == len(PAUSES):
                    raise self._given_up(part, error) from error
                pause = PAUSES[failures] if error.patience is None else min(error.patience, _LONGEST_PAUSE)
                failures += 1
                self._say(part.offset, f"{error}; trying again", part.version.total)
                time.sleep(pause)

    def _attempt(self, part: Part) -> None:
        """One request, from the end of the part. Raises Broken, Restart or FetchFailed."""
        if part.offset and part.offset == part.version.total:
            return
        offset = part.offset if self._may_resume(part) else 0
        exchange, answer = self._ask(offset, part.version)
        with exchange:
            if answer.status == 206 and offset:
                end: int | None = answers.end(answer, offset, part.version)
                self._resumed = True
            elif answer.status == 200:
                version = self._checked(answer)
                part.restart(version)
                self._resumed, end = False, version.total
            elif answer.status == 416 and offset:
                raise Restart
            else:
                raise answers.refused(answer, self._origin.shown)
            self._say(part.offset, total=part.version.total)
            for chunk in exchange.chunks():
                after = part.offset + len(chunk)
                if end is not None and after > end:
                    raise Restart
                if after > self._most:
                    part.drop()
                    raise self._too_large(after, "more than ")
                part.write(chunk)
                self._say(part.offset, total=part.version.total)
        whole = part.version.total
        if whole is not None and part.offset < whole:
            raise Broken(f"the connection ended after {part.offset:,} of {whole:,} bytes")

    def _may_resume(self, part: Part) -> bool:
        """Whether the rest can be told to be of the same file: by the server, or by the sha256 at the end."""
        told = part.version.etag or part.version.modified or self._sha256
        return bool(part.offset and told and part.version.total and not self._only_whole)

    def _ask(self, offset: int, version: Version) -> tuple[Exchange, Answer]:
        """The answer to a request, after redirections."""
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            condition = version.etag or version.modified
            if condition:
                headers["If-Range"] = condition
        place = self._place
        for _ in range(_REDIRECTIONS):
            exchange = Exchange(place, headers, SECONDS)
            try:
                answer = exchange.answer()
                location = answer.headers.get("Location")
                if answer.status not in (301, 302, 303, 307, 308) or location is None:
                    self._origin = place
                    return exchange, answer
            except BaseException:
                exchange.close()
                raise
            exchange.close()
            place = self._redirected(place, location)
        raise FetchFailed(f"it leads through more than {_REDIRECTIONS} redirections", where=self._place.shown)

    def _redirected(self, place: Address, location: str) -> Address:
        try:
            there = place.joined(location)
            if there.path is not None:
                raise UsageError("a server has no say in which file of this machine is read")
            if place.scheme == "https" and there.scheme != "https":
                raise UsageError("from https only https is followed")
            _check_scheme(there, self._sha256)
        except UsageError as error:
            raise FetchFailed(
                f"{place.host} sends to another address ({location[:200]}), which is refused: {error.what}",
                where=self._place.shown,
            ) from None
        return there

    def _checked(self, answer: Answer) -> Version:
        """What an answer with the whole file says of it. Raises FetchFailed where it is not wanted."""
        version = answers.version(answer, self._place.shown)
        if version.total is not None:
            self._check_size(version.total)
        if self._sha256 is None and not answers.shows_a_cut(answer):
            raise FetchFailed(
                "the server does not say how long it is: a cut would not be noticed",
                where=self._place.shown,
                next_step="name its sha256",
            )
        return version

    def _check_size(self, size: int) -> None:
        """Raises WrongContent or FetchFailed for a file that has as many bytes."""
        if self._size is not None and size != self._size:
            raise WrongContent(
                f"it has {size:,} bytes, not {self._size:,}: it is another file", where=self._place.shown, size=size
            )
        if size > self._most:
            raise self._too_large(size)

    def _too_large(self, size: int, more: str = "") -> FetchFailed:
        if self._size is not None:
            return WrongContent(
                f"it has {more}{self._size:,} bytes: it is another file", where=self._place.shown, size=size
            )
        return FetchFailed(f"it has {size:,} bytes, more than {self._most:,}", where=self._place.shown)

    def _check_content(self, part: Part) -> None:
        """Raises WrongContent, and removes the file, if it is not the expected one."""
        if self._sha256 in (None, part.sha256) and self._size in (None, part.offset):
            return
        head = part.head()
        part.drop()
        raise self._wrong(part.sha256, part.offset, head)

    def _wrong(self, sha256: str, size: int, head: bytes) -> WrongContent:
        """The error of a file that has another sha256. `head`: its first bytes."""
        is_page = head.lstrip().lower().startswith((b"<!doctype html", b"<html"))
        expected = self._sha256 or f"{self._size:,} bytes"
        return WrongContent(
            f"it has sha256 {sha256} ({size:,} bytes), not {expected}: "
            + ("it is a web page, as of a network's login or an error" if is_page else "it is another file"),
            where=self._place.shown,
            sha256=sha256,
            size=size,
        )

    def _given_up(self, part: Part, error: Broken) -> FetchFailed:
        kept = ""
        if self._may_resume(part):
            kept = f"; {part.offset:,} bytes are kept, and the next run goes on from there"
        return FetchFailed(
            f"{error}, {len(PAUSES) + 1} times{kept}",
            where=self._place.shown,
            next_step="run the command again when the server or the network is better",
        )
