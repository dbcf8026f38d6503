"""Activations: the tensors that a stage of a pipeline hands on, in memory that two processes of a host share.

The memory is a ring of places for one input's tensors each. A packet socket with a name of this host alone tells in
which place the next ones are; the same way back it tells which places are free again. So no byte of a tensor goes
through the kernel, and the end of one process is the other's end of file.
"""

import json
import mmap
import os
import select
import socket
import struct
from array import array
from collections import deque
from contextlib import suppress
from typing import Any, Deque, List, NamedTuple, Optional, Sequence, Tuple

from clusteradm.node.job.memory import nameless_file
from clusteradm.node.spec.wire.decode import WireError, loads
from clusteradm.node.spec.wire.manifest import Tensor

PLACES = 16  # inputs on their way: as many as a rank decodes ahead
_RING_BYTES = 64 << 20  # of large tensors there are fewer places
_ALIGNED = 64
_MOST_PACKET = 1 << 16
_MOST_VALUES = 64  # of a header
MOST_REASON = 2000  # characters of an error
_MOST_SIDE = 1 << 31
_PLACE = struct.Struct("<I")
_PEER = struct.Struct("3i")  # struct ucred


class Gone(Exception):
    """The other process has ended, or its host; why that is, its own rank says."""


class Head(NamedTuple):
    """What is told of an input besides its tensors. `of`: the number of inputs in its chunk; the others are those of
    feeder.Decoded."""

    chunk: int
    of: int
    input: int
    error: Optional[str] = None
    clipped: float = 0.0
    size: Optional[Tuple[int, int]] = None


def pack_head(head: Head) -> bytes:
    """The head as bytes."""
    return json.dumps(list(head), separators=(",", ":")).encode("utf-8")


def read_head(data: bytes) -> Head:
    """A head of bytes that another host may have sent. Raises WireError."""
    given = loads(data, _MOST_VALUES)
    if type(given) is not list or len(given) != len(Head._fields):
        raise WireError("no head of an activation")
    chunk, of, index, error, clipped, size = given
    if any(type(number) is not int or number < 0 for number in (chunk, of, index)) or of < 1:
        raise WireError("no chunk and input of an activation")
    if error is not None and type(error) is not str:
        raise WireError("no error of an activation")
    if type(clipped) not in (int, float) or not 0 <= clipped <= 1:
        raise WireError("no share of an activation")
    if size is not None:
        if type(size) is not list or len(size) != 2 or not all(type(n) is int and 0 < n < _MOST_SIDE for n in size):
            raise WireError("no size of an activation")
        size = (size[0], size[1])
    return Head(chunk, of, index, None if error is None else error[:MOST_REASON], clipped, size)


