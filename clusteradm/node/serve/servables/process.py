"""Process of servables: `python3 -m clusteradm.node.serve.servables.process SPEC`: one for all tables, transforms and
steps of ensembles, and one for each version of a Python function, so that what ends it is that version's alone.

SPEC is JSON: the number of the process among the engines, the folder of the sockets, the folder of installed packages,
MiB of memory that it may take, whether it is of one version alone, the descriptor of the supervisor's socket, on which
each line is a JSON document. It has a thread for each front process, one for the supervisor, and the main one, which
does the work.
"""

import contextlib
import errno
import json
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from typing import Any, Dict, List, Optional, Tuple

from clusteradm.node.serve import messages, paths
from clusteradm.node.serve.messages import Run
from clusteradm.node.serve.page import Page
from clusteradm.node.serve.queueing import MOST_QUEUED, Queue, Waiting
from clusteradm.node.serve.servables import frames, loading, memory
from clusteradm.node.serve.servables.loading import Ready
from clusteradm.node.serve.servables.work import Arrays, BadInput, Defect
from clusteradm.node.spec.servables.problem import Problem

_UNLOAD_SECONDS = 0.02
_PIECE = 1 << 16
_STACK = 512 << 10  # bytes of a thread's, which are a part of the memory that the process may take
_SEND_SECONDS = 10  # for a front process to take an answer
_NO_MEMORY = "it needs more memory than its process may have"
_MOST_WAITING = 256 << 20  # bytes of the requests that wait


class Front:
    """A front process. `requests`: step and tensors of those that wait, by their numbers."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.requests: Dict[int, Tuple[Optional[int], Arrays, int]] = {}
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0))
        self._sending = threading.Lock()
        self._unsent: "queue.Queue[Optional[Any]]" = queue.Queue()
        threading.Thread(target=self._send, daemon=True).start()

    def answer(self, number: int, status: str, arrays: Optional[Arrays] = None, **more: Any) -> None:
        """Send an answer, when there is room."""
        self._unsent.put(frames.pack(dict(more, id=number, status=status), arrays or {}))

    def say(self, number: int, status: str, arrays: Optional[Arrays] = None, **more: Any) -> None:
        """Send an answer now: it has gone when this returns, and what is done next may end this process."""
        self._put(_packed(dict(more, id=number, status=status), arrays or {}))

    def end(self) -> None:
        """Send no more."""
        self._unsent.put(None)

    def _send(self) -> None:
        for pieces in iter(self._unsent.get, None):
            self._put(pieces)

    def _put(self, pieces: List[Any]) -> None:
        try:
            with self._sending:
                for piece in pieces:
                    self.connection.sendall(piece)
        except OSError as error:  # it has gone, or takes nothing any more: a frame that is not whole is the last
            if error.errno == errno.EBADF and self.connection.fileno() >= 0:
                sys.stderr.write("a function has closed this process's own descriptors\n")
                sys.stderr.flush()
                os._exit(1)
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)


class ServableProcess:
    """State of the process."""

    def __init__(self, spec: Dict[str, Any], control: socket.socket) -> None:
        self._number, self._packages, self._control = spec["number"], spec["packages"], control
        self._alone = spec["alone"]
        self._page = Page(paths.page(spec["runtime"]))
        self._ready: Dict[int, Ready] = {}
        self._queue = Queue(lambda waiting: self._end(waiting, frames.LATE))
        self._waiting_bytes = 0
        self._change = threading.Condition()
        self._orders: "queue.Queue[Dict[str, Any]]" = queue.Queue()
        path = paths.engine(spec["runtime"], self._number)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(64)

    def main(self) -> None:
        """Do what is asked for, for ever. Somebody's code is also loaded in this thread, as it may mind that; tables
        are not, while others are asked for."""
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._obey, daemon=True).start()
        while True:
            waiting = None
            with self._change:
                while self._orders.empty():
                    waiting = self._queue.take()
                    if waiting is not None:
                        asked = self._taken(waiting)
                        break
                    self._change.wait()
            if waiting is None:
                self._say(self._done(self._orders.get()))
            else:
                self._serve(waiting, *asked)

    def _taken(self, waiting: Waiting) -> Tuple[Optional[int], Arrays]:
        step, arrays, size = waiting.sender.requests.pop(waiting.run.id)
        self._waiting_bytes -= size
        return step, arrays

    def _obey(self) -> None:
        """Pass on the supervisor's orders until it has gone, and end the process then."""
        with self._control.makefile("rb") as lines:
            for line in lines:
                order = json.loads(line.decode("utf-8"))
                if order["do"] == "unload":
                    # The front processes know before; what still waits for it is answered first.
                    while self._waits(order["key"]):
                        time.sleep(_UNLOAD_SECONDS)
                if not self._alone:
                    self._say(self._done(order))
                    continue
                self._orders.put(order)
                with self._change:
                    self._change.notify()
        os._exit(0)

    def _waits(self, key: int) -> bool:
        with self._change:
            return bool(self._queue.count(key))

    def _done(self, order: Dict[str, Any]) -> Dict[str, Any]:
        key = order["key"]
        if order["do"] == "unload":
            self._ready.pop(key, None)
            return {"unloaded": key}
        try:
            ready = loading.load(key, order["name"], order["version"], order["folder"], self._packages)
        except (Problem, OSError) as error:
            if error.__cause__ is not None:
                traceback.print_exception(type(error.__cause__), error.__cause__, error.__cause__.__traceback__)
            return {"failed": key, "reason": " ".join(str(error).split())[:1000]}
        except Exception as error:
            traceback.print_exc()
            return {"failed": key, "reason": "%s: %s" % (type(error).__name__, " ".join(str(error).split())[:1000])}
        self._ready[key] = ready
        return {"loaded": ready.loaded}

    def _say(self, document: Dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(document, default=vars).encode("utf-8") + b"\n")

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: socket.socket) -> None:
        """Read what a front process sends until it has gone."""
        front = Front(connection)
        try:
            while True:
                document, arrays, size = _read(connection)
                if arrays is None:
                    front.answer(int(document["id"]), frames.DEFECT, text=_NO_MEMORY)
                    continue
                with self._change:
                    self._take(front, document, arrays, size)
                    self._change.notify()
        except (OSError, EOFError, ValueError, KeyError, TypeError, MemoryError):
            pass
        with self._change:
            for waiting in self._queue.remove(front):
                self._taken(waiting)
        front.end()
        connection.close()

    def _take(self, front: Front, document: Dict[str, Any], arrays: Arrays, size: int) -> None:
        number = int(document["id"])
        if document["do"] == frames.CANCEL:
            for waiting in self._queue.remove(front, number):
                self._end(waiting, frames.LATE)
            return
        key = int(document["key"])
        run = Run(messages.RUN, number, key, 0, 0, float(document["deadline"]), int(document["priority"]))
        if key not in self._ready:
            front.answer(number, frames.UNKNOWN)
        elif self._waiting_bytes + size > _MOST_WAITING or not self._queue.put(run, front, MOST_QUEUED):
            front.answer(number, frames.FULL)
        else:
            self._waiting_bytes += size
            front.requests[number] = (document.get("step"), arrays, size)

    def _serve(self, waiting: Waiting, step: Optional[int], arrays: Arrays) -> None:
        run, front = waiting.run, waiting.sender
        ready = self._ready.get(run.key)
        if ready is None:
            front.answer(run.id, frames.UNKNOWN)
            return
        front.say(run.id, frames.BEGUN)
        began = time.monotonic()
        outputs: Arrays = {}
        status, text = frames.DONE, ""
        self._page.begin(self._number, run.key)
        try:
            outputs = ready.work.run(step, arrays)
        except BadInput as error:
            status, text = frames.INVALID, str(error)
        except Defect as error:
            if error.__cause__ is not None:
                traceback.print_exception(type(error.__cause__), error.__cause__, error.__cause__.__traceback__)
            status, text = frames.DEFECT, str(error)
        except MemoryError:
            status, text = frames.DEFECT, _NO_MEMORY
        except Exception as error:
            traceback.print_exc()
            status, text = frames.DEFECT, "%s: %s" % (type(error).__name__, error)
        finally:
            self._page.end(self._number)
        more = {"text": text[:2000], "queued": began - waiting.came, "seconds": time.monotonic() - began}
        front.say(run.id, status, outputs, **more)

    def _end(self, waiting: Waiting, status: str) -> None:
        self._taken(waiting)
        waiting.sender.answer(waiting.run.id, status)


