"""Convergence of a board on the desired state: versions are fetched, loaded aside, switched to, and unloaded.

A version that cannot be fetched or loaded takes the place of none that works. With the share away, the board goes on
with what it has. What is desired is looked at also while a version is fetched and tried, which may take minutes.
"""

import asyncio
import sys
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from clusteradm.node.serve import placement, policy, share, trial
from clusteradm.node.serve.asking import Asking, ShareError
from clusteradm.node.serve.engines import READY, EngineKeeper, Wish
from clusteradm.node.serve.fetching import Fetching, Version
from clusteradm.node.serve.policy import Seen
from clusteradm.node.serve.servables.keepers import ServableKeepers
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.servables import ENSEMBLE
from clusteradm.node.spec.wire.serving import (
    AVAILABLE,
    END,
    LOADING,
    START,
    UNLOADING,
    DesiredState,
    ServeConfig,
    ServedModel,
    VersionState,
)

_EVERY = 0.5  # seconds between two looks at the share
_LOOK_SECONDS = 5.0
_SETTLE_SECONDS = 1.0  # after the front processes know, for what they have sent before


class Convergence:
    """`engines`: of the board, as they are now; `publish`: tells the front processes, and returns when all know."""

    def __init__(
        self,
        config: ServeConfig,
        engines: Callable[[], List[EngineKeeper]],
        publish: Callable[[], Any],
        servables: Optional[ServableKeepers] = None,
    ) -> None:
        self._config, self._engines, self._publish, self._servables = config, engines, publish, servables
        # Two helpers: one has a look while the other copies.
        self._asking = Asking(config.shared, config.cache)
        self._copying = Asking(config.shared, config.cache)
        self._fetching = Fetching(
            self._copying,
            config.cache,
            lambda: self.error if self._away else None,
            lambda: {trial.CPU if engine.pci_address is None else trial.TPU for engine in engines()},
            lambda name: self._anew.get(name, 0),
            config.packages,
        )
        self.desired = DesiredState(0)
        self._anew: Dict[str, int] = {}  # the revision since which all versions of a model are tried anew
        self.seen = Seen({})
        self.error = ""
        self._keys: Dict[Version, int] = {}
        self._last_key = 0
        self._folders = self._fetching.folders
        self._failed = self._fetching.failed
        self._kinds = self._fetching.kinds
        # Ensembles by name and number: those that lack something, and what; those that were seen to lack nothing.
        self.withheld: Dict[Tuple[str, int], str] = {}
        self.whole: Set[Tuple[str, int]] = set()
        self._serving: Set[Version] = set()  # in the table, or on the way there
        self._proven: Set[Version] = set()  # those of them that were available at some time
        self._leaving: Dict[Version, float] = {}  # out of the table; when it may be unloaded
        self._pruned: List[str] = []
        self._followed = 0
        self._looked = self._joined = self._away = False

    def start(self) -> None:
        """Begin with what was seen before this start, and is in the cache."""
        before = share.seen(self._config.cache)
        if before is not None:
            try:
                self._take(before)
            except WireError as error:
                sys.stderr.write("what was known of the desired state is damaged: %s\n" % error)

    async def run(self) -> None:
        """Follow the desired state for ever."""
        while True:
            await self.look()
            await self.step()
            await asyncio.sleep(_EVERY)

    async def look(self) -> None:
        """Learn what is desired, and what there is of it."""
        try:
            document = await self._asking.ask(_LOOK_SECONDS, "look")
            self._away = False
            self._take(document)
            self.error = ""
        except ShareError as error:
            self._away = True
            self._say(str(error))
        except WireError as error:
            self._say("desired.json is damaged, and what was desired before holds: %s" % error)

    def close(self) -> None:
        """End what it has started."""
        self._asking.close()
        self._fetching.close()

    def _say(self, error: str) -> None:
        if error != self.error:
            sys.stderr.write(error + "\n")
            self.error = error

    def _take(self, document: Dict[str, Any]) -> None:
        """Make the document what is desired. Raises WireError."""
        self._looked = True
        if document.get("desired") is None:
            return
        seen = decode(Seen, document)
        if seen == self.seen:
            return
        desired = decode(DesiredState, loads(seen.desired))
        names = _asked_anew(self.desired, desired)
        self.desired, self.seen = desired, seen
        self._anew.update(dict.fromkeys(names, desired.revision))
        for version in [each for each in self._failed if each.name in names]:
            del self._failed[version]
        again = [key for version, key in self._keys.items() if version.name in names]
        for engine in self._engines():
            engine.want(engine.wanted, again)
        if self._servables is not None and again:
            self._servables.again(again)

    def models(self) -> List[ServedModel]:
        """The models that this board is to serve."""
        return policy.here(self.desired, self._config.host)

    def elsewhere(self) -> Dict[str, str]:
        """The models that are served, and not here; and where, in words."""
        here = {model.name for model in self.models()}
        return {
            model.name: ", ".join(placement.hosts_of(self.desired, model.name))
            for model in self.desired.models
            if model.name not in here
        }

    def labels(self, name: str) -> Dict[str, int]:
        """The labels of a model."""
        seen = self.seen.models.get(name)
        return dict(seen.labels) if seen is not None else {}

    def _wanted(self) -> List[Version]:
        found: List[Version] = []
        for model in self.models():
            seen = self.seen.models.get(model.name)
            versions = model.wanted(seen.versions if seen else (), seen.labels if seen else {})
            contents = seen.contents if seen else {}
            for number in versions:
                content = contents.get(str(number)) or self._content_here(model.name, number)
                found.append(Version(model.name, number, content))
        return found

    def _content_here(self, name: str, number: int) -> str:
        """The content that this board has of a version of which the share does not say; "" where it has none."""
        return next((each.content for each in self._folders if each[:2] == (name, number)), "")

    async def step(self) -> None:
        """Go on as far as it is possible now."""
        self._proven |= {version for version in self._serving if self.engines_with(version)}
        await self._fetching.go_on(self._wanted(), _EVERY)
        wanted = self._wanted()
        keep = set(wanted) | self._retained(wanted)
        changed = False
        for version in keep:
            if version in self._folders and version not in self._serving:
                self._serving.add(version)
                self._leaving.pop(version, None)
                changed = True
        for version in [each for each in self._serving if each not in keep]:
            self._serving.discard(version)
            self._proven.discard(version)
            self._leaving[version] = 0.0
            changed = True
        for version in [each for each in self._folders if each not in self._serving and each not in self._leaving]:
            del self._folders[version]  # it came when it was wanted no more
        self._tell_engines()
        if changed or any(not at for at in self._leaving.values()):
            await self._publish()
            for version, at in self._leaving.items():
                self._leaving[version] = at or time.monotonic() + _SETTLE_SECONDS
        for version in [each for each, at in self._leaving.items() if at and time.monotonic() > at]:
            del self._leaving[version]
            self._folders.pop(version, None)
            self._keys.pop(version, None)
        self._tell_engines()
        await self._prune()

    def _tell_engines(self) -> None:
        for version in [*self._serving, *self._leaving]:
            if version not in self._keys:
                self._last_key += 1  # never one that was another's
                self._keys[version] = self._last_key
        inside = [*self._serving, *self._leaving]
        for engine in self._engines():
            mine = [each for each in inside if each not in self._kinds and engine in self._homes(each)]
            wishes = {self._keys[each]: self._wish(each) for each in mine}
            if engine.wanted != wishes:
                engine.want(wishes)
        if self._servables is not None:
            self._servables.want({self._keys[each]: self._wish(each) for each in inside if each in self._kinds})

    def _wish(self, version: Version) -> Wish:
        return Wish(version.name, version.number, self._folders[version], self._kinds.get(version, ""))

    def _homes(self, version: Version) -> List[EngineKeeper]:
        """The engines that are to have a version, by the placement; those that have it while it leaves this board. Of
        what is no model, the processes that are its own."""
        if version in self._kinds:
            return self._servables.of(self._keys.get(version)) if self._servables is not None else []
        devices = placement.homes(self.desired, self._config.host, version.name)
        if devices is not None and not devices:
            return [engine for engine in self._engines() if self._keys.get(version) in engine.wanted]
        return [engine for engine in self._engines() if devices is None or engine.device in devices]

    def _retained(self, wanted: List[Version]) -> Set[Version]:
        """What is not wanted any more and has worked, of models of which something that is wanted has not yet."""
        names = {model.name for model in self.models()}
        unready = {version[0] for version in wanted if version not in self._proven}
        return {each for each in self._serving & self._proven if each[0] in names & unready} - set(wanted)

    def _lacks_members(self, version: Version) -> bool:
        return self._kinds.get(version) == ENSEMBLE and version[:2] not in self.whole

    def engines_with(self, version: Version) -> Tuple[int, ...]:
        """The numbers of the engines that have it loaded; none for an ensemble that lacks something."""
        key = self._keys.get(version)
        if self._lacks_members(version):
            return ()
        return tuple(engine.number for engine in self._homes(version) if key in engine.loaded)

    def served(self) -> List[Tuple[Version, int]]:
        """(version, key) of all that requests may go to; what is wanted last."""
        wanted = self._wanted()
        inside = sorted(self._serving, key=lambda each: (each in wanted, each))
        return [(each, self._keys[each]) for each in inside if each in self._keys]

    async def _prune(self) -> None:
        keep = sorted(self._folders.values())
        # What is fetched now is in none of these folders yet.
        if keep == self._pruned or not self.desired.revision or self._fetching.busy:
            return
        try:
            await self._asking.ask(_LOOK_SECONDS, "prune", keep=keep)
            self._pruned = keep
        except ShareError:
            pass  # with the next change

    def states(self) -> List[VersionState]:
        """The state of every version that is wanted, served or leaving, and why one is not available."""
        wanted = self._wanted()
        # Of two contents with the same number the one that is wanted.
        numbered = {each[:2]: each for each in [*self._leaving, *self._serving, *wanted]}
        return [self._state(each, each in wanted) for each in sorted(numbered.values())]

    def _state(self, version: Version, wanted: bool) -> VersionState:
        name, number, _ = version
        labels = tuple(sorted(label for label, each in self.labels(name).items() if each == number))
        key = self._keys.get(version)
        having = [engine for engine in self._homes(version) if key in engine.loaded]
        loaded = next((engine.loaded[key] for engine in having if key is not None), None)
        reason, state = self._reason(version, key), START
        if version in self._leaving:
            state = UNLOADING
        elif having and not self._lacks_members(version):
            state = AVAILABLE
        elif version in self._failed or self._has_refused(version, key):
            state = END
        elif version in self._folders:
            state = LOADING
        return VersionState(
            name,
            number,
            state,
            reason[:2000] if state != AVAILABLE or wanted else "it stays until what is wanted is available",
            labels,
            tuple(engine.device for engine in having),
            loaded.load_seconds if loaded else None,
            loaded.seconds if loaded else None,
            max(engine.loaded[key].swap_seconds for engine in having) if having and key is not None else None,
            loaded.batches if loaded else 1,
        )

    def _has_refused(self, version: Version, key: Optional[int]) -> bool:
        return any(key in engine.failures for engine in self._homes(version))

    def _reason(self, version: Version, key: Optional[int]) -> str:
        if version in self._failed:
            return self._failed[version][0]
        if version[:2] in self.withheld:
            return self.withheld[version[:2]]
        homes = self._homes(version)
        reasons = {engine.device: engine.failures[key] for engine in homes if key in engine.failures}
        if not reasons and not self.engines_with(version):
            reasons = {engine.device: engine.reason for engine in homes if engine.state != READY}
            if not homes:
                reasons = {"placement": "none of the TPUs that it is to be on is this board's now"}
        return "; ".join("%s: %s" % each for each in reasons.items())

    @property
    def revision(self) -> int:
        """The revision that is followed to the end: each version is available on every engine that is ready, or says
        why not; nothing waits to be unloaded."""
        if not self._leaving and all(map(self._is_settled, self._wanted())):
            self._followed = self.desired.revision
        return self._followed

    @property
    def joined(self) -> bool:
        """Whether everything that is desired was settled at some time since this start."""
        self._joined = self._joined or (self._looked and all(map(self._is_settled, self._wanted())))
        return self._joined

    def _is_settled(self, version: Version) -> bool:
        if version in self._failed:
            return True
        key = self._keys.get(version)
        homes = self._homes(version)
        if not homes and self._engines() and version not in self._kinds:
            return True  # what it is to be on is not there, and nothing can be waited for
        done = [key in engine.loaded or key in engine.failures for engine in homes if engine.state == READY]
        return bool(done) and all(done)


def _asked_anew(old: DesiredState, new: DesiredState) -> Set[str]:
    """The models of which what has failed is to be tried at once: those of which something else is desired now;
    all where the same state was stored again, for that alone. A version that hangs would hold up every other change."""
    if new.revision == old.revision:
        return set()
    if replace(new, revision=old.revision) == old:
        return {model.name for model in new.models}
    return {model.name for model in new.models if model not in old.models}
