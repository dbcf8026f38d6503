"""Google's compiler for the Edge TPU, where it is installed: a program for x86-64 Debian."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clusteradm import atomic, regular
from clusteradm.errors import ClusteradmError, UsageError
from clusteradm.models import compiler_log
from clusteradm.models.compiler_log import Log, parse
from clusteradm.models.tflite.model import MOST_BYTES

PROGRAM = "edgetpu_compiler"
_SECONDS = 3600  # for one model; its own limit of 180 s is too short for large ones


def available() -> bool:
    """Whether it is on the PATH."""
    return shutil.which(PROGRAM) is not None


def command(*models: Path) -> str:
    """The command that compiles models, on a machine that has the compiler; what it makes is beside the first."""
    return shlex.join([PROGRAM, "-s", "-o", regular.readable(models[0].parent), *map(regular.readable, models)])


def compile_file(source: Path, target: Path) -> Log:
    """Compile `source` to `target`, atomically.

    Raises UsageError, with the reason in plain words, where the compiler refuses it, or `target` cannot be written.
    """
    return compile_together([source], [target])[0]


def compile_together(sources: Sequence[Path], targets: Sequence[Path]) -> list[Log]:
    """Compile `sources` to `targets`: several in one run share the chip's memory, and run on one TPU without a swap.

    No target is written unless all of them are compiled. Raises UsageError as compile_file does.
    """
    with tempfile.TemporaryDirectory(prefix="clusteradm-compile-") as folder:
        # The compiler names its outputs after its inputs.
        single = len(sources) == 1
        models = [Path(folder, f"model{'' if single else number}.tflite") for number in range(len(sources))]
        for source, model in zip(sources, models, strict=True):
            try:
                shutil.copyfile(source, model)
            except OSError as error:
                raise UsageError(
                    f"cannot copy the model to compile it: {error.strerror}",
                    where=regular.readable(source),
                    next_step="TMPDIR may name a folder of a larger disk",
                ) from error
        logs = parse(_run([PROGRAM, "-s", "-t", str(_SECONDS), "-o", folder, *map(str, models)]), PROGRAM)
        by_input = {log.input: log for log in logs}
        contents = []
        for source, model in zip(sources, models, strict=True):
            log = logs[0] if single else by_input.get(str(model), logs[-1])
            made = model.with_name(f"{model.stem}_edgetpu.tflite")
            if not log.compiled or not made.is_file():
                raise UsageError(
                    f"{PROGRAM} cannot compile it: {log.failure or 'it wrote no model'}",
                    where=regular.readable(source),
                    next_step=log.mend,
                )
            contents.append((log, regular.read(made, MOST_BYTES)))
    found = []
    for source, target, (log, content) in zip(sources, targets, contents, strict=True):
        try:
            atomic.write(target, content)
        except OSError as error:
            raise UsageError(
                f"cannot write the compiled model: {error.strerror}", where=regular.readable(target)
            ) from error
        # What it was called in the folder for this run, which is gone, is of no use.
        found.append(replace(log, input=regular.readable(source), output=regular.readable(target)))
    return found


def _run(argv: list[str]) -> str:
    """What a program prints. Ctrl-C ends it and what it has started: the compiler works in a child of its own."""
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            raise UsageError(f"cannot start {PROGRAM}: {error.strerror}", where=shutil.which(PROGRAM) or "") from error
        try:
            process.wait(_SECONDS + 60)
        except subprocess.TimeoutExpired:
            raise ClusteradmError(f"{PROGRAM} did not end within {_SECONDS + 60} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        return output.read(compiler_log.MOST_BYTES).decode("utf-8", "replace")
