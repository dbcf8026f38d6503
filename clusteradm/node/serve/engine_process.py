"""Engine process: `python3 -m clusteradm.node.serve.engine_process SPEC`, one for each Edge TPU, or for the CPU.

It runs what front processes ask for, one inference at a time, and loads and unloads versions as the supervisor says, in
a thread beside. SPEC is JSON: the number of the engine, its PCI address or null, the folder of the sockets, and the
descriptor of the supervisor's socket, on which each line is a JSON document.
"""

import array
import collections
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, Deque, Dict, List, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.edgetpu.engine import InferenceError
from clusteradm.node.edgetpu.library import DeviceError, TpuError
from clusteradm.node.serve import messages, paths
from clusteradm.node.serve.arena import Arena, Layout, layout
from clusteradm.node.serve.holding import LOADING, Holding
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.messages import Ended, Run
from clusteradm.node.serve.page import Page
from clusteradm.node.serve.queueing import MOST_QUEUED, Queue, Waiting

_IDLE_SECONDS = 1.0
_UNLOAD_SECONDS = 0.02
_MOST_TURNS = 256  # messages of a front process that are read before an inference is begun all the same
_MOST_VIEWS = 1024  # of one front process
_USUAL = 0.1  # weight of the last inference in what is usual for its version
_QUEUE_SECONDS, _FEWEST_QUEUED = 2.0, 8  # of the requests of one version that may wait

Views = Tuple[List[Any], List[Any]]


class Front:
    """A front process, as the engine sees it: its socket, its arena, and the answers that the socket has no room for.

    Those wait until it has read some: with a request that is never answered, its client would wait for ever.
    """

    def __init__(self, connection: socket.socket, poll: Any) -> None:
        """`poll`: where the connection is registered, and tells when there is room."""
        self.connection = connection
        self.arena: Optional[Arena] = None
        self._views: Dict[Tuple[int, int, int], Views] = {}
        self._poll = poll
        self._unsent: Deque[bytes] = collections.deque()

    def answer(self, ended: Ended) -> None:
        """Send an answer; to one that has gone, none."""
        if not self._unsent:
            try:
                self.connection.send(ended.pack())
                return
            except BlockingIOError:
                pass
            except OSError:  # it has gone, which is read next
                return
        self._unsent.append(ended.pack())
        if len(self._unsent) == 1:
            self._poll.modify(self.connection, select.EPOLLIN | select.EPOLLOUT)

    def room(self) -> None:
        """There is room for what waits."""
        if self.send():
            self._poll.modify(self.connection, select.EPOLLIN)

    def send(self) -> bool:
        """Send what waits, as far as there is room; whether nothing is left."""
        while self._unsent:
            try:
                self.connection.send(self._unsent[0])
            except BlockingIOError:
                return False
            except OSError:  # it has gone, which is read next
                self._unsent.clear()
                break
            self._unsent.popleft()
        return True

    def views(self, run: Run, plan: Layout) -> Views:
        """The inputs and outputs of a request; not copies. The same places of the arena are used again and again."""
        key = run.key, run.rows, run.offset
        found = self._views.get(key)
        if found is None:
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            found = self._views[key] = _arrays(self.arena, run, plan.inputs), _arrays(self.arena, run, plan.outputs)
        return found


