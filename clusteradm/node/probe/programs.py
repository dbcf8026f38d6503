"""Programs with a time limit."""

import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from typing import Any, Dict, List, Optional, Sequence

from clusteradm.node import child
from clusteradm.node.probe import pace


def output(command: List[str], seconds: float = 10.0) -> Optional[str]:
    """A program's standard output; None if it is missing or does not end in time.

    `seconds`: its limit at a usual pace (pace.py). One that hangs in the kernel, where no signal reaches it, is left.
    """
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    try:
        said = process.communicate(timeout=pace.seconds(seconds))[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return None
    return said.decode("utf-8", "replace")


def run_all(commands: Sequence[Sequence[str]], seconds: float, lines: int = 20) -> List[Dict[str, Any]]:
    """Run the programs side by side until all have ended, or for `seconds`; those still running are killed.

    {"status" (below 0: a signal), "timeout", "seconds", "out": text, "err": the last `lines` lines} of each. One that
    is Python can import the node package.
    """
    begun = time.monotonic()
    env = child.environment()
    with ExitStack() as stack:
        running = []
        for command in commands:
            # Files, not pipes: a program with much output must not wait until others are read.
            out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd="/", env=env
            )
            running.append((process, out, err))
        ended = _wait([process for process, _, _ in running], begun + seconds)
        late = [process.poll() is None for process, _, _ in running]
        for process, _, _ in running:
            if process.poll() is None:
                process.kill()
        # A process that hangs in the kernel, where no signal reaches it, is left behind.
        _wait([process for process, _, _ in running], time.monotonic() + 1)
        return [
            {
                "status": process.returncode,
                "timeout": late[number],
                "seconds": round(ended.get(number, begun + seconds) - begun, 4),
                "out": _text(out),
                "err": _text(err).splitlines()[-lines:],
            }
            for number, (process, out, err) in enumerate(running)
        ]


def _wait(processes: Sequence["subprocess.Popen[bytes]"], end: float) -> Dict[int, float]:
    """Wait until all have ended, or until `end`; number of the process -> time at which it was seen to have ended."""
    seen: Dict[int, float] = {}
    while len(seen) < len(processes) and time.monotonic() < end:
        for number, process in enumerate(processes):
            if number not in seen and process.poll() is not None:
                seen[number] = time.monotonic()
        time.sleep(0.02)
    return seen


def _text(file: Any) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16)))
    return bytes(file.read()).decode("utf-8", "replace")
