"""Completion of a command line in a shell: what its next word may be, from the parsers, the inventory and the head.

A shell's script sets _ARGCOMPLETE and runs the program; see argcomplete's documentation. What the head says is kept for
half a minute, and is not waited for longer than a person waits for a key.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.completers import BaseCompleter, DirectoriesCompleter, FilesCompleter

from clusteradm.cli import commands, context
from clusteradm.cli.parser import Parser
from clusteradm.errors import ClusteradmError
from clusteradm.inventory import Cluster, Host, load

_KEPT_SECONDS = 30.0
_CONNECT_SECONDS = 3
_MOST_SECONDS = 6  # then the shell goes on without an answer

Completer = Callable[..., Iterable[str]]


def answer(line: str, point: int) -> None:
    """Write the completions of the words of `line` up to `point`, as the script of the shell wants them, and exit."""
    signal.alarm(_MOST_SECONDS)  # its default action ends the program
    Parser.lenient = True
    words = line[:point].split()[1:]
    parser = commands.parser(words)
    prepare(parser)
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=_nothing)


def prepare(parser: Parser) -> None:
    """Tell argcomplete the completer of each argument of a parser and of those below it."""
    for action in parser._actions:
        if action.nargs != 0 and not action.choices:
            action.completer = completer_of(parser.prog, action)  # type: ignore[attr-defined]
    for child in parser.children.values():
        prepare(child)


def completer_of(program: str, action: argparse.Action) -> Completer:
    """The completer of an argument, by its metavar, which says what it is. Raises KeyError for an unknown one."""
    metavar = str(action.metavar or action.dest.upper())
    if (program.split()[-1], metavar) == ("help", "COMMAND"):
        return _commands
    if metavar == "NAME" and program.split()[1] in ("model", "deploy-model") and action.dest == "name":
        return _models
    if metavar == "HOST" and program.endswith("inventory init"):
        return _nothing
    return _COMPLETERS[metavar]


class _Nothing(BaseCompleter):
    """What nobody can know before it is typed."""

    def __call__(self, **about: Any) -> list[str]:
        return []


_nothing = _Nothing()


def _commands(prefix: str, parsed_args: argparse.Namespace, **about: Any) -> Iterable[str]:
    words = getattr(parsed_args, "words", None) or []
    if not words:
        return list(commands.COMMANDS)
    return list(commands.parser(words).children.get(words[0], Parser()).children) if len(words) == 1 else ()


def _hosts(parsed_args: argparse.Namespace, **about: Any) -> Iterable[str]:
    cluster = _cluster(parsed_args)
    return list(cluster.hosts) if cluster else ()


def _pattern(prefix: str, parsed_args: argparse.Namespace, **about: Any) -> Iterable[str]:
    """Hosts and groups, after what is there already: "w1,he" may become "w1,head"."""
    cluster = _cluster(parsed_args)
    before = prefix[: max(map(prefix.rfind, ",:!&")) + 1]
    return sorted(before + name for name in {*cluster.hosts, *cluster.groups, "all"}) if cluster else ()


def _models(parsed_args: argparse.Namespace, **about: Any) -> Iterable[str]:
    return [name for name in _of_head(parsed_args)["models"] if ":" not in name and "@" not in name]


def _references(parsed_args: argparse.Namespace, **about: Any) -> Iterable[str]:
    return _of_head(parsed_args)["models"]


def _numbered(parsed_args: argparse.Namespace, **about: Any) -> Iterable[str]:
    return [name for name in _of_head(parsed_args)["models"] if "@" not in name]


def _versions(parsed_args: argparse.Namespace, **about: Any) -> Iterable[str]:
    model = f"{_typed_model(parsed_args)}:"
    return [name.removeprefix(model) for name in _of_head(parsed_args)["models"] if name.startswith(model)]


def _labels(parsed_args: argparse.Namespace, **about: Any) -> Iterable[str]:
    model = f"{_typed_model(parsed_args)}@"
    return [name.removeprefix(model) for name in _of_head(parsed_args)["models"] if name.startswith(model)]


def _typed_model(parsed_args: argparse.Namespace) -> str:
    """The model that stands before on the line: `model` has it as its name, `serve` as its model."""
    return str(getattr(parsed_args, "name", None) or getattr(parsed_args, "model", None) or "")


def _jobs(parsed_args: argparse.Namespace, **about: Any) -> Iterable[str]:
    return _of_head(parsed_args)["jobs"]


_files = FilesCompleter()
_folders = DirectoriesCompleter()
# By metavar; a test has every one of the parsers looked up here.
_COMPLETERS: dict[str, Completer] = {
    **dict.fromkeys(("FILE", "PATH", "INVENTORY", "SRC", "INPUTS", "SOURCE", "MODEL.tflite", "LOG"), _files),
    **dict.fromkeys(("DIR", "FOLDER"), _folders),
    **dict.fromkeys(("HOST", "HOST[:TPU]", "HOST:TPU"), _hosts),
    "PATTERN": _pattern,
    "JOB": _jobs,
    "MODEL": _models,
    **dict.fromkeys(("NAME[:VERSION|@LABEL]", "MODEL[:VERSION|@LABEL]"), _references),
    "NAME[:VERSION]": _numbered,
    "VERSION": _versions,
    "LABEL": _labels,
    # Numbers, names that are new, and what is on the hosts.
    **dict.fromkeys(("N", "S", "K", "M", "T", "MIB", "SIZE", "HEX", "RANGE", "NETWORK", "ADDRESS:PORT"), _nothing),
    **dict.fromkeys(("HZ", "IMAGE", "P", "WHICH", "NAME,...", "N,..."), _nothing),
    **dict.fromkeys(("TEXT", "NAME", "USER", "TAGS", "ADDRESS", "RELEASE,...", "TOOL,...", "BOARD"), _nothing),
    **dict.fromkeys(("DEST", "REMOTE", "COMMAND", "-- COMMAND"), _nothing),
}


def _cluster(args: argparse.Namespace) -> Cluster | None:
    """The inventory of the words so far; None where there is none that can be read."""
    with contextlib.suppress(ClusteradmError, OSError):
        return load(context.inventory_path(_options(args)))
    return None


def _options(args: argparse.Namespace) -> argparse.Namespace:
    """Options of a connection that asks nothing and accepts nothing."""
    return argparse.Namespace(
        inventory=getattr(args, "inventory", None),
        known_hosts=getattr(args, "known_hosts", None),
        ask_become_pass=False,
        accept_new=False,
        forks=1,
        connect_timeout=_CONNECT_SECONDS,
        away_timeout=_CONNECT_SECONDS,
        task_timeout=_CONNECT_SECONDS,
        typed=[],
    )


def _of_head(args: argparse.Namespace) -> dict[str, list[str]]:
    """The models with their versions and labels, and the jobs: as the head says, or said a moment ago."""
    nothing: dict[str, list[str]] = {"models": [], "jobs": []}
    cluster = _cluster(args)
    if cluster is None:
        return nothing
    kept = _kept(cluster)
    with contextlib.suppress(OSError, ValueError):
        if time.time() - kept.stat().st_mtime < _KEPT_SECONDS:
            return {**nothing, **json.loads(kept.read_text(encoding="utf-8"))}
    if _runs_programs(cluster.head):
        return nothing
    # Before it is asked: a head that does not answer, so that this program may be ended, costs one key, not each.
    _keep(kept, nothing)
    try:
        found = _ask(cluster, _options(args))
    except ClusteradmError:
        return nothing
    _keep(kept, found)
    return found


def _runs_programs(head: Host) -> bool:
    """Whether a connection runs a program of this machine that the inventory names, which may be somebody else's."""
    if head.is_local:
        return "ansible_python_interpreter" in head.vars
    return "proxycommand" in head.ssh_common_args.lower()


def _keep(kept: Path, found: dict[str, list[str]]) -> None:
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(found), encoding="utf-8")
        temporary.replace(kept)


def _kept(cluster: Cluster) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(str(cluster.path.absolute()).encode()).hexdigest()[:16]
    return Path(home) / "clusteradm" / f"completion-{name}.json"


def _ask(cluster: Cluster, options: argparse.Namespace) -> dict[str, list[str]]:
    """Names and ids have the form that node/spec/wire demands, in which nothing means anything to a shell."""
    # Slow to import, and of use to few completions.
    from clusteradm.jobs import Jobs
    from clusteradm.models.repository import Repository

    models: set[str] = set()
    with context.connect(options, cluster) as connections:
        connections.open([cluster.head])
        for one in Repository(connections, cluster).list().versions:
            models |= {one.name, f"{one.name}:{one.version}", *(f"{one.name}@{label}" for label in one.labels)}
        jobs = [summary.job for summary in Jobs(connections, cluster).list()]
    return {"models": sorted(models), "jobs": jobs}
