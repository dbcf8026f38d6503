"""Launch of a job's ranks: mpirun's command, run to its end."""

import subprocess
from typing import Any, List, Sequence

# After SIGTERM healthy ranks are gone within four seconds; mpirun itself may hang on a host that is frozen.
_STOP_SECONDS = 10.0


def command(hostfile: str, ranks: int, python: str, folder: str, attempt: int) -> List[str]:
    """mpirun for `ranks` workers and rank 0, the dispatcher, on the hosts of `hostfile`.

    `folder`: the job's, on the head's own disk.
    """
    return [
        *("mpirun", "--hostfile", hostfile, "--map-by", "slot", "--bind-to", "none", "--tag-output"),
        # NumPy's own threads would only take the processor from the other ranks: they spin when they start.
        *("-np", str(ranks + 1), "-x", "PYTHONPATH", "-x", "OPENBLAS_NUM_THREADS=1", "-wdir", "/"),
        *(python, "-m", "clusteradm.node.job.rank", folder, str(attempt)),
    ]


def run(words: Sequence[str], log: Any) -> int:
    """Run the command with its output in `log`; its exit status. An exception here ends the command first."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
