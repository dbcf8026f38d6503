"""One simulated Edge TPU: `python -m clusteradm.lab.device SOCKET FOLDER [MILLISECONDS]`.

Runs outside the board that uses it. Runs the model on the CPU and returns the result after the time that the real chip
takes: 2.6 ms, the published time of MobileNet v2 on a Coral module, and after another model as long more as the real
one's parameters would take to the chip, which keeps those of one model. Exclusive like the hardware: while one process
has it open, the next is refused. FOLDER is /sys/class/apex/apex_N of the board, where owner and counters are kept; or
that of a USB Accelerator, which has neither, and at its first use becomes the device that has its firmware.

Protocol (the client is libedgetpu.c): a greeting of one byte, R (yours) or B (busy); then requests, each with one
reply. Messages are a header (op, model, length of what follows; little endian) and a body.
    L  the original model          -> K with the model's number, or E
    I  model; all inputs in order  -> O with all outputs in order
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

from clusteradm.lab import usb
from clusteradm.lab.apex import interrupt_counts
from clusteradm.lab.sysfs import put
from clusteradm.models.tflite.schema import CHIP_BYTES

HEADER = struct.Struct("<c3xIQ")
MILLISECONDS = 2.6
# Bytes of parameters a second. What does not fit the chip crosses at every inference: by the published times of a Dev
# Board, 343 ms for the 138 million parameters of VGG16 and 363 ms for the 144 million of VGG19.
PARAMETERS = 400e6
# Interval at which the counters in sysfs are updated, in seconds.
COUNTERS = 0.2
_PR_SET_TIMERSLACK = 29


class Model:
    """A loaded model, computed by a TFLite runtime on one CPU thread."""

    def __init__(self, content: bytes) -> None:
        # Imported with the first model: an idle TPU should cost the lab's machine next to nothing.
        import numpy
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._inputs = []
        offset = 0
        for detail in self._interpreter.get_input_details():
            count = int(numpy.prod(detail["shape"]))
            self._inputs.append((detail["index"], detail["dtype"], tuple(detail["shape"]), count, offset))
            offset += count * numpy.dtype(detail["dtype"]).itemsize
        self.input_bytes = offset
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]
        self._array: Any = numpy.frombuffer
        self.swap_seconds = min(len(content), CHIP_BYTES) / PARAMETERS

    def compute(self, body: memoryview) -> list[Any]:
        """Outputs, as arrays, for all inputs of the model in `body`, one after the other."""
        for index, kind, shape, count, offset in self._inputs:
            self._interpreter.set_tensor(index, self._array(body, kind, count, offset).reshape(shape))
        # The chip keeps no variables: the compiler unrolls a recurrent layer, from its initial state on.
        self._interpreter.reset_all_variables()
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


class Device:
    """The device's socket at `path`, its counters in `folder`, its time for an inference."""

    def __init__(self, path: Path, folder: Path, milliseconds: float) -> None:
        self._folder = folder
        self._usb = (folder / "idVendor").exists()
        self._seconds = milliseconds / 1000
        self._inferences = 0
        self._shown = 0.0
        self._owned = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        # Permission is checked by the mode of /dev/apex_N, which the library opens first.
        path.chmod(0o666)
        self._listener.listen(16)

    def run(self) -> None:
        """Serve one process after another; never returns."""
        while True:
            connection, _ = self._listener.accept()
            if not self._owned.acquire(blocking=False):
                with contextlib.suppress(OSError):
                    connection.send(b"B")
                connection.close()
                continue
            threading.Thread(target=self._own, args=(connection,), daemon=True).start()

    def _own(self, connection: socket.socket) -> None:
        try:
            self._show(owner=_pid_in_board(connection))
            connection.send(b"R")
            # Not settimeout(), which would cost a second system call at each message.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(COUNTERS * 1e6)))
            self._serve(connection)
        except (EOFError, OSError):
            pass  # the process has ended
        finally:
            connection.close()
            with contextlib.suppress(OSError):
                self._show(owner=0)
                self._count()
            self._owned.release()

    def _serve(self, connection: socket.socket) -> None:
        models: dict[int, Model] = {}
        last: Model | None = None  # whose parameters are on the chip
        buffer = bytearray(1 << 20)
        while True:
            got = self._first(connection, buffer)
            start = time.perf_counter()
            while got < HEADER.size:
                got += self._more(connection, memoryview(buffer)[got : HEADER.size])
            op, number, length = HEADER.unpack_from(buffer)
            if HEADER.size + length > len(buffer):
                buffer = buffer + bytearray(HEADER.size + length - len(buffer))
            view = memoryview(buffer)
            while got < HEADER.size + length:
                got += self._more(connection, view[got : HEADER.size + length])
            body = view[HEADER.size : HEADER.size + length]
            if op == b"L":
                self._load(connection, models, bytes(body))
                continue
            model = models.get(number)
            if op != b"I" or model is None or length != model.input_bytes:
                connection.sendall(HEADER.pack(b"E", number, 0))
                continue
            outputs = model.compute(body)
            answer = b"".join([HEADER.pack(b"O", number, sum(array.nbytes for array in outputs)), *outputs])
            self._inferences += 1
            if self._inferences == 1 or start - self._shown > COUNTERS:
                self._count()
            seconds = self._seconds + (model.swap_seconds if model is not last else 0.0)
            last = model
            left = seconds - (time.perf_counter() - start)
            if left > 0:
                time.sleep(left)
            connection.sendall(answer)

    def _first(self, connection: socket.socket, buffer: bytearray) -> int:
        """Number of bytes of the next message that were received; counters are updated while waiting."""
        while True:
            try:
                got = connection.recv_into(buffer)
            except BlockingIOError:
                self._count()
                continue
            if not got:
                raise EOFError
            return got

    def _more(self, connection: socket.socket, place: memoryview) -> int:
        while True:
            try:
                got = connection.recv_into(place)
            except BlockingIOError:
                continue
            if not got:
                raise EOFError
            return got

    def _load(self, connection: socket.socket, models: dict[int, Model], content: bytes) -> None:
        number = len(models) + 1
        try:
            models[number] = Model(content)
        except (RuntimeError, ValueError):
            connection.sendall(HEADER.pack(b"E", 0, 0))
        else:
            connection.sendall(HEADER.pack(b"K", number, 0))

    def _count(self) -> None:
        self._shown = time.perf_counter()
        if self._usb:
            return
        put(self._folder / "interrupt_counts", interrupt_counts(self._inferences))

    def _show(self, owner: int) -> None:
        if self._usb:
            usb.use(self._folder)
            return
        taken = int(owner > 0)
        put(self._folder / "is_device_owned", f"{taken}\n")
        put(self._folder / "write_open_count", f"{taken}\n")
        put(self._folder / "device_owner", f"{owner}\n")
        put(self._folder / "node_0_num_mapped_pages", f"{256 * taken}\n")


def _pid_in_board(connection: socket.socket) -> int:
    """Process id of the peer, in its board's namespace."""
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("NStgid:"):
            return int(line.split()[-1])
    return int(pid)


def main(argv: list[str]) -> None:
    # 50 µs of timer slack would be 2 % of an inference.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    milliseconds = float(argv[2]) if len(argv) > 2 else MILLISECONDS
    Device(Path(argv[0]), Path(argv[1]), milliseconds).run()


if __name__ == "__main__":
    main(sys.argv[1:])
