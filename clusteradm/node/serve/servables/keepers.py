"""Keepers of the processes of servables: one for what is data, and one for each version of a Python function."""

import asyncio
import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from clusteradm.node.models import store
from clusteradm.node.serve.engines import EngineKeeper, Wish
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.page import ENGINES, FRONTS, Page
from clusteradm.node.serve.servables import memory
from clusteradm.node.spec.wire.servables import MOST_SECONDS, PYTHON, Servable

_MOST_PYTHON = 16  # versions of Python functions
MOST = 1 + _MOST_PYTHON  # processes
# Of a table or a step: a picture of the largest size takes some seconds on a board.
_SECONDS = 30.0
_LOADING_SECONDS = 100.0
_LOOK_SECONDS = 0.1


class Environment(NamedTuple):
    """What all of them share. `packages`: the folder of installed packages; `begin`: starts a coroutine of ours."""

    runtime: str
    page: Page
    packages: Optional[str]
    changed: Callable[[], None]
    begin: Callable[[Any], None]


class ServableKeeper(EngineKeeper):
    """One process. `servable`: of the Python function that is there alone, None for all others."""

    module = "servables.process"

    def __init__(self, number: int, environment: Environment, name: str, servable: Optional[Servable] = None) -> None:
        self._servable, self._packages = servable, environment.packages
        self.servables = name
        super().__init__(number, None, environment.runtime, environment.page, environment.changed)

    def _spec(self) -> Dict[str, Any]:
        return {
            "number": self.number,
            "runtime": self._runtime,
            "packages": self._packages,
            "memory": memory.of(self._servable),
            "alone": self._servable is not None,
        }

    def _limits(self, loaded: Optional[Loaded]) -> Tuple[float, float]:
        if loaded is None:
            return _LOADING_SECONDS, _LOADING_SECONDS
        python = self._servable.python if self._servable is not None else None
        seconds = python.seconds if python is not None else _SECONDS
        return seconds, seconds


class ServableKeepers:
    """Those of a board, started when something wants them."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._shared: Optional[ServableKeeper] = None
        self._python: Dict[int, ServableKeeper] = {}
        self._retiring: List[ServableKeeper] = []  # with requests still
        self._wanted: Dict[int, Wish] = {}

    def all(self) -> List[EngineKeeper]:
        """In the order of their numbers."""
        found = [*([self._shared] if self._shared is not None else []), *self._python.values(), *self._retiring]
        return sorted(found, key=lambda keeper: -keeper.number)

    def of(self, key: Optional[int]) -> List[EngineKeeper]:
        """Those that are to have a version."""
        if key in self._python:
            return [self._python[key]]
        return [self._shared] if self._shared is not None and key in self._wanted else []

    def want(self, wanted: Dict[int, Wish]) -> None:
        """Set what they are to have."""
        if wanted == self._wanted:
            return
        self._wanted = dict(wanted)
        for key in [key for key in self._python if key not in wanted]:
            self._retire(self._python.pop(key))
        data = {key: wish for key, wish in wanted.items() if wish.kind != PYTHON}
        lost = {}
        for key, wish in wanted.items():
            if wish.kind == PYTHON and key not in self._python:
                about = store.manifest(wish.folder)
                if about is None:
                    lost[key] = "its manifest is damaged"
                    continue
                if len(self._python) >= _MOST_PYTHON:
                    lost[key] = "there are %d Python functions on this board, and no more may be" % _MOST_PYTHON
                    continue
                keeper = self._started("python %s:%d" % (wish.name, wish.version), about.servable)
                self._python[key] = keeper
                keeper.want({key: wish})
        if (data or lost) and self._shared is None:
            self._shared = self._started("servables", None)
        if self._shared is not None and not (data or lost):
            self._retire(self._shared)
            self._shared = None
        if self._shared is not None:
            self._shared.want(data)
            self._shared.failures.update(lost)

    def again(self, keys: Iterable[int]) -> None:
        """Try these at once, where they have failed."""
        for keeper in self.all():
            keeper.want(keeper.wanted, keys)
        # What there was no room for keeps its reason.
        wanted, self._wanted = self._wanted, {}
        self.want(wanted)

    def _retire(self, keeper: ServableKeeper) -> None:
        self._retiring.append(keeper)
        self._environment.begin(self._end(keeper))

    async def _end(self, keeper: ServableKeeper) -> None:
        """Stop one when its last request has ended."""
        end = time.monotonic() + MOST_SECONDS
        while self._environment.page.waiting(keeper.number, FRONTS) and time.monotonic() < end:
            await asyncio.sleep(_LOOK_SECONDS)
        self._retiring.remove(keeper)
        await keeper.stop()
        self._environment.changed()

    def _started(self, name: str, servable: Optional[Servable]) -> ServableKeeper:
        # From the end: engines have the first ones.
        taken = {keeper.number for keeper in self.all()}
        number = next(number for number in reversed(range(ENGINES)) if number not in taken)
        keeper = ServableKeeper(number, self._environment, name, servable)
        self._environment.begin(keeper.keep())
        return keeper
