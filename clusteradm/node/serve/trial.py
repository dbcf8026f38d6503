"""Trial of a version in a process of its own, before an engine that serves others is given it: a model may end whatever
loads it. `python3 -m clusteradm.node.serve.trial FOLDER tpu|cpu|servable [PACKAGES]`.

For a TPU it is loaded without its Edge TPU operation, so that no TPU is opened; for the CPU it is loaded and run, as a
servable of another kind is.
"""

import asyncio
import contextlib
import os
import sys
from typing import Optional

from clusteradm.node import child
from clusteradm.node.serve.process import environment, kill_all, killer
from clusteradm.node.spec.wire.manifest import MODEL

TPU, CPU, SERVABLE = "tpu", "cpu", "servable"
_SECONDS = 60.0


async def refusal(folder: str, target: str, packages: Optional[str] = None) -> Optional[str]:
    """Why the version ends, or hangs, whatever loads it; None where it does not. What an engine will say itself, as
    that it is no model, is not looked for. `packages`: of those that serve up has installed."""
    process = await asyncio.create_subprocess_exec(
        *child.command(sys.executable, "serve.trial", folder, target, *filter(None, [packages])),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    try:
        status = await asyncio.wait_for(process.wait(), _SECONDS)
    except asyncio.TimeoutError:
        return "its runtime did not load and run it in %.0f s" % _SECONDS
    finally:
        kill_all(process.pid)
    if status < 0:
        return "its runtime is ended by %s when it loads or runs it" % killer(status)
    return None


def main() -> None:
    """The program."""
    # The supervisor, which asks for trials, does without NumPy and the engine.
    from clusteradm.node.edgetpu import loading
    from clusteradm.node.edgetpu.library import TpuError
    from clusteradm.node.serve.holding import Holding

    folder, target = sys.argv[1:3]
    if target == SERVABLE:
        from clusteradm.node.serve.servables import loading as servables

        servables.tried(folder, *sys.argv[3:])
        return
    with contextlib.suppress(TpuError, OSError, ValueError):
        if target == TPU:
            loading.run(os.path.join(folder, MODEL), TPU)
        else:
            Holding(None).load(1, "trial", 1, folder)


if __name__ == "__main__":
    main()
