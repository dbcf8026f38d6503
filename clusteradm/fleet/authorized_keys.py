"""One more line in the login user's authorized_keys, written by the host's own shell: there may be no Python yet."""

from __future__ import annotations

import shlex
import time

import paramiko

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.transport.connection import Connection
from clusteradm.transport.packets import open_session
from clusteradm.transport.stream import ChannelStream, Lines

_SECONDS = 30.0
_MOST_LINE = 1 << 16  # bytes

# POSIX sh, on standard input: the login's own shell may be any. $line: the line to add; $kind, $body: its first words.
# sshd reads no file that others may write. A link is kept, and what it leads to replaced. A line counts as there if
# it begins with the key: behind options, it may not let everyone in.
_SCRIPT = """
set -eu
umask 077
cd
mkdir -p .ssh
chmod 700 .ssh
file=$(readlink -f .ssh/authorized_keys)
touch "$file"
chmod 600 "$file"
while read -r first second rest || [ -n "$first" ]; do
    if [ "$first $second" = "$kind $body" ]; then printf '\\nthere\\n'; exit; fi
done < "$file"
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
cat "$file" > "$new"
if [ -n "$(tail -c 1 "$new")" ]; then echo >> "$new"; fi
printf '%s\\n' "$line" >> "$new"
sync "$new"
mv -f "$new" "$file"
sync .ssh
printf '\\nadded\\n'
"""


def install(connection: Connection, line: str) -> bool:
    """Add a line to the login user's authorized_keys, unless its key is there; whether it had to be added.

    The file is replaced by one rename; what else stands in it is kept. Raises HostFailed, HostUnreachable.
    """
    name = connection.inventory_host.name
    kind, body = line.split()[:2]
    values = {"line": line, "kind": kind, "body": body}
    script = "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items()) + _SCRIPT
    try:
        channel = open_session(connection.transport, "sh", _SECONDS)
        stream = ChannelStream(channel, lambda: connection.alive)
        try:
            stream.write(script.encode())
            channel.shutdown_write()
            lines = Lines(stream, _MOST_LINE)
            last = b""
            # A login may greet first, and not end its line.
            deadline = time.monotonic() + _SECONDS
            while (said := lines.read(deadline - time.monotonic())) is not None:
                last = said
            if last in (b"there", b"added") and stream.exit_status() == 0:
                return last == b"added"
            status, words = stream.exit_status(), stream.stderr_tail()
        finally:
            stream.close()
    except TimeoutError:
        raise HostUnreachable(f"no answer within {_SECONDS:.0f} s", where=name) from None
    except (OSError, EOFError, AttributeError, paramiko.SSHException) as error:
        raise HostUnreachable(f"connection lost: {error}", where=name) from error
    if status is None:
        raise HostUnreachable("connection lost", where=name)
    words = words or last.decode("utf-8", "replace") or f"status {status}"
    raise HostFailed(f"~/.ssh/authorized_keys could not be written: {words}", where=name)
