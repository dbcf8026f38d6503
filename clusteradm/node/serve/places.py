"""Places of models in HAProxy: a backend for each set of hosts that has a model which is not on all of them.

placed.cfg, which HAProxy reads at its start and at a reload, has the backends; placed.map, which is changed live too,
says which model is with which. For requests that name no model, the map has the first one that a task would ask.
"""

import hashlib
import os
import re
import subprocess
from typing import Dict, List, Mapping, NamedTuple, Tuple

from clusteradm.node import atomic
from clusteradm.node.serve import placement
from clusteradm.node.spec.wire.serving import DesiredState

BACKENDS, MODELS = "placed.cfg", "placed.map"
# As haproxy.cfg has them in the backends of all boards.
_SERVER = re.compile(r"^    server (\S+) (\S+)( proto h2 track boards/\S+)?$", re.MULTILINE)
_OPTIONS = re.compile(r"^backend boards_grpc\n(?:    .*\n)*?    default-server (.+)$", re.MULTILINE)
PREFIX = "placed_"
_NAME = re.compile("^backend (%s[0-9a-f]{12})$" % PREFIX, re.MULTILINE)
_KEPT = 16  # backends that no model is with any more, for requests that are under way, and for when they are back
_RELOAD_SECONDS = 60.0
_BACKEND = """\
backend %(name)s
    balance leastconn
    option httpchk GET /clusteradm/balance
    http-check disable-on-404
    default-server %(options)s
%(servers)s
"""


class Board(NamedTuple):
    """A board, as haproxy.cfg has it: ADDRESS:PORT."""

    http: str
    grpc: str


def boards(configuration: str) -> Dict[str, Board]:
    """The boards of haproxy.cfg, by host."""
    found: Dict[str, Board] = {}
    for host, place, is_grpc in _SERVER.findall(configuration):
        known = found.get(host, Board("", ""))
        found[host] = known._replace(grpc=place) if is_grpc else known._replace(http=place)
    return {host: board for host, board in found.items() if board.http and board.grpc}


def wanted(state: DesiredState, known: Mapping[str, Board], firsts: Mapping[str, str]) -> Dict[str, Tuple[str, ...]]:
    """The hosts of each model that is not on all of them, and of each task whose first model is one (`firsts`)."""
    found = {}
    for model in state.models:
        placed = next((each for each in state.placement if each.name == model.name), None)
        hosts = (placed.balanced if placed is not None else ()) or placement.hosts_of(state, model.name)
        able = tuple(sorted(set(hosts) & set(known)))
        if able and set(able) != set(known):
            found[model.name] = able
    return {**found, **{"//" + task: found[name] for task, name in firsts.items() if name in found}}


def name_of(hosts: Tuple[str, ...], known: Mapping[str, Board]) -> str:
    """The name of the backend of some hosts: another one where a host has another address."""
    text = " ".join("%s=%s,%s" % (host, *known[host]) for host in hosts)
    return PREFIX + hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def _backend(hosts: Tuple[str, ...], known: Mapping[str, Board], options: str) -> str:
    name = name_of(hosts, known)
    http = ["    server %s %s track boards/%s" % (host, known[host].http, host) for host in hosts]
    grpc = ["    server %s %s proto h2 track boards/%s" % (host, known[host].grpc, host) for host in hosts]
    pair = [{"name": name, "servers": "\n".join(http)}, {"name": name + "_grpc", "servers": "\n".join(grpc)}]
    return "\n".join(_BACKEND % {**each, "options": options} for each in pair)


def sections(text: str) -> Dict[str, str]:
    """The pairs of backends in placed.cfg, by name."""
    starts = [(match.group(1), match.start()) for match in _NAME.finditer(text)]
    ends = [at for _, at in starts[1:]] + [len(text)]
    return {name: text[at:end].strip() + "\n" for (name, at), end in zip(starts, ends)}


def set_backends(folder: str, hosts: List[Tuple[str, ...]], configuration: str) -> bool:
    """Write the backends of these sets of hosts to placed.cfg, as haproxy.cfg has those of all; whether HAProxy has to
    be reloaded for them. Raises OSError."""
    known = boards(configuration)
    path = os.path.join(folder, BACKENDS)
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            there = sections(file.read(1 << 20))
    except FileNotFoundError:
        there = {}
    options = _OPTIONS.search(configuration)
    default = options.group(1) if options else "maxconn 64"
    needed = {name_of(each, known): _backend(each, known, default) for each in hosts}
    if all(there.get(name, "").strip() == text.strip() for name, text in needed.items()):
        return False
    # Those of before whose boards are still those of haproxy.cfg: others would not be understood.
    usable = {name: text for name, text in there.items() if name not in needed and _is_known(text, known)}
    kept = dict(list(usable.items())[-_KEPT:])
    with atomic.replacing(path, 0o644) as file:
        file.write("\n".join([*kept.values(), *needed.values()]).encode("ascii"))
    return True


def _is_known(text: str, known: Mapping[str, Board]) -> bool:
    tracked = re.findall(r" track boards/(\S+)$", text, re.MULTILINE)
    return bool(tracked) and all(host in known for host in tracked)


def reload() -> str:
    """Have HAProxy read its files anew; why it does not, or "". Nothing that it has begun is cut."""
    try:
        done = subprocess.run(
            ["systemctl", "reload", "haproxy"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_RELOAD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:300]
    return "" if done.returncode == 0 else " ".join(done.stdout.decode("utf-8", "replace").split())[:300] or "failed"
