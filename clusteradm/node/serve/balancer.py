"""HAProxy on the head: its maps for canaries, changed live and kept over a reload; what it says of the boards."""

import contextlib
import csv
import os
import socket
import time
from typing import Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Set

from clusteradm.node import atomic
from clusteradm.node.serve import buffers, places
from clusteradm.node.spec.wire.manifest import Manifest
from clusteradm.node.spec.wire.serving import MAPS, DesiredState
from clusteradm.node.texts import reason

# As templates/head/etc/haproxy/haproxy.cfg.j2 has them.
CONFIGURATION = "/etc/haproxy/haproxy.cfg"
SOCKET = "/run/haproxy/clusteradm.sock"
VERSIONS, PERCENTS = "canary-version.map", "canary-percent.map"
BACKENDS = ("boards", "boards_grpc")
_SECONDS = 5.0
_RELOADED_SECONDS = 20.0
_MOST_BYTES = 8 << 20
_MINE = "clusteradm"


class BalancerError(Exception):
    """HAProxy does not answer, or refuses a command."""


class Server(NamedTuple):
    """A board as HAProxy sees it. `sessions` and `rate`: requests now, and a second; since HAProxy's start: `requests`,
    `retries` after those that were lost, and `errors` of connections and answers."""

    status: str
    sessions: int = 0
    rate: int = 0
    requests: int = 0
    retries: int = 0
    errors: int = 0


def is_set_up() -> bool:
    """Whether this host has HAProxy with a configuration of clusteradm's."""
    return os.path.isdir(MAPS) and _configuration() is not None


class Models(NamedTuple):
    """What HAProxy is told of the models in the repository. `firsts`: as places.wanted has them."""

    manifests: Sequence[Manifest] = ()
    firsts: Mapping[str, str] = {}


def follow(state: DesiredState, models: Models = Models()) -> str:  # noqa: B008 - it is immutable
    """Have HAProxy divide requests as the state says, and hold each whole; why it does not, or "".

    The files are what HAProxy reads at its start and at a reload; the socket changes what it has now.
    """
    if not is_set_up():
        return ""
    wanted = canaries(state)
    configuration = _configuration() or ""
    known = places.boards(configuration)
    hosts = places.wanted(state, known, models.firsts)
    wanted[places.MODELS] = {name: places.name_of(each, known) for name, each in hosts.items()}
    try:
        is_new = places.set_backends(MAPS, sorted(set(hosts.values())), configuration)
        for name, entries in wanted.items():
            with atomic.replacing(os.path.join(MAPS, name), 0o644) as file:
                file.write("".join("%s %s\n" % item for item in sorted(entries.items())).encode("ascii"))
        backends = set(wanted[places.MODELS].values())
        # Also where a reload failed, or nobody has told it so far.
        if _widen(models.manifests) or is_new or (backends and backends - _backends()):
            trouble = places.reload() or _lacks(backends)
            if trouble:
                return "HAProxy does not send models' requests to their boards: %s" % trouble
        # The version first: no request is to be sent to a version that is not named yet. And with the percentage first
        # where a canary ends.
        for name in (VERSIONS, PERCENTS, places.MODELS):
            _add(os.path.join(MAPS, name), wanted[name])
        for name in (PERCENTS, VERSIONS, places.MODELS):
            _remove(os.path.join(MAPS, name), wanted[name])
    except (BalancerError, OSError) as error:
        return "HAProxy does not divide the requests as it should: %s" % reason(error)
    return ""


def _widen(manifests: Sequence[Manifest]) -> bool:
    """Give HAProxy larger buffers where an input of these does not fit them; whether it has to be reloaded for that."""
    text = buffers.widened(_configuration() or "", manifests)
    if text is None:
        return False
    with atomic.replacing(CONFIGURATION, 0o644) as file:
        file.write(text.encode("utf-8"))
    return True


def _backends() -> Set[str]:
    return set(command("show backend").split())


def _lacks(backends: Set[str]) -> str:
    """Wait for HAProxy to have these backends, after a reload; what it lacks, or ""."""
    end = time.monotonic() + _RELOADED_SECONDS
    while True:
        try:
            missing = backends - _backends()
        except BalancerError as error:  # one process takes the place of the other
            missing = {str(error)}
        if not missing or time.monotonic() > end:
            return ", ".join(sorted(missing))
        time.sleep(0.1)


def canaries(state: DesiredState) -> Dict[str, Dict[str, str]]:
    """The entries of each map, by model: the canary's version, and its requests among 10,000."""
    found: Dict[str, Dict[str, str]] = {VERSIONS: {}, PERCENTS: {}}
    for model in state.models:
        if model.canary is not None and model.canary.percent > 0:
            found[VERSIONS][model.name] = str(model.canary.version)
            found[PERCENTS][model.name] = str(round(model.canary.percent * 100))
    return found


def servers() -> Dict[str, Server]:
    """The boards, by host. Raises BalancerError."""
    found: Dict[str, Server] = {}
    lines = command("show stat").lstrip("# ").splitlines()
    for row in csv.DictReader(lines):
        name = row.get("svname") or ""
        if _is_of_boards(row.get("pxname") or "") and name not in ("FRONTEND", "BACKEND", ""):
            old = found.get(name) or Server(str(row.get("status"))[:50])
            found[name] = old._replace(
                sessions=old.sessions + _number(row.get("scur")),
                rate=old.rate + _number(row.get("rate")),
                requests=old.requests + _number(row.get("stot")),
                retries=old.retries + _number(row.get("wretr")) + _number(row.get("wredis")),
                errors=old.errors + _number(row.get("econ")) + _number(row.get("eresp")),
            )
    return found


def _is_of_boards(backend: str) -> bool:
    return backend in BACKENDS or backend.startswith(places.PREFIX)


def command(text: str) -> str:
    """The answer to a command on HAProxy's socket. Raises BalancerError."""
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(SOCKET)
            connection.sendall(text.encode("ascii") + b"\n")
            return b"".join(_pieces(connection)).decode("utf-8", "replace")
    except OSError as error:
        raise BalancerError(
            "%s: %s (systemctl status haproxy on the head)" % (SOCKET, error.strerror or error)
        ) from None


def _pieces(connection: socket.socket) -> Iterator[bytes]:
    total = 0
    while total < _MOST_BYTES:
        data = connection.recv(1 << 16)
        if not data:
            return
        total += len(data)
        yield data


def _add(path: str, entries: Dict[str, str]) -> None:
    there = _entries(path)
    for name, value in sorted(entries.items()):
        if there.get(name) != value:
            _do("%s map %s %s %s" % ("set" if name in there else "add", path, name, value))


def _remove(path: str, entries: Dict[str, str]) -> None:
    for name in sorted(set(_entries(path)) - set(entries)):
        _do("del map %s %s" % (path, name))


def _entries(path: str) -> Dict[str, str]:
    """What HAProxy has of a map: lines "0x55d ... KEY VALUE"."""
    words = [line.split() for line in command("show map %s" % path).splitlines()]
    return {each[1]: each[2] for each in words if len(each) == 3}


def _do(text: str) -> None:
    answer = command(text).strip()
    if answer:
        raise BalancerError("%r: %s" % (text, answer[:200]))


def _configuration() -> Optional[str]:
    try:
        with open(CONFIGURATION, encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return None
    return text if _MINE in text else None


def _number(text: Optional[str]) -> int:
    return int(text) if text is not None and text.isdigit() else 0