class Layout:
    """Where the tensors of one input are in a place of the ring, and on their way between hosts: the numbers of all
    hosts that Edge TPUs are in have their bytes in the same order."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.names = [tensor.name for tensor in tensors]
        self._parts: List[Tuple[int, int, str, Tuple[int, ...]]] = []
        at = 0
        for tensor in tensors:
            count = 1
            for side in tensor.shape:
                count *= side
            self._parts.append((at, count, tensor.dtype, tensor.shape))
            bits = int(tensor.dtype.lstrip("abcdefghijklmnopqrstuvwxyz") or 8)
            at = -(-(at + count * bits // 8) // _ALIGNED) * _ALIGNED
        self.bytes = max(at, _ALIGNED)

    def views(self, memory: Any) -> List[Any]:
        """The tensors in this memory, which they share."""
        import numpy as np  # what passes tensors on to another host does without

        return [np.frombuffer(memory, kind, count, at).reshape(shape) for at, count, kind, shape in self._parts]

    def put(self, tensors: Sequence[Any], memory: Any) -> None:
        """Copy tensors there. Raises ValueError where they are of other shapes."""
        for view, tensor in zip(self.views(memory), tensors):
            if view.dtype != tensor.dtype or view.shape != tensor.shape:
                raise ValueError("a tensor of %s %s, not %s" % (tensor.dtype, tensor.shape, view.shape))
            view[...] = tensor


def address(link: str, rank: int, outward: bool = False) -> str:
    """The socket to which what is for this rank goes on its own host; `outward`: on that of the rank before it."""
    return "\0clusteradm/%s/%d%s" % (link, rank, "/out" if outward else "")


class Writer:
    """The end that hands on. It connects when it has the first."""

    def __init__(self, name: str, layout: Layout) -> None:
        self._name, self._layout = name, layout
        self._socket: Optional[socket.socket] = None
        self._free: Deque[int] = deque()

    def write(self, head: Head, tensors: Sequence[Any]) -> None:
        """Hand on one input; its tensors may be left out where it has an error. Waits for a place. Raises Gone."""
        place = self._place(wait=True)
        if tensors:
            self._layout.put(tensors, self._at(place))
        self._tell(place, pack_head(head))

    def pass_on(self, head: bytes, data: bytes) -> None:
        """The same of what came from another host, where `is_free`."""
        place = self._place(wait=False)
        self._at(place)[: len(data)] = data
        self._tell(place, head)

    def is_free(self) -> bool:
        """Whether there is a place. Raises Gone."""
        self._connect()
        while not self._free and _is_readable(self._socket):
            self._hear()
        return bool(self._free)

    def close(self) -> None:
        """Hand on no more."""
        if self._socket is not None:
            self._socket.close()

    def _place(self, wait: bool) -> int:
        self._connect()
        while not self._free:
            if not wait and not _is_readable(self._socket):
                raise Gone("no place is free")
            self._hear()
        return self._free.popleft()

    def _at(self, place: int) -> memoryview:
        return self._memory[place * self._layout.bytes : (place + 1) * self._layout.bytes]

    def _connect(self) -> None:
        if self._socket is not None:
            return
        places = max(2, min(PLACES, _RING_BYTES // self._layout.bytes))
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            made.connect(self._name)
            _check_peer(made)
            with nameless_file() as file:
                file.truncate(places * self._layout.bytes)
                self._memory = memoryview(mmap.mmap(file.fileno(), places * self._layout.bytes))
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [file.fileno()]))
                made.sendmsg([_PLACE.pack(places)], [rights])
        except OSError as error:
            made.close()
            raise Gone("the next stage does not listen: %s" % error) from None
        self._socket = made
        self._free.extend(range(places))

    def _hear(self) -> None:
        assert self._socket is not None  # noqa: S101 - _connect has made it
        try:
            data = self._socket.recv(_PLACE.size)
        except OSError as error:
            raise Gone("the next stage has ended: %s" % error) from None
        if len(data) != _PLACE.size:
            raise Gone("the next stage has ended")
        self._free.append(_PLACE.unpack(data)[0])

    def _tell(self, place: int, head: bytes) -> None:
        assert self._socket is not None  # noqa: S101 - _connect has made it
        try:
            self._socket.send(_PLACE.pack(place) + head)
        except OSError as error:
            raise Gone("the next stage has ended: %s" % error) from None


class Reader:
    """The end that takes. It listens from the beginning."""

    def __init__(self, name: str, layout: Layout) -> None:
        self._layout = layout
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.bind(name)
        self._listening.listen(1)
        self._socket: Optional[socket.socket] = None
        self._ended = False
        self._places = 0

    def is_ready(self) -> bool:
        """Whether `read` would not wait."""
        if self._socket is None and not _is_readable(self._listening):
            return False
        try:
            self._accept()
        except ConnectionError:  # of another user: the stage before is yet to come
            return False
        return _is_readable(self._socket)

    def read(self) -> Optional[Tuple[int, bytes, memoryview]]:
        """The next input, waited for: its place, which is to be freed, its head and the memory of its tensors; None
        after `end`. Raises Gone."""
        why = ""
        try:
            while self._socket is None:
                with suppress(ConnectionError):  # of another user
                    self._accept()
            assert self._socket is not None  # noqa: S101 - _accept has made it
            data = self._socket.recv(_MOST_PACKET)
        except OSError as error:
            data, why = b"", ": %s" % error
        if self._ended:
            self.close()
            return None
        if len(data) < _PLACE.size:
            raise Gone("the stage before has ended%s" % why)
        place = _PLACE.unpack_from(data)[0]
        if place >= self._places:
            raise WireError("place %d of %d" % (place, self._places))
        size = self._layout.bytes
        return place, data[_PLACE.size :], self._memory[place * size : (place + 1) * size]

    def free(self, place: int) -> None:
        """Say that a place may be used again."""
        assert self._socket is not None  # noqa: S101 - it was read from
        with suppress(OSError):  # that it has ended shows where it is read
            self._socket.send(_PLACE.pack(place))

    def end(self) -> None:
        """Have `read` return None, also in another thread."""
        self._ended = True
        for each in (self._listening, self._socket):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the name back."""
        for each in (self._listening, self._socket):
            if each is not None:
                each.close()

    def _accept(self) -> None:
        if self._socket is not None:
            return
        made, _ = self._listening.accept()
        _check_peer(made)
        data, rights, _, _ = made.recvmsg(_PLACE.size, socket.CMSG_SPACE(array("i").itemsize))
        descriptors = array("i")
        for _, kind, body in rights:
            if kind == socket.SCM_RIGHTS:
                descriptors.frombytes(body[: array("i").itemsize])
        if len(data) != _PLACE.size or not descriptors:
            raise WireError("no memory of activations")
        try:
            places = _PLACE.unpack(data)[0]
            # Less than that would end this process where it is read.
            if not 0 < places <= PLACES or os.fstat(descriptors[0]).st_size < places * self._layout.bytes:
                raise WireError("memory of activations of another size")
            self._memory = memoryview(mmap.mmap(descriptors[0], places * self._layout.bytes))
        finally:
            os.close(descriptors[0])
        self._socket, self._places = made, places


def _is_readable(connected: Optional[socket.socket]) -> bool:
    return connected is not None and bool(select.select([connected], [], [], 0)[0])


def _check_peer(connected: socket.socket) -> None:
    """Raise ConnectionError where the other process is not this user's: any can have taken the name."""
    given = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    if _PEER.unpack(given)[1] != os.getuid():
        connected.close()
        raise ConnectionError("a process of another user")
