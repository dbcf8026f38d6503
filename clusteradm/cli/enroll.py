"""Prepare new hosts for clusteradm: show all host keys in one table and accept them with one question, install the
admin's SSH key on every host (with that key, the key of mdt, or a password), and turn password logins off on
request.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from clusteradm import shipped
from clusteradm.cli import context, next_step, show
from clusteradm.cli.playbook_view import View
from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable
from clusteradm.fleet import enrolment
from clusteradm.inventory import Host
from clusteradm.playbook import PlaybookRun, Recap, Templates, load
from clusteradm.transport import Connections, Password
from clusteradm.transport.errors import Refused

EXAMPLES = """\
examples:
  clusteradm enroll                        every host of the inventory
  clusteradm enroll --ask-pass             hosts that still take a password
  clusteradm enroll -k --no-passwords      ... and turn passwords off there
  clusteradm enroll --limit coral-7        a host that was added
  clusteradm enroll --accept-new --json    without questions, for scripts

exit status:
  0    every host is enrolled
  2    wrong usage, no admin key, or a bad inventory
  3    some hosts failed
  4    some hosts are unreachable or refuse the login
  130  interrupted
"""


# Class of an error to the host's state; the first match counts.
_STATES = {Refused: "refused", HostUnreachable: "unreachable", ClusteradmError: "failed"}


@dataclass
class Row:
    """Result of one host. `through`: the login that worked; `passwords`: "on" or "off", with --no-passwords."""

    through: str | None = None
    error: ClusteradmError | None = None
    passwords: str | None = None

    @property
    def state(self) -> str:
        if self.error is not None:
            return next(word for kind, word in _STATES.items() if isinstance(self.error, kind))
        return "already enrolled" if self.through in (enrolment.ADMIN_KEY, enrolment.LOCAL) else "enrolled"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm enroll`."""
    parser.add_argument(
        "-k", "--ask-pass", action="store_true", help="ask for a login password, once, for the hosts that accept no key"
    )
    parser.add_argument(
        "--no-passwords", action="store_true", help="turn off password logins on the hosts that are enrolled"
    )
    context.add_connection_arguments(parser, playbook=True)


def run(args: argparse.Namespace) -> int:
    """Enrol the hosts, turn password logins off if requested, show the results."""
    cluster = context.open_cluster(args)
    hosts = cluster.select(args.limit) if args.limit else tuple(cluster.hosts.values())
    templates = Templates()
    playbook = load(shipped.PLAYBOOKS / "passwords.yml", cluster, templates) if args.no_passwords else None
    if args.ask_pass:
        context.require_terminal()
    interrupted = False
    with context.connect(args, cluster) as connections:
        outcome = enrolment.enrol(connections, hosts, _ask_password if args.ask_pass else None)
        rows = {host.name: Row(outcome.ok.get(host.name), outcome.failed.get(host.name)) for host in hosts}
        if not args.json:
            _show(args, rows)
        enrolled = [host for host in hosts if rows[host.name].error is None]
        if playbook is not None and enrolled:
            work = PlaybookRun(
                playbook, connections, limit=",".join(host.name for host in enrolled), templates=templates
            )
            console = show.stderr if args.json else show.stdout
            with View(console, diff=False, check=False, complete=lambda text: next_step.complete(text, args)) as view:
                recap = work.execute(view.event)
            interrupted = bool(recap.interrupted)
            view.recap(recap, next_step.again(args))
            _judge(connections, enrolled, recap, rows, next_step.again(args))
            if not args.json:
                _show(args, {host.name: rows[host.name] for host in enrolled}, "takes no passwords")
    if args.json:
        show.json_document("enroll", _document(args, rows))
    return 130 if interrupted else _status(rows)


def _ask_password(hosts: Sequence[Host]) -> Password:
    return context.ask_password(f"login password of {', '.join(host.name for host in hosts)}: ")


def _judge(connections: Connections, hosts: Sequence[Host], recap: Recap, rows: dict[str, Row], again: str) -> None:
    """Set the rows by the playbook's recap and, where it succeeded, by whether the host still offers passwords.

    `again`: the command that does it.
    """
    for host in hosts:
        counts = recap.hosts[host.name]
        if counts.unreachable or counts.failed or host.name in recap.interrupted:
            kind = HostUnreachable if counts.unreachable else HostFailed
            reason = counts.reason or "interrupted"
            if counts.stopped_at:
                reason = f'stopped at "{counts.stopped_at}": {reason}'
            rows[host.name].error = kind(
                f"password logins not turned off: {reason}",
                where=host.name,
                next_step=f"run it again: {again}",
            )
    # To this machine (ansible_connection: local) there is no SSH connection that could ask.
    through = [host for host in hosts if rows[host.name].error is None and not host.is_local]
    answers = connections.each(through, lambda host: enrolment.takes_passwords(connections, host))
    for name, error in answers.failed.items():
        rows[name].error = error
    for name, taken in answers.ok.items():
        rows[name].passwords = "on" if taken else "off"
        if taken:
            rows[name].error = HostFailed(
                "it still takes passwords", where=name, next_step="see the settings of its sshd: sudo sshd -T"
            )


_WORDS = {
    enrolment.ADMIN_KEY: "already enrolled",
    enrolment.LOCAL: "this machine: needs no SSH",
    enrolment.MDT: "key installed, logged in with mdt's key",
    enrolment.PASSWORD: "key installed, logged in with the password",
}


def _show(args: argparse.Namespace, rows: dict[str, Row], done: str | None = None) -> None:
    """Print one line per host. `done`: text for hosts without error, instead of how they were enrolled."""
    width = max((len(name) for name in rows), default=0)
    for name, row in rows.items():
        if row.error is None:
            show.stdout.print(f"{name:<{width}}  {done or _WORDS[str(row.through)]}")
        else:
            show.stdout.print(f"{name:<{width}}  {row.state}: {row.error.what}")
            if row.error.next_step:
                show.stdout.print(f"{'':<{width}}  {next_step.complete(row.error.next_step, args)}")


def _document(args: argparse.Namespace, rows: dict[str, Row]) -> dict[str, object]:
    return {
        "hosts": {
            name: {
                "state": row.state,
                "through": row.through,
                "passwords": row.passwords,
                "cause": row.error.what if row.error else None,
                "remedy": next_step.complete(row.error.next_step, args) or None if row.error else None,
            }
            for name, row in rows.items()
        }
    }


def _status(rows: dict[str, Row]) -> int:
    errors = [row.error for row in rows.values() if row.error is not None]
    if any(not isinstance(error, HostUnreachable) for error in errors):
        return 3
    return 4 if errors else 0
