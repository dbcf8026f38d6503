"""Context in which a module runs: check mode, memory, programs; and the module's failure."""

import os
import select
import selectors
import signal
import subprocess
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple


class ModuleFailed(Exception):
    """A module's failure. `result`: its fields in Ansible's form, with `msg`."""

    def __init__(self, msg: str, **result: Any) -> None:
        Exception.__init__(self, msg)
        self.result = dict(result, msg=msg)


class Context:
    """The run, for a module. `check`: report, change nothing. `line` shows a line of output as progress.

    `memory`: shared by the tasks of a batch, until one of them changes anything. `tasks`: module and arguments of each.
    """

    def __init__(self, line: Callable[[str], None], tasks: Sequence[Tuple[str, Dict[str, Any]]] = ()) -> None:
        self.check = False
        self.diff = False
        self.memory: Dict[str, Any] = {}
        self.tasks = tasks
        self.line = line
        self._interrupted = False
        self._child: "Optional[subprocess.Popen[bytes]]" = None

    def interrupt(self) -> None:
        """End the program that a command task runs. A package installation is never cut off."""
        self._interrupted = True
        if self._child is not None and self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGTERM)

    def run(
        self,
        command: List[str],
        stdin: str = "",
        cwd: Optional[str] = None,
        interruptible: bool = False,
        environment: Optional[Dict[str, str]] = None,
    ) -> "Completed":
        """Run a program to its end, passing its output lines on as progress."""
        env = dict(os.environ, LC_ALL="C.UTF-8", **(environment or {}))
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        if interruptible:
            self._child = child
            if self._interrupted:  # after the start of the task, before that of its program
                self.interrupt()
        try:
            out, err = self._collect(child, stdin.encode("utf-8"))
        finally:
            self._child = None
        return Completed(child.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    def _collect(self, child: "subprocess.Popen[bytes]", stdin: bytes) -> Tuple[bytes, bytes]:
        """Both outputs until the program's end. Does not wait for a program it leaves behind with its outputs open."""
        outputs: Dict[Any, bytes] = {child.stdout: b"", child.stderr: b""}
        with selectors.DefaultSelector() as pipes:
            for output in outputs:
                pipes.register(output, selectors.EVENT_READ)
            if child.stdin is not None:
                pipes.register(child.stdin, selectors.EVENT_WRITE)
            while pipes.get_map():
                ready = pipes.select(1.0)
                if not ready and child.poll() is not None:
                    break
                for key, _ in ready:
                    pipe: Any = key.fileobj
                    if pipe is child.stdin:
                        stdin = self._feed(pipe, stdin)
                        more = bool(stdin)
                    else:
                        piece = os.read(pipe.fileno(), 1 << 16)
                        outputs[pipe] += piece
                        more = bool(piece)
                        if pipe is child.stdout and piece:
                            self.line(piece.decode("utf-8", "replace").strip().split("\n")[-1])
                    if not more:
                        pipes.unregister(pipe)
                        pipe.close()
        child.wait()
        for pipe in outputs:
            pipe.close()
        return outputs[child.stdout], outputs[child.stderr]

    @staticmethod
    def _feed(pipe: Any, stdin: bytes) -> bytes:
        """Write as much as the pipe takes without waiting. Returns the rest; nothing if the program reads no more."""
        try:
            return stdin[os.write(pipe.fileno(), stdin[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            return b""


class Completed:
    """A program's outputs and exit code. `rc` is negative if a signal ended it."""

    def __init__(self, rc: int, stdout: str, stderr: str) -> None:
        self.rc = rc
        self.stdout = stdout
        self.stderr = stderr

    def result(self) -> Dict[str, Any]:
        """The fields in which Ansible's modules report a program."""
        stdout, stderr = self.stdout.rstrip("\r\n"), self.stderr.rstrip("\r\n")
        return {
            "rc": self.rc,
            "stdout": stdout,
            "stderr": stderr,
            "stdout_lines": stdout.splitlines(),
            "stderr_lines": stderr.splitlines(),
        }

    def tail(self) -> str:
        """The last five lines of standard error, or else of standard output, for an error message."""
        return "\n".join((self.stderr.strip() or self.stdout.strip()).splitlines()[-5:])
