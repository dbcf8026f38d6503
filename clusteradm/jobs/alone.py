"""Work of a rank on this machine, without a cluster: inputs as tensors, and a model's answers on the CPU.

By the ranks' own code, in a child process: what a model is calibrated with and compared by is what `infer` feeds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.jobs.inputs import LocalInputs, parts
from clusteradm.models.child import Child
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.result import Result

Progress = Callable[[int, int], None]
_MODULE = "clusteradm.node.job.alone"
# Bytes on the disk.
_MOST_TENSORS = 8 << 30
_MOST_OUTPUTS = 4 << 30  # of a model; those of later inputs are not kept


@dataclass(frozen=True)
class Tensors:
    """Tensors of inputs: a .npy file whose rows they are, their number, the smallest and the largest number in them.

    `pixels`: whether pixels were among them, which are fed by a rule.
    """

    path: Path
    count: int
    low: float
    high: float
    pixels: bool


@dataclass(frozen=True)
class Answers:
    """A model's answers: a result for each input, and the .npy files of its outputs, as real numbers.

    `outputs`: by the number of the output; one that is not of numbers has none. `kept`: the number of inputs, from the
    first on, whose outputs are in them.
    """

    results: tuple[Result, ...]
    outputs: Mapping[int, Path]
    kept: int


class Alone:
    """Inputs of this machine, packed as for a job, in a folder for files of this run."""

    def __init__(self, inputs: LocalInputs, folder: Path) -> None:
        """Raises UsageError where one cannot be read, or the folder has no room for them."""
        self._folder = folder
        self._pack = folder / "inputs.pack"
        failed: dict[str, str] = {}
        try:
            with self._pack.open("wb") as file:
                for part in parts(inputs.files):
                    file.write(part.data)
                    failed.update(part.failed)
        except OSError as error:
            raise UsageError(
                f"the {inputs.bytes:,} bytes of the inputs cannot be copied: {error.strerror}",
                where=str(folder),
                next_step="set TMPDIR to a folder of a larger disk",
            ) from error
        self._files = [(one.name, one.size, failed.get(one.name, one.error), one.member) for one in inputs.files]

    def tensors(self, form: InputForm, progress: Progress) -> Tensors:
        """The inputs as a model with this input takes them. Raises UsageError where one of them cannot be used."""
        path = self._folder / "tensors.npy"
        said = self._run(form, {"model": None, "output": str(path), "most": _MOST_TENSORS}, progress)
        if said["count"]:
            reasons = "\n  ".join(f"{name}: {why}" for name, why in said["refused"])
            more = (
                f"\n  and {said['count'] - len(said['refused'])} more" if said["count"] > len(said["refused"]) else ""
            )
            raise UsageError(
                f"{said['count']} of {said['inputs']} calibration inputs cannot be used:\n  {reasons}{more}",
                next_step="leave them out, or mend them: the ranges of all numbers in the model depend on each input",
            )
        if said["low"] == said["high"]:
            raise UsageError(
                f"all numbers of all calibration inputs are {said['low']:g}: they tell no range",
                next_step="give inputs that are like those of later",
            )
        return Tensors(path, int(said["inputs"]), float(said["low"]), float(said["high"]), bool(said["pixels"]))

    def answers(self, model: Path, form: InputForm, labels: tuple[str, ...], top: int, progress: Progress) -> Answers:
        """The answers of a model, on the CPU. Raises UsageError where its runtime cannot load it."""
        folder = self._folder / f"outputs-{model.stem}"
        folder.mkdir(exist_ok=True)
        path = self._folder / f"results-{model.stem}.jsonl"
        about = {"model": str(model), "output": str(path), "folder": str(folder), "top": top, "most": _MOST_OUTPUTS}
        said = self._run(form, about, progress)
        lines = path.read_text(encoding="utf-8").splitlines()
        results = tuple(_result(json.loads(line), labels) for line in lines)
        outputs = {int(number): folder / f"output-{number}.npy" for number in said["outputs"]}
        return Answers(results, outputs, int(said["kept"]))

    def _run(self, form: InputForm, about: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        spec = {"pack": str(self._pack), "files": self._files, "input": form, **about}
        path = self._folder / "spec.json"
        path.write_text(json.dumps(spec, default=vars), encoding="utf-8")
        last: dict[str, Any] = {}
        with Child(_MODULE, str(path)) as child:
            for said in child.lines():
                if "done" in said:
                    progress(int(said["done"]), int(said["total"]))
                last = said
        if "error" in last:
            raise UsageError(regular.readable(str(last["error"])))
        progress(int(last["inputs"]), int(last["inputs"]))
        return last


def _result(line: Mapping[str, Any], labels: tuple[str, ...]) -> Result:
    top = tuple(
        {"class": number, "label": labels[number] if number < len(labels) else None, "score": score}
        for number, score in line.get("top", ())
    )
    return Result(input=line["input"], index=line["index"], top=top, error=line.get("error"))
