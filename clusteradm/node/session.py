"""Conversation with the admin side: JSON lines on standard input and output, and nothing else there.

A request is {"do": name, "id": number, ...}, its other fields as in node/spec/wire. Each reply carries the id; the last
one "done": true, or "error": text. What every start of the program answers is answered without the dataclasses of
node/spec/wire, whose import would cost a board a tenth of a second.
"""

import importlib
import json
import os
import re
import select
import sys
import time
from typing import Any, Callable, Dict, List, Match, Optional

from clusteradm.node import PROTOCOL, batch, blobs
from clusteradm.node.spec.wire import names
from clusteradm.node.state import boot_id

Reply = Callable[[Dict[str, Any]], None]

# Request -> module:function. A function takes the request's fields and a callback for replies before the last, and
# returns the fields of the last. Modules are imported at their first request: starting must be fast.
HANDLERS = {
    names.FACTS: "clusteradm.node.facts:run",
    names.BLOBS: "clusteradm.node.blobs:missing",
    names.PROBE: "clusteradm.node.probe.sections:run",
    names.CLUSTER_PROBE: "clusteradm.node.probe.cluster:run",
    names.DRAINS: "clusteradm.node.fleet.drains:change",
    names.TPU_RESET: "clusteradm.node.fleet.tpu_reset:run",
    names.PUSH_FILES: "clusteradm.node.fleet.push:run",
    names.FIND_FILES: "clusteradm.node.fleet.pull:find",
    names.READ_FILE: "clusteradm.node.fleet.pull:read",
    names.CHANGE_POWER: "clusteradm.node.fleet.power:run",
    names.LOCATE: "clusteradm.node.fleet.locate:run",
    names.REPOSITORY_ADD: "clusteradm.node.models.repository:add",
    names.REPOSITORY_VERIFY: "clusteradm.node.models.repository:verify",
    names.REPOSITORY_SHOW: "clusteradm.node.models.repository:show",
    names.REPOSITORY_LIST: "clusteradm.node.models.repository:list_versions",
    names.REPOSITORY_LABEL: "clusteradm.node.models.labels:label",
    names.REPOSITORY_ROLLBACK: "clusteradm.node.models.labels:roll_back",
    names.REPOSITORY_COPIES: "clusteradm.node.models.copies:keep",
    names.REPOSITORY_REMOVE: "clusteradm.node.models.removal:remove",
    names.SERVING_SHOW: "clusteradm.node.serve.desired:show",
    names.SERVING_STORE: "clusteradm.node.serve.desired:store",
    names.SERVING_STATUS: "clusteradm.node.serve.status:status",
    names.SERVING_LOG: "clusteradm.node.serve.log:log",
    names.MODEL_TIMES: "clusteradm.node.models.times:measure",
    names.JOB_CREATE: "clusteradm.node.job.making:create",
    names.JOB_PART: "clusteradm.node.job.making:add_part",
    names.JOB_PATHS: "clusteradm.node.job.making:add_paths",
    names.JOB_START: "clusteradm.node.job.making:start",
    names.JOB_DISCARD: "clusteradm.node.job.making:discard",
    names.JOB_FEED: "clusteradm.node.job.open:feed",
    names.JOB_COLLECT: "clusteradm.node.job.open:collect",
    names.JOB_END: "clusteradm.node.job.open:end",
    names.JOB_LIST: "clusteradm.node.job.control:list_jobs",
    names.JOB_SHOW: "clusteradm.node.job.control:show",
    names.JOB_FOLLOW: "clusteradm.node.job.control:follow",
    names.JOB_CANCEL: "clusteradm.node.job.control:cancel",
    names.JOB_RESUME: "clusteradm.node.job.control:resume",
    names.JOB_REMOVE: "clusteradm.node.job.control:remove",
    names.JOB_FETCH: "clusteradm.node.job.control:fetch",
}


# An escape of JSON text, as json.dumps writes it: two halves of a character, one half alone, or any other.
_ESCAPE = re.compile(r"\\(?:(ud[89ab]..\\ud[c-f]..)|(ud[89a-f]..)|.)")


def _whole(escape: Match[str]) -> str:
    """The escape; U+FFFD for half a character, which a name of a file may hold and no reply."""
    return "\\ufffd" if escape.group(2) else escape.group()


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
    """One conversation, until its input ends. Batches that it started continue without it."""

    def __init__(self, input_fd: int = 0, output_fd: int = 1) -> None:
        self._input = Input(input_fd)
        self._output = output_fd
        self._waiting: List[Dict[str, Any]] = []

    def run(self) -> None:
        """Answer until the input ends or the reader of the answers is gone."""
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
        # default=vars: a dataclass of node/spec/wire within a reply is the object of its fields.
        text = json.dumps(reply, separators=(",", ":"), default=vars)
        if "\\ud" in text:
            text = _ESCAPE.sub(_whole, text)
        data = text.encode("utf-8") + b"\n"
        while data:
            data = data[os.write(self._output, data) :]

    def _answer(self, request: Dict[str, Any]) -> None:
        number = request.get("id")
        do = str(request.get("do"))
        if do == names.CANCEL:
            batch.cancel(str(request.get("batch")))
            return

        def reply(fields: Dict[str, Any]) -> None:
            self._write(dict(fields, id=number))

        try:
            final = self._handle(do, request, reply)
        except BrokenPipeError:
            raise
        except Exception as error:  # any error is this request's, and the conversation continues
            text = str(error) if isinstance(error, (OSError, ValueError, batch.BatchError)) else ""
            if not text:
                import traceback  # only where something went wrong: starting must be fast

                text = traceback.format_exc().strip()
            self._write({"id": number, "done": True, "error": text})
            return
        self._write(dict(final, id=number, done=True))

    def _handle(self, do: str, request: Dict[str, Any], reply: Reply) -> Dict[str, Any]:
        if do == names.HELLO:
            return {
                "protocol": PROTOCOL,
                "python": "%d.%d.%d" % sys.version_info[:3],
                "time": time.time(),
                "boot": boot_id(),
            }
        if do == names.BLOB:
            size = int(request["size"])
            total = request.get("total")
            part = blobs.Part(int(request.get("offset", 0)), size, size if total is None else int(total))
            return blobs.receive(str(request["sha256"]), part, self._input.read)
        if do == names.APPLY:
            return self._stream(batch.start(request), 0, reply)
        if do == names.FOLLOW:
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
                log.check_runner()
                watched = [self._input.fd] + ([log.wakeup] if log.wakeup is not None else [])
                ready = select.select(watched, [], [], log.poll_seconds)[0]
                if log.wakeup in ready:
                    log.clear_wakeup()
                if self._input.fd in ready:
                    if not self._input.fill():
                        sys.exit(0)  # the admin has gone; the batch goes on
                    while self._input.has_line():
                        request = self._next()
                        if request is not None and request.get("do") == names.CANCEL:
                            batch.cancel(str(request.get("batch")))
                        elif request is not None:
                            self._waiting.append(request)
