"""Installation of python3 on a host that has none, by its shell: the node program needs it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.transport.become import Shells, as_root
from clusteradm.transport.password import Password
from clusteradm.transport.stream import Lines

_START_SECONDS = 60.0
# Longest pause between two lines of output; apt itself waits ten minutes for another package manager.
_SILENCE_SECONDS = 900.0
# Longest time for all of it: a host that never comes to an end must not hold up the run.
_MOST_SECONDS = 7200.0
_MOST_LINES = 100_000
_LAST_LINES = 5
_MOST_LINE = 1 << 16  # bytes
_MOST_TEXT = 300  # characters of a line that are passed on

# POSIX sh; $1: the admin's time (Unix seconds). It first corrects what would make apt fail and what the playbook cannot
# correct without Python: the clock (for https sources) and half-configured packages. python3-minimal has no json.
_SCRIPT = """
exec 2>&1 </dev/null
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
if ! command -v apt-get >/dev/null; then
    echo "there is no apt-get to install python3 with"
    exit 1
fi
off=$(($(date +%s) - $1))
if [ $off -gt 300 ] || [ $off -lt -300 ]; then
    echo "the clock is $off s off: setting it"
    date --set=@$1 >/dev/null
fi
dpkg --configure -a --force-confdef --force-confold
echo "refreshing the package lists"
apt-get -q update
apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 install python3
"""


class NoPython(HostFailed):
    """The host has no interpreter at ansible_python_interpreter, so the node program cannot start."""

    def __init__(self, where: str) -> None:
        super().__init__(
            "there is no Python at ansible_python_interpreter",
            where=where,
            next_step="clusteradm bootstrap installs python3; for another one, correct ansible_python_interpreter",
        )


def install_python(name: str, connection: Shells, password: Password | None, on_line: Callable[[str], None]) -> None:
    """Install python3 from the host's package sources. `on_line` gets each line of the output.

    Raises HostFailed with the last of these lines, and HostUnreachable if the connection is lost.
    """
    words = ["sh", "-c", _SCRIPT, "sh", str(int(time.time()))]
    stream = as_root(name, connection, words, password, _START_SECONDS)
    lines, said = Lines(stream, _MOST_LINE), deque[str](maxlen=_LAST_LINES)
    deadline = time.monotonic() + _MOST_SECONDS
    count = 0
    try:
        while (line := lines.read(min(_SILENCE_SECONDS, deadline - time.monotonic()))) is not None:
            count += 1
            if count > _MOST_LINES:
                raise HostFailed(f"the installation of python3 printed more than {_MOST_LINES} lines", where=name)
            if text := line.decode("utf-8", "replace").strip()[:_MOST_TEXT]:
                said.append(text)
                on_line(text)
        status = stream.exit_status()
    except TimeoutError:
        raise HostUnreachable("the installation of python3 does not come to an end", where=name) from None
    except OSError as error:
        raise HostUnreachable(f"connection lost: {error}", where=name) from error
    finally:
        stream.close()
    if status is None:
        raise HostUnreachable("connection lost", where=name)
    if status:
        raise HostFailed(
            "there is no python3, and it cannot be installed: " + "\n".join(said),
            where=name,
            next_step="check that the host can reach its package sources, then: clusteradm bootstrap",
        )
