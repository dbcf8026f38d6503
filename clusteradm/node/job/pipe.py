"""Messages between a rank and its worker process: JSON lines over two pipes, with the methods of channel.Channel."""

import json
import os
import select
from typing import Any, List, Optional

from clusteradm.node.job.channel import STOP, Message, text

_READ = 1 << 16


class Pipe:
    """One end. `read`, `write`: descriptors. Where `write` does not block, poll() goes on with what send() began."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._in, self._out = b"", bytearray()
        self._messages: List[Message] = []
        self.closed = False  # by the other end; poll() then answers STOP, once what came before is taken

    def send(self, rank: int, tag: int, body: Any = None) -> None:
        """Send one message; `rank` is whom it is for in the end."""
        self._out += text([tag, body]).encode("utf-8") + b"\n"
        self._flush()

    def poll(self, wait: float = 0.0) -> Optional[Message]:
        """The next message, after `wait` seconds at most; None where there is none."""
        if not self._messages and not self.closed:
            ready, writable, _ = select.select([self._read], [self._write] if self._out else [], [], wait)
            if writable:
                self._flush()
            if ready:
                self._take()
        if self._messages:
            return self._messages.pop(0)
        return Message(0, STOP, None) if self.closed else None

    def receive(self) -> Message:
        """The next message, waited for; STOP at the end of what the other end says. For a thread of its own, beside
        one that sends, at an end where `write` blocks."""
        while not self._messages and not self.closed:
            self._take()
        return self._messages.pop(0) if self._messages else Message(0, STOP, None)

    def _take(self) -> None:
        data = os.read(self._read, _READ)
        self.closed = not data
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            tag, body = json.loads(line.decode("utf-8"))
            self._messages.append(Message(0, tag, body))

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: os.write(self._write, self._out)]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # its end shows where it is read
            self._out.clear()
