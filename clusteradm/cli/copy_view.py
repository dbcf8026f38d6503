"""What push and pull show: a table of hosts, one document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from clusteradm.cli import show
from clusteradm.inventory import Host
from clusteradm.transport import Outcome


@contextmanager
def keeping(where: str) -> Iterator[None]:
    """On Ctrl-C, say that nothing is lost of what has come. `where`: it is kept."""
    try:
        yield
    except KeyboardInterrupt:
        show.message(f"what has come is kept {where}; the same command goes on where this one ended")
        raise


def table(hosts: Sequence[Host], counts: Mapping[str, tuple[int, int]]) -> None:
    """A line for each host: files that were written, and those that were there already."""
    rows = show.Table("host", "copied", "unchanged")
    for host in hosts:
        if host.name in counts:
            rows.add_row(host.name, *(f"{count:,}" for count in counts[host.name]))
    if counts:
        show.stdout.print(rows)


def document(command: str, found: Mapping[str, Any], outcome: Outcome[Any]) -> None:
    """The one document of a --json run."""
    failed = {name: {"error": str(error)} for name, error in outcome.failed.items()}
    show.json_document(command, {"hosts": {**found, **failed}})
