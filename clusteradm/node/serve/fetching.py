"""Fetching of versions into a board's cache, and their trials, beside all else.

One is copied at a time; trials are independent of each other, some at a time: one that hangs delays no other.
"""

import asyncio
import time
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from clusteradm.node.models import store
from clusteradm.node.serve import share, trial
from clusteradm.node.serve.asking import Asking, ShareError

_FETCH_SECONDS = 300.0
_RETRY_SECONDS = 10.0  # until a version that could not be fetched is tried again
_TRIAL_SECONDS = 600.0  # the same for one that ends what loads it
# Trials at the same time: each loads a model into memory.
_TRIALS = 3


class Version(NamedTuple):
    """A version of a model. `content`: of its files, as share.py has it: a number may be given anew."""

    name: str
    number: int
    content: str


class Fetching:
    """`folders`: where the versions are that have come, and may be loaded; `kinds`: of those that are no models.

    `away`: why the share cannot be asked; `targets`: what a model is tried for; `anew`: another number, by a model's
    name, where all of its versions are to be tried anew; `packages`: the folder of installed packages.
    """

    def __init__(
        self,
        copying: Asking,
        cache: str,
        away: Callable[[], Optional[str]],
        targets: Callable[[], Set[str]],
        anew: Callable[[str], int],
        packages: Optional[str] = None,
    ) -> None:
        self._asking, self._cache, self._packages = copying, cache, packages
        self._away, self._targets, self._anew = away, targets, anew
        self.folders: Dict[Version, str] = {}
        self.kinds: Dict[Version, str] = {}
        self.failed: Dict[Version, Tuple[str, float]] = {}
        self._wanted: List[Version] = []
        self._copying: Optional["asyncio.Future[None]"] = None
        self._copied: Dict[Version, Tuple[str, int]] = {}  # whose trials have not begun
        self._trials: Dict[Version, "asyncio.Future[None]"] = {}

    @property
    def busy(self) -> bool:
        """Whether something is on the way that is in no folder of `folders` yet."""
        return self._copying is not None or bool(self._copied or self._trials)

    async def go_on(self, wanted: Iterable[Version], seconds: float) -> None:
        """Fetch what is wanted and not here: as far as it comes in so many seconds, and then beside what follows."""
        self._wanted = list(wanted)
        end = time.monotonic() + seconds
        self._collect()
        missing = [each for each in self._wanted if self._lacks(each)]
        if self._copying is None and missing:
            self._copying = asyncio.ensure_future(self._copy_all(missing))
        while True:
            self._collect()
            self._begin_trials()
            work = [*([self._copying] if self._copying is not None else []), *self._trials.values()]
            left = end - time.monotonic()
            if not work or left <= 0:
                return
            await asyncio.wait(work, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def close(self) -> None:
        """End what it has begun."""
        for work in [*([self._copying] if self._copying is not None else []), *self._trials.values()]:
            work.cancel()
        self._asking.close()

    def _collect(self) -> None:
        """Raises what a defect of ours has raised."""
        if self._copying is not None and self._copying.done():
            copied, self._copying = self._copying, None
            copied.result()
        for version in [version for version, work in self._trials.items() if work.done()]:
            self._trials.pop(version).result()
        for version in [version for version in self._trials if version not in self._wanted]:
            self._trials.pop(version).cancel()  # it may hang, and has the place of another one

    def _begin_trials(self) -> None:
        for version in [version for version in self._copied if version not in self._wanted]:
            del self._copied[version]
        while self._copied and len(self._trials) < _TRIALS:
            version = next(iter(self._copied))
            self._trials[version] = asyncio.ensure_future(self._try(version, *self._copied.pop(version)))

    async def _copy_all(self, missing: List[Version]) -> None:
        for version in missing:
            if self._lacks(version) and version in self._wanted:  # still
                await self._copy(version)

    def _lacks(self, version: Version) -> bool:
        here = version in self.folders or version in self._copied or version in self._trials
        return not here and not self._has_failed(version)

    async def _copy(self, version: Version) -> None:
        """Copy a version into the cache, or with the share away take one that is there."""
        since = self._anew(version.name)
        try:
            away = self._away()
            if away is not None:
                raise ShareError(away)
            answer = await self._asking.ask(_FETCH_SECONDS, "fetch", **version._asdict())
            folder = str(answer["folder"])
        except (ShareError, LookupError) as error:
            folder = share.cached(self._cache, *version)
            if not await asyncio.get_event_loop().run_in_executor(None, share.is_whole, folder):
                self._fail(version, str(error), time.monotonic(), since)
                return
        self._copied[version] = (folder, since)

    async def _try(self, version: Version, folder: str, since: int) -> None:
        about = await asyncio.get_event_loop().run_in_executor(None, store.manifest, folder)
        self.kinds.pop(version, None)
        if about is not None and about.servable is not None:
            self.kinds[version] = about.servable.kind
            reasons = [await trial.refusal(folder, trial.SERVABLE, self._packages)]
        else:
            reasons = [await trial.refusal(folder, target) for target in sorted(self._targets())]
        reason = next(filter(None, reasons), None)
        if reason is None:
            self.folders[version] = folder
            self.failed.pop(version, None)
        else:
            self._fail(version, reason, time.monotonic() + _TRIAL_SECONDS, since)

    def _fail(self, version: Version, reason: str, at: float, since: int) -> None:
        """Remember a failure, unless it is to be tried anew by now."""
        if self._anew(version.name) == since:
            self.failed[version] = (reason, at)

    def _has_failed(self, version: Version) -> bool:
        return version in self.failed and time.monotonic() < self.failed[version][1] + _RETRY_SECONDS
