"""A probe's work as the cluster user, with a time limit: what hangs, crashes or fails is an answer like any other."""

import os
import pwd
import subprocess
import tempfile
import time
from contextlib import ExitStack
from typing import Any, Callable, Dict, List, Sequence

from clusteradm.node.account import AccountError, AccountTimeout, as_user


def attempt(user: str, seconds: float, work: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """The work's result with "ok" (True, unless it says otherwise) and "seconds"; or "ok": False and "error".

    "timeout": True where it did not end in time.
    """
    begun = time.monotonic()
    try:
        result = dict(as_user(user, work, seconds))
    except AccountTimeout as error:
        return {"ok": False, "error": str(error), "timeout": True}
    except AccountError as error:
        return {"ok": False, "error": str(error)}
    result.setdefault("ok", True)
    result["seconds"] = round(time.monotonic() - begun, 4)
    return result


def is_root(user: str) -> bool:
    """Whether that is a name of root, whom the apex driver lets open even a TPU that another process owns."""
    try:
        return pwd.getpwnam(user).pw_uid == 0
    except KeyError:
        return False


def together(commands: Sequence[Sequence[str]], seconds: float, lines: int = 20) -> List[Dict[str, Any]]:
    """Run the programs side by side until all have ended, or for `seconds`; what is left then is killed.

    Each one's {"status" (below 0: a signal), "timeout", "seconds", "out": text, "err": its last `lines` lines}.
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        running = []
        for command in commands:
            # Files, not pipes: a program that talks much must not wait for one that is read before it.
            out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd="/")
            running.append((process, out, err))
        ended = _wait([process for process, _, _ in running], begun + seconds)
        late = [process.poll() is None for process, _, _ in running]
        for process, _, _ in running:
            if process.poll() is None:
                process.kill()
        # What hangs in the kernel, where no signal reaches it, is left behind.
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
    """Until all have ended, or the time has come; returns when each was seen to have ended."""
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
