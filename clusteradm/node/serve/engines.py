"""Engine keeper: one engine process, kept alive, with the versions that it is to have."""

import asyncio
import contextlib
import time
from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Set, Tuple

from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.page import Page
from clusteradm.node.serve.process import Process
from clusteradm.node.spec.wire.decode import WireError, decode

STARTING, READY, FAILED = "starting", "ready", "failed"
_LOAD_SECONDS = 120.0
_RETRY_SECONDS = 60.0  # until a version that did not load is tried again
_ENDED_SECONDS = 600.0  # the same for one that ended the process, with all that was served
_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds before an engine that has ended is started again
_STEADY = 30.0
_HOLD_SECONDS = 1.0  # for the requests that it has, before it lets go of the TPU
# An inference is late after so many times its measured time, and hangs after so many more; at least so many seconds.
_LATE_TIMES, _LATE_SECONDS = 20.0, 0.5
_HANG_TIMES, _HANG_SECONDS = 60.0, 3.0
_LOADING_LATE, _LOADING_HANG = 2.0, 20.0  # seconds of an inference on a model that nothing is known of


class Wish(NamedTuple):
    """A version that an engine is to have. `kind`: of a servable that is no model."""

    name: str
    version: int
    folder: str
    kind: str = ""


class EngineFailed(Exception):
    """The engine has to be started anew; the text says why."""


