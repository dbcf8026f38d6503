"""Survey in a file, with the part of the inventory that it is judged by: `health --save` and `health --from`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusteradm import __version__, atomic
from clusteradm.errors import InputErrors, Problem, UsageError
from clusteradm.health.reading import as_number
from clusteradm.health.survey import SECTIONS, Survey
from clusteradm.inventory import Cluster, Group, Host
from clusteradm.inventory.variables import VARIABLES, complaint
from clusteradm.node.spec.wire.decode import anything, loads

# Version of the document; raise it when an older program would misjudge a new document. The first ones had none.
SCHEMA_VERSION = 1
_MOST_BYTES = 1 << 27
_MOST_VALUES = 5_000_000
_LATEST = 1 << 37  # seconds since 1970: no calendar of Python ends before
# Package sources: judging does not need them, and a URL may hold a password.
_SOURCES = {"cluster_tpu_source", "cluster_tpu_key", "cluster_wheels"}


def document(cluster: Cluster, survey: Survey) -> dict[str, Any]:
    """Document to save: the survey, and of the inventory what judging needs (no login address, user or password)."""
    hosts = {
        host.name: {
            "groups": list(host.groups),
            "vars": {name: value for name, value in host.vars.items() if name in VARIABLES.keys() - _SOURCES},
        }
        for host in cluster.hosts.values()
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "clusteradm": __version__,
        "inventory": {"hosts": hosts},
        **{field.name: getattr(survey, field.name) for field in dataclasses.fields(survey)},
    }


def write(path: Path, body: Mapping[str, Any]) -> None:
    """Write a document for `read`. Raises UsageError if the file cannot be written."""
    try:
        atomic.write(path, json.dumps(body, indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def read(path: Path) -> tuple[Survey, Cluster | None]:
    """Survey and inventory of a file; None for the inventory if the document has none (the first versions).

    Raises InputErrors if the file cannot be read, is no such document, or is of a newer version.
    """
    try:
        body = _loaded(path)
        version = body.get("schema_version", 0)
        if version > SCHEMA_VERSION:
            what = f"a survey of a newer clusteradm (schema_version {version}; this one reads up to {SCHEMA_VERSION})"
            raise InputErrors([Problem(str(path), 0, what + ": update clusteradm, or use the one that wrote it")])
        return _survey(body), _cluster(path, body["inventory"]) if version else None
    except OSError as error:
        raise InputErrors([Problem(str(path), 0, error.strerror or str(error))]) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise InputErrors([Problem(str(path), 0, "not a survey that `clusteradm health --save` wrote")]) from None


def _loaded(path: Path) -> Any:
    """The JSON document in a file, within the bounds of what a host may send, times the hosts of a large cluster."""
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InputErrors([Problem(str(path), 0, f"larger than {_MOST_BYTES >> 20} MiB, as no survey is")])
    return anything(loads(data, _MOST_VALUES))


def _survey(body: Mapping[str, Any]) -> Survey:
    for host in body["documents"].values():
        if not all(isinstance(host[section], dict) for section in SECTIONS):
            raise TypeError("a section of a document")
    errors = {name: (str(a), str(b), str(c)) for name, (a, b, c) in body["errors"].items()}
    return Survey(
        dict(body["documents"]),
        body["cluster"],
        errors,
        str(body["cluster_error"]),
        _seconds(body.get("taken", 0)),
        _seconds(body.get("seconds", 0)),
    )


def _seconds(value: Any) -> float:
    """A time that a calendar has; 0 for what is none."""
    seconds = as_number(value)
    return seconds if seconds is not None and 0 <= seconds < _LATEST else 0.0


def _cluster(path: Path, body: Mapping[str, Any]) -> Cluster:
    hosts = {name: Host(name, tuple(about["groups"]), dict(about["vars"]), {}) for name, about in body["hosts"].items()}
    if not any(host.is_head for host in hosts.values()):
        raise KeyError("head")
    for host in hosts.values():
        if missing := {name for name, variable in VARIABLES.items() if not variable.optional} - set(host.vars):
            raise KeyError(missing)
        if wrong := [name for name, value in host.vars.items() if complaint(VARIABLES[name], value)]:
            raise ValueError(wrong)
    names = dict.fromkeys(group for host in hosts.values() for group in host.groups)
    groups = {
        name: Group(name, tuple(host.name for host in hosts.values() if name in host.groups), (), {}) for name in names
    }
    return Cluster(path, groups, hosts)
