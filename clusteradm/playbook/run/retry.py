"""The retry file beside the inventory: the hosts that a run did not complete, for `--retry-failed`.

One host a line, as Ansible writes it: `ansible-playbook --limit @FILE` reads it too.
"""

from __future__ import annotations

from pathlib import Path

from clusteradm import atomic
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster
from clusteradm.playbook.run.event import Recap


class RetryFile:
    """The retry file of one playbook on one inventory."""

    def __init__(self, cluster: Cluster, playbook: Path) -> None:
        self._cluster = cluster
        inventory = cluster.named_path
        self.path = inventory.parent / f"{inventory.stem}.{playbook.stem}.retry"

    def hosts(self) -> tuple[str, ...]:
        """The hosts in the file. Raises UsageError if there is no file, or it names hosts not in the inventory."""
        try:
            names = tuple(self.path.read_text(encoding="utf-8").split())
        except FileNotFoundError:
            raise UsageError(
                f"there is nothing to retry: no {self.path}",
                next_step="the file is written when hosts fail; without --retry-failed the run is about all hosts",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.path} cannot be read: {error}") from None
        gone = [name for name in names if name not in self._cluster.hosts]
        if gone or not names:
            raise UsageError(
                f"{self.path} names {', '.join(gone)}, not in the inventory" if gone else f"{self.path} is empty",
                next_step="remove it, or name the hosts with --limit",
            )
        return names

    def keep(self, recap: Recap) -> tuple[str, ...]:
        """Write the hosts that the run did not complete, and return them; remove the file if there are none.

        Hosts that were in the file and not part of this run stay in it. Raises OSError.
        """
        before: tuple[str, ...] = ()
        if self.path.is_file():
            listed = self.path.read_text(encoding="utf-8", errors="replace").split()
            before = tuple(name for name in listed if name in self._cluster.hosts and name not in recap.hosts)
        failed = {name for name, host in recap.hosts.items() if host.stopped_at or host.failed or host.unreachable}
        failed |= {*recap.interrupted, *before}
        names = tuple(name for name in self._cluster.hosts if name in failed)
        if names:
            atomic.write(self.path, "".join(f"{name}\n" for name in names))
        else:
            self.path.unlink(missing_ok=True)
        return names