def _packed(document: Dict[str, Any], arrays: Arrays) -> List[Any]:
    """A frame that the other side takes, whatever the outputs are."""
    try:
        pieces = frames.pack(document, arrays)
        if sum(map(len, pieces[2:])) <= frames.MOST_BODY:
            return pieces
        text = "its outputs take more than %d bytes" % frames.MOST_BODY
        return frames.pack(dict(document, status=frames.INVALID, text=text), {})
    except (MemoryError, struct.error):
        return frames.pack(dict(document, status=frames.DEFECT, text=_NO_MEMORY), {})


def _read(connection: socket.socket) -> Tuple[Dict[str, Any], Optional[Arrays], int]:
    """A request; None for its tensors where there is no memory for them."""
    text_size, size = frames.sizes(bytes(_exactly(connection, frames.HEAD.size)))
    text = bytes(_exactly(connection, text_size))
    try:
        body = bytearray(size)
    except MemoryError:
        for at in range(0, size, _PIECE):
            _exactly(connection, min(_PIECE, size - at))
        return dict(json.loads(text.decode("utf-8"))), None, size
    _fill(connection, body)
    try:
        document, arrays = frames.unpack(text, body)
    except MemoryError:  # strings of a few bytes take much more as objects
        return dict(json.loads(text.decode("utf-8"))), None, size
    return document, arrays, size


def _exactly(connection: socket.socket, size: int) -> bytearray:
    """So many bytes. Raises EOFError."""
    data = bytearray(size)
    _fill(connection, data)
    return data


def _fill(connection: socket.socket, data: bytearray) -> None:
    view, at = memoryview(data), 0
    while at < len(data):
        got = connection.recv_into(view[at:])
        if not got:
            raise EOFError
        at += got


def main() -> None:
    """The program."""
    spec = json.loads(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor drains, and then closes its socket
    # Standard output is the server's access log, and what somebody's code prints is no line of that.
    os.dup2(2, 1)
    threading.stack_size(_STACK)
    process = ServableProcess(spec, socket.socket(fileno=spec["control"]))
    memory.limit(spec["memory"])
    try:
        process.main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