class EngineKeeper:
    """`changed` is called whenever something here has another value. `closed_for`: why it is out of rotation."""

    module = "engine_process"
    servables = ""  # what is there that is no model, in words

    def __init__(
        self, number: int, pci_address: Optional[str], runtime: str, page: Page, changed: Callable[[], None]
    ) -> None:
        self.number, self.pci_address = number, pci_address
        self._runtime, self._page, self._changed = runtime, page, changed
        self.state, self.reason = STARTING, "its process starts"
        self.simulated = False
        self.loaded: Dict[int, Loaded] = {}
        self.failures: Dict[int, str] = {}
        self._retry_at: Dict[int, float] = {}
        self._proven: Set[int] = set()  # loaded at some time
        self._blamed: Set[int] = set()  # versions with which the process ended, and not with others
        self.wanted: Dict[int, Wish] = {}
        self.closed_for: Dict[str, str] = {"state": self.reason}
        self._process: Optional[Process] = None
        self._wake = asyncio.Event()
        self._kill_reason = ""
        self._killed_serving = False
        self._held: Optional[str] = None
        self._stopped = False
        page.close(number, True)

    @property
    def device(self) -> str:
        """As answers name it."""
        return self.pci_address or "cpu"

    @property
    def open(self) -> bool:
        """Whether it is in rotation."""
        return not self.closed_for

    def want(self, wanted: Dict[int, Wish], again: Iterable[int] = ()) -> None:
        """Set what it is to have. `again`: what of it is to be tried at once, where it has failed."""
        self.wanted = wanted
        for key in again:
            self.failures.pop(key, None)
        self._wake.set()

    def close(self, kind: str, reason: Optional[str]) -> None:
        """Take it out of rotation for a reason of this kind; None: not for this one any more."""
        before = dict(self.closed_for)
        if reason is None:
            self.closed_for.pop(kind, None)
        else:
            self.closed_for[kind] = reason
        if before != self.closed_for:
            self._page.close(self.number, bool(self.closed_for))
            self._changed()

    def hold(self, reason: Optional[str]) -> None:
        """Keep it out of rotation without a process, so that somebody else can have the TPU; None: not any more."""
        self.close("drain", reason)
        self._held = reason
        self._wake.set()

    def kill(self, reason: str) -> None:
        """End the process, which is started again."""
        if self._process is not None and not self._kill_reason:
            self._kill_reason = reason
            self._process.kill()

    async def stop(self) -> None:
        """End it for good."""
        self._stopped = True
        self._wake.set()
        if self._process is not None:
            self._process.kill()

    def watch(self) -> None:
        """Look how long the inference at work takes: called several times a second."""
        seconds, key = self._page.running(self.number)
        late, hang = self._limits(self.loaded.get(key))
        if seconds > hang:
            self.close("late", _hangs(seconds))
            self._killed_serving = key in self.loaded
            self.kill("an inference did not end in %.0f s" % hang)
        elif seconds > late:
            self.close("late", _hangs(seconds))
        elif "late" in self.closed_for:
            self.close("late", None)

    def _spec(self) -> Dict[str, Any]:
        return {"number": self.number, "pci_address": self.pci_address, "runtime": self._runtime}

    def _limits(self, loaded: Optional[Loaded]) -> Tuple[float, float]:
        """Seconds after which an inference is late, and after which it hangs."""
        if loaded is None:
            return _LOADING_LATE, _LOADING_HANG
        late, hang = _LATE_TIMES * loaded.seconds, _HANG_TIMES * loaded.seconds
        return max(_LATE_SECONDS, late), max(_HANG_SECONDS, hang)

    async def keep(self) -> None:
        """Run the process, again and again, until it is stopped."""
        pause = _PAUSE
        while not self._stopped:
            if self._held is not None:
                self._wake.clear()
                await self._wake.wait()
                continue
            began = time.monotonic()
            reason = await self._live()
            if self._stopped:
                break
            if time.monotonic() - began > _STEADY:
                pause = _PAUSE
            self.state, self.reason = FAILED, reason
            self.loaded.clear()
            self.close("state", reason)
            self._changed()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            self.state, self.reason = STARTING, "its process starts again after: %s" % reason

    async def _live(self) -> str:
        """One life of the process; why it ended."""
        self._page.clear(self.number)
        self._kill_reason, self._killed_serving = "", False
        try:
            process = self._process = await Process.start(self.module, self._spec())
        except OSError as error:
            return "its process does not start: %s" % error
        self.close("late", None)
        ended = asyncio.ensure_future(process.ended())
        said: "asyncio.Queue[Optional[Any]]" = asyncio.Queue()
        listening = asyncio.ensure_future(_listen(process, said))
        try:
            await self._converse(process, said)
            return "it was stopped"
        except EngineFailed as error:
            reason = self._kill_reason or str(error)
            process.kill()
            how = await ended
            return reason or how
        finally:
            self._process = None
            process.kill()
            listening.cancel()
            with contextlib.suppress(Exception):
                await ended

    async def _converse(self, process: Process, said: "asyncio.Queue[Optional[Any]]") -> None:
        while not self._stopped:
            if self._held is not None:
                await asyncio.sleep(_HOLD_SECONDS)
                raise EngineFailed(self._held or "it is drained")
            self._wake.clear()
            key = self._next()
            if key is not None:
                await self._load(process, said, key)
                continue
            gone = [key for key in self.loaded if key not in self.wanted]
            if gone:
                process.lines.send({"do": "unload", "key": gone[0]})
                self.loaded.pop(gone[0])
                await self._answer(said, _LOAD_SECONDS)
                self._changed()
                continue
            if self.state != READY:
                self.state, self.reason = READY, ""
                self.close("state", None)
                self._changed()
            waiting = asyncio.ensure_future(self._wake.wait())
            hearing = asyncio.ensure_future(said.get())
            soonest = min((at - time.monotonic() for at in self._retry_at.values()), default=None)
            done, rest = await asyncio.wait(
                [waiting, hearing], return_when=asyncio.FIRST_COMPLETED, timeout=soonest and max(0.1, soonest)
            )
            for task in rest:
                task.cancel()
            if hearing in done:
                document = hearing.result()
                raise EngineFailed(str((document or {}).get("broken", ""))[:1000])

    def _next(self) -> Optional[int]:
        """A version that is to be loaded now; those that were loaded before come first."""
        now = time.monotonic()
        for key, at in list(self._retry_at.items()):
            if key not in self.failures or key not in self.wanted or now > at:
                self.failures.pop(key, None)
                del self._retry_at[key]
        self._proven &= set(self.wanted)
        ordered = sorted(self.wanted, key=lambda key: key not in self._proven)
        return next((key for key in ordered if key not in self.loaded and key not in self.failures), None)

    async def _load(self, process: Process, said: "asyncio.Queue[Optional[Any]]", key: int) -> None:
        wish = self.wanted[key]
        process.lines.send({"do": "load", "key": key, **wish._asdict()})
        try:
            document = await self._answer(said, _LOAD_SECONDS)
        except EngineFailed as error:
            reason = self._kill_reason or str(error) or await process.ended()
            self._ended(key, reason, not self._kill_reason and not str(error))
            raise
        try:
            if "loaded" in document:
                self.loaded[key] = decode(Loaded, document["loaded"])
                self._proven.add(key)
                self.simulated = "SIMULATED" in str(document.get("runtime"))
            else:
                self._fail(key, str(document.get("reason")))
        except WireError as error:
            self._fail(key, "the engine's answer is damaged: %s" % error)
        self._changed()

    def _ended(self, key: int, reason: str, by_itself: bool) -> None:
        """The process has to be started anew while it loads a version. Where it had others before, it is the version's
        fault, which would have it end again and again; where it then ends with those as well, it is the TPU's."""
        if not self.loaded:
            for each in self._blamed:
                self.failures.pop(each, None)
            self._blamed.clear()
        elif not self._killed_serving:
            self._blamed.add(key)
        if key in self._blamed or (by_itself and not self.loaded):
            seconds = _ENDED_SECONDS if key in self._blamed else _RETRY_SECONDS
            self._fail(key, "the engine's process ended while it loaded the version: %s" % reason, seconds)

    def _fail(self, key: int, reason: str, seconds: float = _RETRY_SECONDS) -> None:
        self.failures[key] = reason[:1500]
        self._retry_at[key] = time.monotonic() + seconds

    async def _answer(self, said: "asyncio.Queue[Optional[Any]]", seconds: float) -> Dict[str, Any]:
        """The answer to what was sent. Raises EngineFailed: "" where the process has ended."""
        try:
            document = await asyncio.wait_for(said.get(), seconds)
        except asyncio.TimeoutError:
            raise EngineFailed("it did not answer in %.0f s: see clusteradm health" % seconds) from None
        if not isinstance(document, dict):
            raise EngineFailed("")
        if "broken" in document:
            raise EngineFailed(str(document["broken"])[:1000] or "inference fails")
        return document


async def _listen(process: Process, said: "asyncio.Queue[Optional[Any]]") -> None:
    while True:
        document = await process.lines.receive()
        said.put_nowait(document)
        if document is None:
            return


def _hangs(seconds: float) -> str:
    return "an inference has not ended for %.1f s" % seconds
