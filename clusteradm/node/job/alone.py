"""Work of a rank without a cluster: `python3 -m clusteradm.node.job.alone SPEC`, started by jobs/alone.py.

Turns inputs into tensors, or runs a model over them on this machine's CPU, by the code of the ranks. SPEC is a JSON
file; lines of JSON on standard output tell the progress.
"""

import errno
import json
import os
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from clusteradm.node.edgetpu.engine import Engine, InferenceError
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.edgetpu.tasks import Reader
from clusteradm.node.edgetpu.tasks.numbers import real
from clusteradm.node.edgetpu.tensors import BadInput, Preprocessor
from clusteradm.node.job import pack
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import CLASSIFIER

_EVERY = 0.1  # seconds between two lines about the progress
_REAL = "iufb"  # kinds of numbers that are compared
_MOST_NAMED = 10  # inputs that cannot be used


class Alone:
    """The inputs of a pack, and what is done with them. `spec`: as jobs/alone.py writes it."""

    def __init__(self, spec: Dict[str, Any]) -> None:
        self._pack: str = spec["pack"]
        self._form = decode(InputForm, spec["input"])
        entries: List[pack.Entry] = []
        at = 0
        for name, size, error, member in spec["files"]:
            entries.append(pack.Entry(name, at, size, error, member))
            at += size
        self._lines = list(pack.index(self._pack, entries, pack.wanted(self._form)))
        self._said = 0.0

    def tensors(self, path: str, most: int) -> None:
        """Write the tensor of every input as a row of a .npy file; of none where one cannot be used."""
        shape = self._form.shape
        # The batch of 1 is the row's.
        size = int(np.prod(shape)) * np.dtype(self._form.dtype).itemsize * len(self._lines)
        if size > most:
            text = "the tensors of %d inputs take %d bytes, more than %d"
            raise BadInput(text % (len(self._lines), size, most))
        feed = Preprocessor(self._details(), self._form.feed)
        rows = _rows(path, np.dtype(self._form.dtype), (len(self._lines), *shape))
        refused: List[Tuple[str, str]] = []
        low, high, pixels = np.inf, -np.inf, False
        for number, (name, data, form) in enumerate(self._each()):
            try:
                row = feed.tensor(data, form)
                if row.dtype.kind == "f" and not np.isfinite(row).all():
                    raise BadInput("it has NaN or infinity")
            except BadInput as error:
                refused.append((name, str(error)))
                continue
            rows[number] = row
            pixels = pixels or form is None or form[0] == "uint8"
            low, high = min(low, float(row.min())), max(high, float(row.max()))
        rows.flush()
        about = {"low": low, "high": high, "pixels": pixels, "inputs": len(self._lines)}
        say(refused=refused[:_MOST_NAMED], count=len(refused), **about)

    def answers(self, model: str, path: str, folder: str, top: int, most: int) -> None:
        """Run a model over the inputs: one result a line in the file `path`, and the outputs as rows of .npy files.

        The rows are real numbers, dequantised, one file for each output, in `folder`: output-NUMBER.npy; of as many
        inputs, from the first on, as `most` bytes hold. The last line says how many those are (`kept`), and the numbers
        of the outputs that have a file.
        """
        with open(model, "rb") as file:
            engine = Engine(file.read(), None, os.cpu_count() or 1)
        feed = Preprocessor(engine.input, self._form.feed)
        answers = Reader(engine.outputs, engine.input, top=top)
        rows: Optional[Dict[int, Any]] = None
        kept = 0
        with open(path, "w", encoding="utf-8") as results:
            for number, (name, data, form) in enumerate(self._each()):
                try:
                    tensor = feed.tensor(data, form)
                    outputs = engine.invoke(tensor)
                except (BadInput, InferenceError) as error:
                    results.write(json.dumps({"input": name, "index": number, "error": str(error)}) + "\n")
                    continue
                found = answers.short(outputs) if answers.task == CLASSIFIER else {}
                line = {"input": name, "index": number, "top": found.get("top", [])}
                results.write(json.dumps(line) + "\n")
                if rows is None:
                    numeric = {
                        n: output for n, output in enumerate(outputs) if output.size and output.dtype.kind in _REAL
                    }
                    each = sum(output.size for output in numeric.values()) * np.dtype(np.float32).itemsize
                    kept = min(len(self._lines), most // each) if each else 0
                    rows = self._output_rows(folder, numeric, kept) if kept else {}
                for n, row in rows.items():
                    if number < kept and outputs[n].shape == row.shape[1:]:
                        row[number] = real(outputs[n], engine.outputs[n])
        say(inputs=len(self._lines), kept=kept, outputs=list(rows or {}))

    def _output_rows(self, folder: str, outputs: Dict[int, Any], count: int) -> Dict[int, Any]:
        """The file for the rows of each output."""
        return {
            number: _rows(os.path.join(folder, "output-%d.npy" % number), np.dtype(np.float32), (count, *output.shape))
            for number, output in outputs.items()
        }

    def _details(self) -> Dict[str, Any]:
        """What an interpreter would say of the input."""
        form = self._form
        return {"shape": form.shape, "dtype": form.dtype, "quantization": (form.scale or 0.0, form.zero_point)}

    def _each(self) -> Iterator[Tuple[str, bytes, Any]]:
        """(name, bytes, form) of each input; says how many are done."""
        with open(self._pack, "rb") as file:
            for number, line in enumerate(self._lines):
                now = time.monotonic()
                if now - self._said > _EVERY:
                    self._said = now
                    say(done=number, total=len(self._lines))
                file.seek(line["offset"])
                yield line["input"], file.read(line["size"]), line["form"]


def _rows(path: str, dtype: Any, shape: Tuple[int, ...]) -> Any:
    """A new .npy file as an array, with all its blocks on the disk.

    A disk that is full is an error here; later, a write to the mapped file would end the process by a signal.
    """
    folder = os.path.dirname(path)
    size = int(np.prod(shape)) * dtype.itemsize
    about = os.statvfs(folder)
    room = about.f_bavail * about.f_frsize
    try:
        if size > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rows = np.lib.format.open_memmap(path, "w+", dtype, shape)
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    except OSError as error:
        text = "no room for %d bytes in %s: set TMPDIR to a folder of a larger disk (%d bytes are free; %s)"
        raise BadInput(text % (size, folder, room, error.strerror)) from None
    return rows


def say(**about: Any) -> None:
    """One line for the process that started this one."""
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The program."""
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    try:
        work = Alone(spec)
        if spec["model"] is None:
            work.tensors(spec["output"], spec["most"])
        else:
            work.answers(spec["model"], spec["output"], spec["folder"], spec["top"], spec["most"])
    except (BadInput, TpuError, pack.PackError) as error:
        say(error=str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
