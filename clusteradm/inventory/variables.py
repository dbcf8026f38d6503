"""Tables of all `cluster_` variables, and of Ansible's connection variables: types, defaults and meaning."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from clusteradm.inventory.kinds import KINDS


@dataclass(frozen=True)
class Variable:
    """One variable. `kind`: a key of KINDS; `scope`: "cluster" if all hosts must have the same value, else "host"."""

    name: str
    kind: str
    meaning: str
    default: Any = None
    optional: bool = True
    scope: str = "cluster"


_TABLE = (
    Variable("cluster_name", "str", "the cluster's name", "cluster"),
    Variable("cluster_subnet", "subnet", "the private network, for example 10.0.0.0/24", optional=False),
    Variable("cluster_ip", "address", "the host's address in the private network", optional=False, scope="host"),
    Variable(
        "cluster_interface", "interface", "the network interface of the private network", optional=False, scope="host"
    ),
    Variable(
        "cluster_network",
        "network",
        "the tool that configures cluster_interface; auto: the one that is there, as bootstrap finds and says",
        "auto",
        scope="host",
    ),
    Variable("cluster_head_computes", "bool", "whether the head's own TPUs take part in jobs", True),
    Variable("cluster_user", "user", "the user that owns models and jobs and runs the ranks", "cluster"),
    Variable("cluster_uid", "id", "its uid, the same on every host", 6600),
    Variable("cluster_gid", "id", "its gid, the same on every host", 6600),
    Variable(
        "cluster_shared", "shared", "the directory that the head exports, the same path everywhere", "/srv/cluster"
    ),
    Variable(
        "cluster_models",
        "models",
        "where ranks read models: shared, from the head; local, from a verified copy on each host's disk",
        "shared",
    ),
    Variable(
        "cluster_jobs_keep",
        "keep",
        "how long, and how much of, ended jobs are kept: 30d, 20G or both; older ones go when a job is made",
        "",
    ),
    Variable(
        "cluster_launcher",
        "launcher",
        "who says when a job runs and on what: direct, clusteradm's own queue on the head; slurm, Slurm",
        "direct",
    ),
    Variable("cluster_slurm_partition", "slurm", "the partition of jobs on Slurm, if not Slurm's default"),
    Variable("cluster_slurm_account", "slurm", "the account of jobs on Slurm, if not the user's default"),
    Variable(
        "cluster_slurm_accounting",
        "bool",
        "whether the head keeps Slurm's accounts (slurmdbd with MariaDB, 140 MB of memory)",
        True,
    ),
    Variable(
        "cluster_slurm_options",
        "slurm_options",
        "further parameters of slurm.conf, as PriorityType: priority/multifactor",
    ),
    Variable("cluster_nfs_options", "mount", "mount options of the export", "rw,hard,vers=4.0,bg,_netdev,nofail"),
    Variable(
        "cluster_python",
        "path",
        "the Python that runs the inference ranks",
        "/opt/clusteradm/venv/bin/python3",
        scope="host",
    ),
    Variable(
        "cluster_tpus", "int", "how many Edge TPUs the host has; health misses one that is not there", scope="host"
    ),
    Variable("cluster_rack", "label", "the rack that the host is in; health and top group hosts by it", scope="host"),
    Variable("cluster_slot", "int", "its place in the rack, counted from the top", scope="host"),
    Variable("cluster_tpu_source", "source", "the deb line of the Edge TPU's package source, if not its maker's"),
    Variable("cluster_tpu_key", "url", "the URL of that source's signing key, if not the maker's"),
    Variable("cluster_tpu_key_fingerprint", "fingerprint", "the fingerprint of that key; no other key is accepted"),
    Variable(
        "cluster_tpu_shim",
        "bool",
        "experimental: whether Google's libedgetpu goes with newer runtimes, behind a shim, if a trial comes through",
        False,
        scope="host",
    ),
    Variable(
        "cluster_tpu_packages",
        "packages",
        "packages for hosts with Edge TPUs that no package source has, in place of those of the table; [] for none",
        scope="host",
    ),
    Variable("cluster_wheels", "place", "source of wheels (pip's --find-links) for hosts without a package index"),
    Variable(
        "cluster_mpi",
        "mpi",
        "the Open MPI of the hosts: distribution, each its own; wheel, one for all, for hosts of several releases",
        "distribution",
    ),
    Variable(
        "cluster_serve_tls",
        "certificate",
        "TLS of the endpoint: cluster, by an authority that the head makes; or a PEM file with certificate and key",
    ),
    Variable(
        "cluster_serve_clients",
        "clients",
        "who may use the endpoint: name, sha256 of a token, models (else all), rate a second; without it everybody",
    ),
    Variable(
        "cluster_serve_packages",
        "wheels",
        "wheels whose Python functions are served (entry points of the group clusteradm.servables), and what they need",
    ),
    Variable(
        "cluster_time_source",
        "host",
        "the NTP server, or pool of servers, that the head takes the time from where it can",
        "2.debian.pool.ntp.org",
    ),
    Variable(
        "cluster_offline",
        "bool",
        "whether the compute nodes have no way out, and get packages, wheels and keys through the head",
        False,
    ),
    Variable(
        "cluster_network_guard",
        "guard",
        "seconds after which an unconfirmed change of the network or of sshd is taken back",
        60,
    ),
)
VARIABLES: dict[str, Variable] = {variable.name: variable for variable in _TABLE}

# Ansible's connection variables that clusteradm uses.
_CONNECTION = (
    Variable("ansible_host", "host", "the address or name at which the admin machine reaches the host", scope="host"),
    Variable("ansible_port", "port", "its SSH port", 22, scope="host"),
    Variable("ansible_user", "str", "the login user", scope="host"),
    Variable("ansible_ssh_private_key_file", "str", "the private key to log in with", scope="host"),
    Variable("ansible_become_password", "secret", "sudo's password; or typed once, with -K", scope="host"),
    Variable("ansible_become_pass", "secret", "the same; overrides ansible_become_password", scope="host"),
    Variable("ansible_sudo_pass", "secret", "the same; overrides both", scope="host"),
    Variable("ansible_ssh_common_args", "text", "ProxyCommand or ProxyJump", scope="host"),
    Variable("ansible_python_interpreter", "str", "the host's Python", "python3", scope="host"),
    Variable(
        "ansible_connection",
        "connection",
        "local for the machine that clusteradm runs on; else SSH",
        "ssh",
        scope="host",
    ),
)
CONNECTION: dict[str, Variable] = {variable.name: variable for variable in _CONNECTION}

# Names of sudo's password in the inventory, as in Ansible: the last one that is set counts.
SUDO_PASSWORDS = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")


def complaint(variable: Variable, value: Any) -> str | None:
    """The error message about `value`; None if it is valid."""
    if value is None and variable.optional and variable.default is None and variable.name.startswith("cluster_"):
        return None
    if isinstance(value, str) and "{{" in value:
        return f"{variable.name} must not be a template: clusteradm reads it before anything is rendered"
    wanted, fits = KINDS[variable.kind]
    if fits(value):
        return None
    if variable.kind == "secret":
        return f"{variable.name} must be {wanted}, in quotes where it is made of digits"
    hint = ""
    if variable.kind == "subnet":
        try:
            hint = f"; did you mean {ipaddress.IPv4Network(str(value), strict=False)}?" if "/" in str(value) else ""
        except ValueError:
            hint = ""
    return f"{variable.name} must be {wanted}, not {value!r}{hint}"