class EngineProcess:
    """State of the process. `main` is the thread of inference; `control` that of the supervisor's messages."""

    def __init__(self, number: int, pci_address: Optional[str], runtime: str, control: socket.socket) -> None:
        self._page = Page(paths.page(runtime))
        self._number = number
        self.holding = Holding(pci_address, lambda key: self._page.begin(number, key), lambda: self._page.end(number))
        self._loaded: Dict[int, Loaded] = {}
        self._layouts: Dict[Tuple[int, int], Layout] = {}
        self._swaps = pci_address is not None
        self._usual: Dict[int, float] = {}  # seconds of an inference after one of the same version
        self._queue = Queue(lambda waiting: self._end(waiting, messages.LATE))
        self._control = control
        path = paths.engine(runtime, number)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        self._listener.listen(64)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._fronts: Dict[int, Front] = {}

    def main(self) -> None:
        """Run inferences for ever. Before one is chosen, all that has come is read; while there is nothing to do, the
        first that comes is run."""
        while True:
            self._listen(0.0)
            waiting = self._queue.take()
            if waiting is None:
                self._listen(_IDLE_SECONDS, 1)
                waiting = self._queue.take()
            if waiting is not None:
                self._serve(waiting)

    def control(self) -> None:
        """Obey the supervisor until it has gone, and end the process then."""
        with self._control.makefile("rb") as lines:
            for line in lines:
                try:
                    self._say(self._obey(json.loads(line.decode("utf-8"))))
                except BrokenPipeError:
                    break
        os._exit(0)

    def _obey(self, request: Dict[str, Any]) -> Dict[str, Any]:
        key = request["key"]
        if request["do"] == "unload":
            # The front processes know before; what still waits for it is answered first.
            while self._queue.count(key):
                time.sleep(_UNLOAD_SECONDS)
            self._loaded.pop(key, None)
            self._usual.pop(key, None)
            self.holding.unload(key)
            return {"unloaded": key}
        try:
            loaded = self.holding.load(key, request["name"], request["version"], request["folder"])
        except DeviceError as error:  # it is not the version's fault
            return {"broken": " ".join(str(error).split())[:1000]}
        except (TpuError, OSError, ValueError) as error:
            return {"failed": key, "reason": " ".join(str(error).split())[:1000]}
        except Exception as error:
            traceback.print_exc()
            return {"failed": key, "reason": "%s: %s" % (type(error).__name__, " ".join(str(error).split())[:1000])}
        self._loaded[key] = loaded
        return {"loaded": loaded, "runtime": self.holding.version, "path": self.holding.path}

    def _say(self, document: Dict[str, Any]) -> None:
        self._control.sendall(json.dumps(document, default=vars).encode("utf-8") + b"\n")

    def _listen(self, seconds: float, turns: int = _MOST_TURNS) -> None:
        """Read what has come, so that the queue knows of it. `turns`: messages of each front process."""
        for _ in range(turns):
            ready = self._poll.poll(seconds)
            for fd, events in ready:
                self._hear(fd, events)
            if not ready:
                break
            seconds = 0.0

    def _hear(self, fd: int, events: int) -> None:
        """Read one message of a front process, or let one in."""
        front = self._fronts.get(fd)
        if front is None:
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._fronts[connection.fileno()] = Front(connection, self._poll)
            self._poll.register(connection, select.EPOLLIN)
            return
        if events & select.EPOLLOUT:
            front.room()
        if not self._read(front):
            self._poll.unregister(front.connection)
            del self._fronts[fd]
            self._queue.remove(front)
            front.connection.close()

    def _read(self, front: Front) -> bool:
        """Take a message of a front process; False where it has gone."""
        try:
            if front.arena is None:
                front.arena = _received_arena(front.connection)
                return front.arena is not None
            data = front.connection.recv(messages.MOST)
        except BlockingIOError:
            return True
        except OSError:
            return False
        run = messages.read_run(data)
        if run is not None:
            self._accept(front, run)
        return run is not None

    def _accept(self, front: Front, run: Run) -> None:
        if run.kind == messages.CANCEL:
            for waiting in self._queue.remove(front, run.id):
                self._end(waiting, messages.LATE)
            return
        loaded = self._loaded.get(run.key)
        if loaded is None:
            front.answer(Ended(run.id, messages.UNKNOWN))
        elif not self._queue.put(run, front, _most_queued(loaded)):
            wait = self._queue.count(run.key) * loaded.seconds
            front.answer(Ended(run.id, messages.FULL, 0.0, wait))

    def _serve(self, first: Waiting) -> None:
        """Run a request, with others of the same version where the model takes several rows."""
        key = first.run.key
        loaded = self._loaded.get(key)
        if loaded is None:
            self._end(first, messages.UNKNOWN)
            return
        group = [first]
        if loaded.batches > 1 and first.run.rows:
            group += self._queue.take_more(key, first.run.rows, loaded.batches)
        try:
            self._run(loaded, group)
        except InferenceError as error:
            if len(group) == 1:
                self._end(first, messages.FAILED, str(error))
            else:
                self._serve_alone(loaded, group)
        except TpuError as error:
            self._broken(group, error)

    def _serve_alone(self, loaded: Loaded, group: Sequence[Waiting]) -> None:
        """Run each by itself: one of them fails, and alone."""
        for number, waiting in enumerate(group):
            try:
                self._run(loaded, [waiting])
            except InferenceError as error:
                self._end(waiting, messages.FAILED, str(error))
            except TpuError as error:
                self._broken(group[number:], error)
                return

    def _broken(self, group: Sequence[Waiting], error: TpuError) -> None:
        """Give the requests back, to go elsewhere, and tell the supervisor, which starts this process anew."""
        for waiting in group:
            self._end(waiting, messages.BROKEN, str(error))
        self._say({"broken": str(error)})

    def _run(self, loaded: Loaded, group: Sequence[Waiting]) -> None:
        began = time.monotonic()
        views = [each.sender.views(each.run, self._layout(loaded, each.run.rows)) for each in group]
        alone = len(group) == 1
        inputs = views[0][0] if alone else [np.concatenate(each) for each in zip(*(put for put, _ in views))]
        last = self._page.last(self._number)
        outputs = self.holding.run(loaded.key, inputs)
        seconds = time.monotonic() - began
        self._count(loaded, last, seconds)
        row = 0
        for waiting, (_, places) in zip(group, views):
            end = row + (waiting.run.rows or 1)
            for place, output in zip(places, outputs):
                part = output if alone else output[row:end]
                if part.shape != place.shape:
                    raise InferenceError("an output has the shape %s, not %s" % (part.shape, place.shape))
                place[...] = part
            row = end
        for waiting in group:
            waiting.sender.answer(Ended(waiting.run.id, messages.DONE, began - waiting.came, seconds, len(group)))

    def _count(self, loaded: Loaded, last: int, seconds: float) -> None:
        """Count an inference after one of the version `last`; on a TPU what it took more where that was another one."""
        usual = self._usual.get(loaded.key)
        if last == loaded.key:
            self._usual[loaded.key] = seconds if usual is None else usual + _USUAL * (seconds - usual)
        is_swap = self._swaps and last not in (0, LOADING, loaded.key)
        more = seconds - (loaded.seconds if usual is None else usual)
        self._page.add(self._number, seconds, more if is_swap else None)

    def _layout(self, loaded: Loaded, rows: int) -> Layout:
        found = self._layouts.get((loaded.key, rows))
        if found is None:
            found = self._layouts[loaded.key, rows] = layout(loaded, rows)
        return found

    def _end(self, waiting: Waiting, status: int, text: str = "") -> None:
        waiting.sender.answer(Ended(waiting.run.id, status, time.monotonic() - waiting.came, text=text))


def _most_queued(loaded: Loaded) -> int:
    """The most requests that wait for a version: of a slow one fewer, so that none waits long."""
    return max(_FEWEST_QUEUED, min(MOST_QUEUED, int(_QUEUE_SECONDS / max(loaded.seconds, 1e-6))))


def _arrays(arena: Optional[Arena], run: Run, places: Sequence[Tuple[int, Tuple[int, ...], str]]) -> List[Any]:
    return [arena.array(run.offset + at, shape, dtype) for at, shape, dtype in places] if arena is not None else []


def _received_arena(connection: socket.socket) -> Optional[Arena]:
    """The arena whose file comes with a front's first message; None where that has none."""
    fds = array.array("i")
    _, control, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: fds.itemsize])
    if not fds:
        return None
    try:
        return Arena(fds[0])
    finally:
        os.close(fds[0])


def main() -> None:
    """The program."""
    spec = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the supervisor drains, and then closes its socket
    control = socket.socket(fileno=spec["control"])
    process = EngineProcess(spec["number"], spec["pci_address"], spec["runtime"], control)
    threading.Thread(target=process.control, daemon=True).start()
    try:
        process.main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
