"""Child processes of this machine that do heavy work: they write lines of JSON, and are ended with this process.

TensorFlow and the runtimes of models are imported there alone: a model may crash them, they write to standard error as
they like, and their memory is given back.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import clusteradm
from clusteradm.errors import ClusteradmError

_MOST_LINE = 1 << 20
_MOST_WORDS = 600  # characters of the last words of a child
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", "TF_ENABLE_ONEDNN_OPTS": "0"}


class ChildFailed(ClusteradmError):
    """A child ended without a result."""


class Child:
    """A module that is run by this Python with one argument."""

    def __init__(self, module: str, argument: str) -> None:
        folders = [str(Path(clusteradm.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._module = module
        process = subprocess.Popen(
            [sys.executable, "-m", module, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_QUIET, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
            start_new_session=True,  # Ctrl-C goes to this process alone, which then ends the child
        )
        if process.stdin is None or process.stdout is None:  # they are pipes
            raise ChildFailed(f"{module} has no pipes")
        self._process, self._input, self._output = process, process.stdin, process.stdout

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        """End the child and all that it has started."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for stream in (self._input, self._output, self._errors):
            with contextlib.suppress(OSError):
                stream.close()

    def tell(self, document: Any) -> None:
        """Send it a line."""
        with contextlib.suppress(BrokenPipeError):
            self._input.write(json.dumps(document).encode() + b"\n")
            self._input.flush()

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it says, until it ends. Raises ChildFailed where it ends otherwise than by status 0 or 2."""
        while line := self._output.readline(_MOST_LINE):
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict):
                    yield said
        status = self._process.wait()
        if status not in (0, 2):
            raise ChildFailed(self._how(status))

    def _how(self, status: int) -> str:
        self._errors.seek(0)
        words = self._errors.read()[-_MOST_WORDS:].decode("utf-8", "replace").strip().splitlines()
        name = self._module.rpartition(".")[2]
        if status == -signal.SIGKILL:
            return f"the process {name} was killed: is there enough memory? (dmesg says so)"
        if status < 0:
            return f"the process {name} ended by signal {-status}: {words[-1] if words else 'no last words'}"
        return f"the process {name} failed: {words[-1] if words else f'exit status {status}'}"
