"""Work of a rank without a cluster: `python3 -m clusteradm.node.job.alone SPEC`, started by jobs/alone.py.

Turns inputs into tensors, or runs a model over them on this machine's CPU, by the code of the ranks. SPEC is a JSON
file; lines of JSON on standard output tell the progress.
"""

import json
import os
import sys
import time
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

from clusteradm.node.edgetpu.engine import Engine, InferenceError
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.edgetpu.tensors import BadInput, Postprocessor, Preprocessor
from clusteradm.node.job import pack
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.job import InputForm

_EVERY = 0.1  # seconds between two lines about the progress
_MOST_NAMED = 10  # inputs that cannot be used


class Alone:
    """The inputs of a pack, and what is done with them. `spec`: as jobs/alone.py writes it."""

    def __init__(self, spec: Dict[str, Any]) -> None:
        self._pack: str = spec["pack"]
        self._form = decode(InputForm, spec["input"])
        entries: List[pack.Entry] = []
        at = 0
        for name, size, error in spec["files"]:
            entries.append(pack.Entry(name, at, size, error))
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
        rows = np.lib.format.open_memmap(path, "w+", np.dtype(self._form.dtype), (len(self._lines), *shape))
        refused: List[Tuple[str, str]] = []
        low, high, pixels = np.inf, -np.inf, False
        for number, (name, data, form) in enumerate(self._each()):
            try:
                row, _ = feed.feed(data, form)
                if row.dtype.kind == "f" and not np.isfinite(row).all():
                    raise BadInput("it has NaN or infinity")
            except BadInput as error:
                refused.append((name, str(error)))
                continue
            rows[number] = row
            pixels = pixels or form is None or np.dtype(form[0]) == np.uint8
            low, high = min(low, float(row.min())), max(high, float(row.max()))
        rows.flush()
        about = {"low": low, "high": high, "pixels": pixels, "inputs": len(self._lines)}
        say(refused=refused[:_MOST_NAMED], count=len(refused), **about)

    def answers(self, model: str, path: str, folder: str, top: int) -> None:
        """Run a model over the inputs: one result a line in the file `path`, and the outputs as rows of .npy files.

        The rows are real numbers, dequantised, one file for each output, in `folder`.
        """
        with open(model, "rb") as file:
            engine = Engine(file.read(), None)
        feed = Preprocessor(engine.input, self._form.feed)
        answers = Postprocessor(engine.outputs, top, folder)
        rows: List[Any] = []
        with open(path, "w", encoding="utf-8") as results:
            for number, (name, data, form) in enumerate(self._each()):
                try:
                    tensor, _ = feed.feed(data, form)
                    outputs = engine.invoke(tensor)
                except (BadInput, InferenceError) as error:
                    results.write(json.dumps({"input": name, "index": number, "error": str(error)}) + "\n")
                    continue
                found = answers.result(number, outputs) if len(outputs) == 1 else {}
                line = {"input": name, "index": number, "top": found.get("top", [])}
                results.write(json.dumps(line) + "\n")
                if not rows:
                    rows = [self._rows(folder, n, output) for n, output in enumerate(outputs)]
                for row, output, details in zip(rows, outputs, engine.outputs):
                    if row is not None and output.shape == row.shape[1:]:
                        row[number] = _real(output, details)
        say(inputs=len(self._lines))

    def _rows(self, folder: str, number: int, output: Any) -> Any:
        """The file for the rows of an output; None for one that is not of numbers."""
        if output.dtype.kind not in "iufb":
            return None
        path = os.path.join(folder, "output-%d.npy" % number)
        return np.lib.format.open_memmap(path, "w+", np.float32, (len(self._lines), *output.shape))

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


def _real(output: Any, details: Dict[str, Any]) -> Any:
    scale, zero = details["quantization"]
    if not scale or output.dtype.kind not in "iu":
        return output
    return (output.astype(np.float64) - zero) * scale


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
            work.answers(spec["model"], spec["output"], spec["folder"], spec["top"])
    except (BadInput, TpuError, pack.PackError) as error:
        say(error=str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
