"""The conversation with the admin side: JSON lines on standard input and output, and nothing else there.

A request is {"do": name, "id": number, ...}. Each reply carries the id; the last one "done": true, or "error": text.
"""

import importlib
import json
import os
import select
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from clusteradm.node import PROTOCOL, batch, blobs
from clusteradm.node.state import boot_id

Reply = Callable[[Dict[str, Any]], None]

# What this program can be asked for: name -> module:function. A function takes the request and a callback for replies
# before the last, and returns the fields of the last. Modules are imported when first asked for: starting must be fast.
HANDLERS = {
    "facts": "clusteradm.node.facts:run",
    "blobs": "clusteradm.node.blobs:missing",
    "drains": "clusteradm.node.fleet.drains:change",
    "tpu-reset": "clusteradm.node.fleet.tpu_reset:run",
    "probe": "clusteradm.node.probe:run",
    "cluster-probe": "clusteradm.node.probe.cluster:run",
    "repository-add": "clusteradm.node.models.repository:add",
    "repository-verify": "clusteradm.node.models.repository:verify",
    "repository-show": "clusteradm.node.models.repository:show",
    "repository-list": "clusteradm.node.models.repository:list_versions",
    "job-create": "clusteradm.node.job.control:create",
    "job-part": "clusteradm.node.job.control:add_part",
    "job-paths": "clusteradm.node.job.control:add_paths",
    "job-start": "clusteradm.node.job.control:start",
    "job-follow": "clusteradm.node.job.control:follow",
    "job-cancel": "clusteradm.node.job.control:cancel",
    "job-discard": "clusteradm.node.job.control:discard",
    "job-fetch": "clusteradm.node.job.control:fetch",
}


class Input:
    """Lines and counted bytes from a file descriptor, without reading ahead of what select() can see."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = bytearray()

    def has_line(self) -> bool:
        return b"\n" in self._buffer

    def fill(self) -> bool:
        """Take what is there (waiting if nothing is); False at the end."""
        data = os.read(self.fd, 1 << 16)
        self._buffer += data
        return bool(data)

    def line(self) -> Optional[bytes]:
        """The next line without its end, or None at the end of the input."""
        while not self.has_line():
            if not self.fill():
                return None
        end = self._buffer.index(b"\n")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def read(self, limit: int) -> bytes:
        """At least one byte and at most `limit`; b"" at the end."""
        if not self._buffer and not self.fill():
            return b""
        data = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        return data


class Session:
    """One conversation, until its input ends. Batches that it started go on without it."""

    def __init__(self, input_fd: int = 0, output_fd: int = 1) -> None:
        self._input = Input(input_fd)
        self._output = output_fd
        self._waiting: List[Dict[str, Any]] = []

    def run(self) -> None:
        """Answer until the input ends or nobody reads the answers any more."""
        try:
            while True:
                request = self._waiting.pop(0) if self._waiting else self._next()
                if request is None:
                    return
                self._answer(request)
        except BrokenPipeError:
            return

    def _next(self) -> Optional[Dict[str, Any]]:
        line = self._input.line()
        if line is None:
            return None
        request = json.loads(line.decode("utf-8"))
        if not isinstance(request, dict):
            raise ValueError("a request is a JSON object")
        return request

    def _write(self, reply: Dict[str, Any]) -> None:
        data = json.dumps(reply, separators=(",", ":")).encode("utf-8") + b"\n"
        while data:
            data = data[os.write(self._output, data) :]

    def _answer(self, request: Dict[str, Any]) -> None:
        number = request.get("id")
        do = str(request.get("do"))
        if do == "cancel":
            batch.cancel(str(request.get("batch")))
            return

        def reply(fields: Dict[str, Any]) -> None:
            self._write(dict(fields, id=number))

        try:
            final = self._handle(do, request, reply)
        except BrokenPipeError:
            raise
        except Exception as error:  # whatever it was, it belongs to this request
            text = str(error) if isinstance(error, (OSError, ValueError, batch.BatchError)) else ""
            if not text:
                import traceback  # only where something went wrong: starting must be fast

                text = traceback.format_exc().strip()
            self._write({"id": number, "done": True, "error": text})
            return
        self._write(dict(final, id=number, done=True))

    def _handle(self, do: str, request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
        if do == "hello":
            return {
                "protocol": PROTOCOL,
                "python": "%d.%d.%d" % sys.version_info[:3],
                "time": time.time(),
                "boot": boot_id(),
            }
        if do == "blob":
            return blobs.receive(str(request["sha256"]), int(request["size"]), self._input.read)
        if do == "apply":
            return self._stream(batch.start(request), 0, reply)
        if do == "follow":
            return self._stream(batch.attach(str(request["batch"])), int(request.get("after", 0)), reply)
        if do not in HANDLERS:
            raise ValueError("this node program cannot %r" % do)
        module, _, function = HANDLERS[do].partition(":")
        handler = getattr(importlib.import_module(module), function)
        return dict(handler(request, reply))

    def _stream(self, log: batch.Log, after: int, reply: Reply) -> Dict[str, Any]:
        """Pass on the batch's events from number `after` + 1 until its end; take a cancel meanwhile."""
        with log:
            while True:
                end = None
                for event in log.read():
                    if event["n"] > after:
                        reply({"event": event})
                    if event["kind"] == "end":
                        end = event
                if end is not None:
                    return {"batch": log.batch, "ok": end["status"] == "complete"}
                log.look_after()
                watched = [self._input.fd] + ([log.bell] if log.bell is not None else [])
                ready = select.select(watched, [], [], log.patience)[0]
                if log.bell in ready:
                    log.silence()
                if self._input.fd in ready:
                    if not self._input.fill():
                        sys.exit(0)  # the admin has gone; the batch goes on
                    while self._input.has_line():
                        request = self._next()
                        if request is not None and request.get("do") == "cancel":
                            batch.cancel(str(request.get("batch")))
                        elif request is not None:
                            self._waiting.append(request)
