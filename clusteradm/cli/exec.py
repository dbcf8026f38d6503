"""Run a shell command on hosts, all at once. Its output appears as it comes, each line with its host; or, with
--gather, when all have ended, the same output once for all hosts that gave it.

The words of COMMAND are joined by spaces, as ssh joins them, and run by `sh` on each host. Standard input goes to every
host, if it is a file or a pipe.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import threading
from collections.abc import Sequence

from clusteradm.cli import context, show
from clusteradm.cli.context import QUICK_SECONDS
from clusteradm.cli.show import counted
from clusteradm.errors import UsageError
from clusteradm.fleet import commands
from clusteradm.fleet.commands import Source
from clusteradm.inventory import Host
from clusteradm.inventory.ranges import fold
from clusteradm.transport import Outcome

EXAMPLES = """\
examples:
  clusteradm exec -- uptime
  clusteradm exec --limit 'coral-[1-4]' --sudo -- systemctl restart chrony
  clusteradm exec --gather -- uname -r           the same output once
  clusteradm exec --diff -- dpkg -l              what differs from most hosts
  clusteradm exec -- 'ls -l /dev/apex_*'
  clusteradm exec -- 'cat >notes.txt' <notes.txt

exit status: the largest of the command's on all hosts; a host on which it could
not be run, or did not end within --timeout, counts as 255; 130: interrupted
"""

_MOST_KEPT = 64 << 20  # bytes of one host's output that --gather, --diff and --json keep
LOST = 255  # ssh's exit status where the command could not be run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm exec`."""
    parser.add_argument("words", nargs="+", metavar="COMMAND", help="the command; after -- if it has options")
    parser.add_argument("--sudo", action="store_true", help="run it as root")
    parser.add_argument("--timeout", type=context.positive, metavar="S", help="give a host up after S seconds")
    parser.add_argument("-n", "--no-input", action="store_true", help="give the hosts no standard input")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-g", "--gather", action="store_true", help="print equal outputs once, when all have ended")
    form.add_argument("--diff", action="store_true", help="print the most frequent output, and how others differ")
    context.add_connection_arguments(parser, connect=QUICK_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Run the command; the largest exit status."""
    if args.json and (args.gather or args.diff):
        raise UsageError("--json has each host's output by itself: without --gather and --diff")
    cluster = context.open_cluster(args)
    hosts = context.select(args, cluster)
    output = _Output(hosts, live=not (args.json or args.gather or args.diff))
    source = None if args.no_input or sys.stdin.isatty() else Source(sys.stdin.buffer)
    with context.connect(args, cluster) as connections:
        try:
            outcome = commands.run(
                connections,
                hosts,
                " ".join(args.words),
                output.add,
                sudo=args.sudo,
                timeout=args.timeout,
                source=source,
                on_done=output.end,
            )
        except KeyboardInterrupt:
            show.message(f"not completed: {_names(output.running)}")
            raise
        finally:
            output.close()
    if args.json:
        show.json_document("exec", {"hosts": {host.name: _document(host, outcome, output) for host in hosts}})
    elif args.gather:
        _show_groups(output.groups(outcome))
    elif args.diff:
        _show_differences(output.groups(outcome))
    return _summary(outcome)


class _Output:
    """Output of all hosts: printed line by line, or kept. Lines come from one thread a host."""

    def __init__(self, hosts: Sequence[Host], live: bool) -> None:
        self._live = live
        self._width = max(len(host.name) for host in hosts)
        self._writing = threading.Lock()
        self._closed = False
        self._kept: dict[str, bytearray] = {host.name: bytearray() for host in hosts}
        self.running = [host.name for host in hosts]

    def add(self, host: Host, line: bytes) -> None:
        if self._live:
            text = f"{host.name + ':':{self._width + 1}} {show.line(line.decode('utf-8', 'replace'))}"
            with self._writing:
                if not self._closed:
                    show.data(text + "\n")
            return
        kept = self._kept[host.name]
        if len(kept) <= _MOST_KEPT:
            kept += line + b"\n"
            if len(kept) > _MOST_KEPT:
                kept += b"[more output than clusteradm keeps is left out]\n"

    def end(self, host: Host) -> None:
        self.running.remove(host.name)

    def close(self) -> None:
        """Print no more: a thread that is at it when the program ends (Ctrl-C) would crash the interpreter."""
        with self._writing:
            self._closed = True

    def text(self, name: str) -> str:
        """What a host has said."""
        return self._kept[name].decode("utf-8", "replace")

    def groups(self, outcome: Outcome[int]) -> list[tuple[list[str], str]]:
        """Hosts with the same output and exit status, with that output; the largest group first, and at the end what
        hosts have said on which the command did not end."""
        found: dict[tuple[bool, str, int], list[str]] = {}
        for name, kept in self._kept.items():
            if name in outcome.ok or kept:
                key = (name not in outcome.ok, self.text(name), outcome.ok.get(name, LOST))
                found.setdefault(key, []).append(name)
        ordered = sorted(found.items(), key=lambda group: (group[0][0], -len(group[1])))
        return [(names, text) for (_, text, _), names in ordered]


def _document(host: Host, outcome: Outcome[int], output: _Output) -> dict[str, object]:
    error = outcome.failed.get(host.name)
    return {
        "status": outcome.ok.get(host.name),
        "output": output.text(host.name),
        "error": str(error) if error else None,
    }


def _show_groups(groups: Sequence[tuple[list[str], str]]) -> None:
    for names, text in groups:
        _show_heading(names)
        show.data("".join(f"{show.line(line)}\n" for line in _lines(text)))


def _lines(text: str) -> list[str]:
    """Its lines as a host ends them: a form feed, for example, is none's end."""
    return text.removesuffix("\n").split("\n") if text else []


def _show_heading(names: Sequence[str]) -> None:
    title = f"{_names(names)} ({len(names)})" if len(names) > 1 else names[0]
    rule = "-" * min(len(title), 79)
    show.data(f"{rule}\n{show.line(title)}\n{rule}\n")


def _show_differences(groups: Sequence[tuple[list[str], str]]) -> None:
    """The output of most hosts, and how that of each other group differs from it."""
    _show_groups(groups[:1])
    for names, text in groups[1:]:
        _show_heading(names)
        before, after = _lines(groups[0][1]), _lines(text)
        changes = difflib.unified_diff(before, after, _names(groups[0][0]), _names(names), lineterm="", n=1)
        show.data("".join(f"{show.line(line)}\n" for line in changes) or "the same output; another exit status\n")


def _summary(outcome: Outcome[int]) -> int:
    """Say on which hosts it failed; the largest exit status."""
    by_status: dict[int, list[str]] = {}
    for name, status in outcome.ok.items():
        by_status.setdefault(status, []).append(name)
    for status, names in sorted(by_status.items()):
        if status:
            show.message(f"{_names(names)}: exit status {status}")
    for error in outcome.failed.values():
        show.message(f"error: {error}")
    if outcome.failed:
        failed = list(outcome.failed)
        show.message(f"not run, or not to its end, on {counted(len(failed), 'host')}: {_names(failed)}")
    return LOST if outcome.failed else max(by_status, default=0)


def _names(names: Sequence[str]) -> str:
    return ",".join(fold(names))
