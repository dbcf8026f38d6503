"""Values of the variables about Slurm: who launches jobs, names that Slurm has, parameters of slurm.conf."""

from __future__ import annotations

import re
from typing import Any

from clusteradm.node.spec.wire.job_names import SLURM_NAME

# Who says when a job runs: clusteradm's own queue, or Slurm.
LAUNCHERS = DIRECT, SLURM = ("direct", "slurm")

OPTIONS = "a mapping of parameters of slurm.conf (but those of hosts, keys and programs) to values without spaces"
# Those that the template writes itself, and those that have root or Slurm's user run a program of somebody's.
_NOT_OPTIONS = re.compile(
    r"(Cluster|Slurmctld(Host|Addr|Primary|Pid|Log)|Slurmd(Spool|Pid|Log|User)|SlurmUser|StateSave|Auth|Cred|Include"
    r"|Communication|GresTypes|Node|Partition|DownNodes|Front|Switches|AccountingStorage(Type|Host)|Control|Backup).*"
    r"|.*(Prolog|Epilog|Program|Prog|PluginDir|PlugStackConfig|Script)(Slurmctld)?",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"[A-Za-z]{1,60}")
_VALUE = re.compile(r"[!-\"$-~]{1,500}")  # a # begins a comment


def is_name(value: Any) -> bool:
    """Whether it can be the name of a partition or an account."""
    return isinstance(value, str) and bool(re.fullmatch(SLURM_NAME, value))


def is_options(value: Any) -> bool:
    """Whether they are parameters that an inventory may set."""
    return (
        isinstance(value, dict)
        and len(value) <= 100
        and all(isinstance(name, str) and _is_option(name, each) for name, each in value.items())
    )


def _is_option(name: str, value: Any) -> bool:
    plain = isinstance(value, (str, int)) and not isinstance(value, bool) and bool(_VALUE.fullmatch(str(value)))
    return bool(_PARAMETER.fullmatch(name)) and not _NOT_OPTIONS.fullmatch(name) and plain
