"""Verbs of `clusteradm serve` that set it up and end it: up, down, token."""

from __future__ import annotations

import argparse
import hashlib
import re
import secrets
from pathlib import Path

import yaml

from clusteradm.cli import context, next_step, show
from clusteradm.cli.parser import Commands, checked
from clusteradm.cli.serve_view import follow
from clusteradm.errors import UsageError
from clusteradm.fleet.drains import Drains
from clusteradm.inventory import Cluster
from clusteradm.inventory.kinds import MOST_CLIENT_MODELS, MOST_CLIENT_RATE
from clusteradm.models.manifest import check_name
from clusteradm.node.spec.wire.serving import DesiredState
from clusteradm.serving import Serving, certificate, hold_tpus, servers
from clusteradm.serving.tpus import check, choose
from clusteradm.transport import Connections

_UP = """\
examples:
  clusteradm serve up
  clusteradm serve up --check --diff       show what would change
  clusteradm serve up --tpus 1             one TPU a host; infer has the others
  clusteradm serve up --tpus coral-1:apex_0,coral-2:0001:01:00.0
  clusteradm serve up --tpus all

A second run changes nothing. With cluster_serve_tls in the inventory the
endpoint speaks TLS, with cluster_serve_clients it asks for a token.
"""
_DOWN = """\
examples:
  clusteradm serve down

What was deployed is kept: the next serve up serves it again.
"""
_CLIENT = """\
examples:
  clusteradm serve token camera-1 --models faces,people --rate 20

Prints a new token, and the lines for the inventory that let it in with the next
serve up. The token is kept nowhere: give it to the client.
"""
_SETTLE = 120.0  # seconds for servers that have just been started


def add_verbs(verbs: Commands) -> None:
    """Add the verbs and their arguments."""
    up = verbs.add("up", "set up a server on every board and HAProxy on the head; idempotent", examples=_UP)
    up.add_argument("--check", action="store_true", help="show what would change; change nothing")
    up.add_argument("--diff", action="store_true", help="show how files change, line by line")
    up.add_argument(
        "--tpus", metavar="WHICH", help="TPUs to hold: all, N of each host, or HOST:TPU,... (default: as is)"
    )
    context.add_connection_arguments(up, limit=False, playbook=True)
    up.set_defaults(run_serve=_up)
    down = verbs.add("down", "end it, and leave all TPUs to jobs", examples=_DOWN)
    context.add_connection_arguments(down, limit=False, playbook=True)
    down.set_defaults(run_serve=_down)
    token = verbs.add("token", "make a token for a client of the endpoint", examples=_CLIENT)
    token.add_argument("name", metavar="NAME", type=checked(_client), help="name of the client")
    token.add_argument("--models", metavar="NAME,...", type=checked(_models), help="only these (default: all)")
    token.add_argument("--rate", metavar="N", type=checked(_rate), help="at most N requests a second")
    context.add_json_argument(token)
    token.set_defaults(run_local=_token)


def _up(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    from clusteradm.cli.serve_playbook import run_playbook  # the engine, which other verbs do without

    if args.tpus is not None:
        check(args.tpus, [host.name for host in servers(cluster)])
    tls = str(cluster.setting("cluster_serve_tls") or "")
    if tls.startswith("/"):
        certificate.check(Path(tls))
    status = run_playbook(args, connections, cluster, "serving.yml", check=args.check, diff=args.diff)
    if status or args.check:
        return status
    tpus = None
    if args.tpus is not None:
        hosts = servers(cluster)
        connections.open(hosts)
        tpus = choose(connections, hosts, args.tpus)

    def held(state: DesiredState) -> DesiredState:
        return state if args.tpus is None else hold_tpus(state, tpus)

    serving = Serving(connections, cluster)
    first = serving.show().state.revision == 0
    desired = serving.change(held, always=first)
    Drains(connections).all()  # the servers are told what is out of service, now that there is a state to say it in
    status = follow(serving, serving.show().state, seconds=_SETTLE, quiet=args.json)
    if not args.json and not status:
        models = ", ".join(model.name for model in desired.state.models)
        where = f"http{'s' if cluster.setting('cluster_serve_tls') else ''}://{cluster.head.cluster_ip}:8000"
        if {board.host for board in desired.state.boards if not board.tpus} >= {host.name for host in servers(cluster)}:
            show.message(f"{where} serves nothing: all TPUs are left to jobs")
            show.message(f"  {next_step.command('serve up --tpus all', args)}")
            return status
        next_words = next_step.command("serve deploy NAME", args)
        show.message(f"{where} serves {models}" if models else f"{where} answers; serve a model: {next_words}")
    return status


def _down(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> int:
    from clusteradm.cli.serve_playbook import run_playbook  # the engine, which other verbs do without

    return run_playbook(args, connections, cluster, "serving_down.yml")


def _token(args: argparse.Namespace) -> int:
    token = secrets.token_urlsafe(32)
    entry: dict[str, object] = {"name": args.name, "sha256": hashlib.sha256(token.encode("ascii")).hexdigest()}
    if args.models:
        entry["models"] = args.models
    if args.rate:
        entry["rate"] = args.rate
    if args.json:
        show.json_document("serve token", {"token": token, "client": entry})
        return 0
    show.message("below all: vars: of the inventory, and then run clusteradm serve up:")
    show.message("  cluster_serve_clients:")
    for number, (name, value) in enumerate(entry.items()):
        show.message(f"    {'-' if number == 0 else ' '} {name}: {_yaml(value)}")
    show.message("the token, for the client's header Authorization: Bearer TOKEN:")
    show.stdout.print(token)
    return 0


def _client(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", text):
        raise UsageError(f"{text!r} can be no client's name: letters, digits, _ . and -, 60 at most")
    return text


def _models(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        check_name(name)
    if len(names) > MOST_CLIENT_MODELS:
        raise UsageError(
            f"{len(names)} models, and a client may have {MOST_CLIENT_MODELS}: without --models it has all"
        )
    return names


def _rate(text: str) -> int:
    rate = context.positive(text)
    if rate > MOST_CLIENT_RATE:
        raise UsageError(f"{text} is more than {MOST_CLIENT_RATE}, the highest rate")
    return rate


def _yaml(value: object) -> str:
    """On one line, and in quotes where YAML would read something else: a client may be called 7, on or -."""
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").rstrip("\n")
