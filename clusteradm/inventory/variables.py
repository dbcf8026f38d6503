"""Tables of all `cluster_` variables, and of Ansible's connection variables: types, defaults and meaning."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clusteradm.inventory import keep, slurm
from clusteradm.inventory.lists import is_clients, is_packages, is_wheels


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

# In seconds. playbooks/tasks/confirm.yml reconnects 6 s after the guard has started, an attempt of Ansible may take
# 5 s, and the rest is for a slow board to log in and to run `guard confirm`.
LEAST_GUARD = 15

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def is_host_name(text: str) -> bool:
    """Whether it is a valid host name (RFC 1123). A string of digits and dots is not."""
    return len(text) <= 253 and bool(_NAME.fullmatch(text)) and not re.fullmatch(r"[0-9.]+", text)


def _is_host(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        ipaddress.ip_address(value)
    except ValueError:
        # Names in the DNS may have underscores, although host names may not.
        return is_host_name(value.replace("_", "-"))
    return True


def _is_port(value: Any) -> bool:
    return not isinstance(value, bool) and str(value).isdecimal() and 0 < int(value) < 65536


def _is_address(value: Any) -> bool:
    try:
        ipaddress.IPv4Address(str(value))
    except ValueError:
        return False
    return not isinstance(value, (int, float))


def _is_subnet(value: Any) -> bool:
    try:
        network = ipaddress.IPv4Network(str(value))
    except ValueError:
        return False
    # The export and the MPI key go by it: 0.0.0.0/0 would be everybody.
    of_hosts = not (network.is_loopback or network.is_multicast or network.is_unspecified or network.is_reserved)
    return "/" in str(value) and 8 <= network.prefixlen <= 30 and of_hosts


# In a path that goes into shell commands and configuration files of the hosts.
_PATH = re.compile(r"(/[A-Za-z0-9._+@-]+)+")
# Folders of the system, which the cluster user is not to own: themselves, and those that none may be in, either.
_TOP = frozenset(("home", "media", "mnt", "opt", "srv", "var"))
_SYSTEM = re.compile(
    r"/(bin|boot|dev|etc|lib(32|64|x32|exec)?|proc|root|run|sbin|sys|tmp|usr|opt/clusteradm|var/lib|var/run)(/.*)?"
)


def _is_keep(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        keep.parse(value)
    except ValueError:
        return False
    return True


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(_PATH.fullmatch(value)) and not {".", ".."} & set(value.split("/"))


def _is_shared(value: Any) -> bool:
    return _is_path(value) and not _SYSTEM.fullmatch(value) and value.removeprefix("/") not in _TOP


def _is_mount(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_=.:+@/-]+(,[A-Za-z0-9_=.:+@/-]+)*", value):
        return False
    words = [word.partition("=") for word in value.split(",")]
    versions = [number for name, _, number in words if name in ("vers", "nfsvers")]
    return all(version.split(".")[0] == "4" for version in versions) and "noresvport" not in value.split(",")


# Tools that can configure the cluster's interface, and the choice of the one that is there.
NETWORKS = ("auto", "networkmanager", "networkd", "ifupdown")

# Where ranks read models.
MODEL_PLACES = SHARED_MODELS, LOCAL_MODELS = ("shared", "local")
# Where Open MPI comes from.
MPIS = ("distribution", "wheel")

# Kind of value to its name in errors, and whether a value is of it.
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a string", lambda value: isinstance(value, str) and value != ""),
    "secret": ("a string", lambda value: isinstance(value, str) and value != ""),
    "label": (
        "a line of up to 40 characters",
        lambda value: isinstance(value, str) and 0 < len(value) <= 40 and value.isprintable(),
    ),
    "text": ("a string", lambda value: isinstance(value, str)),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0),
    "id": (
        "a whole number from 1 on",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31,
    ),
    "guard": (
        f"a whole number from {LEAST_GUARD} on (a new connection needs as long)",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= LEAST_GUARD,
    ),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "keep": (keep.FORM, _is_keep),
    "launcher": (" or ".join(slurm.LAUNCHERS), lambda value: value in slurm.LAUNCHERS),
    "slurm": ("a name that Slurm has (letters, digits, _ . -)", slurm.is_name),
    "slurm_options": (slurm.OPTIONS, slurm.is_options),
    "path": ("an absolute path below / (letters, digits, ._+@-)", _is_path),
    "shared": ("an absolute path below / (letters, digits, ._+@-) that is no folder of the system", _is_shared),
    "mount": ("mount options of NFS version 4 from a privileged port, joined by commas", _is_mount),
    "source": (
        "a deb line: deb URL SUITE COMPONENT",
        lambda value: (
            isinstance(value, str)
            and bool(re.fullmatch(r"deb +(\[[\w =,:/.+-]*\] +)?[a-z+]+:[\w/.:@~%+-]+( +[\w/.+-]+)+", value, re.ASCII))
        ),
    ),
    "url": (
        "a URL",
        lambda value: (
            isinstance(value, str) and bool(re.fullmatch(r"(https?|ftp|file)://[\w/.:@~%+?&=,-]+", value, re.ASCII))
        ),
    ),
    "place": (
        "a URL or an absolute path",
        lambda value: (
            isinstance(value, str) and bool(re.fullmatch(r"((https?|file):/)?/[\w/.:@~%+-]+", value, re.ASCII))
        ),
    ),
    "packages": (
        "a list of https addresses or paths of .deb files, each with #sha256=HEX at its end where it is known",
        is_packages,
    ),
    "wheels": (
        "a list of absolute paths of wheels on this machine, each with #sha256=HEX at its end (sha256sum prints it)",
        is_wheels,
    ),
    "certificate": (
        "cluster, or an absolute path of a PEM file",
        lambda value: value == "cluster" or _is_path(value),
    ),
    "clients": (
        "a list of clients, each with a name and the sha256 of a token (see clusteradm serve token), both its own, and"
        " with models and a rate a second where it may less than all",
        is_clients,
    ),
    "fingerprint": (
        "40 hexadecimal digits in capitals, without spaces",
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"[0-9A-F]{40}", value)),
    ),
    "user": (
        "a user name that is not root",
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"(?!root$)[a-z_][a-z0-9_-]{0,31}", value)),
    ),
    "interface": (
        "the name of a network interface, such as eth0",
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}", value)),
    ),
    "network": (f"one of {', '.join(NETWORKS)}", lambda value: isinstance(value, str) and value in NETWORKS),
    "models": (" or ".join(MODEL_PLACES), lambda value: isinstance(value, str) and value in MODEL_PLACES),
    "mpi": (f"one of {', '.join(MPIS)}", lambda value: isinstance(value, str) and value in MPIS),
    "address": ("an IPv4 address", _is_address),
    "subnet": ("a network such as 10.0.0.0/24", _is_subnet),
    "host": ("an address or a host name", _is_host),
    "port": ("a port, 1 to 65535", _is_port),
    "connection": ("ssh or local", lambda value: value in ("ssh", "smart", "paramiko", "paramiko_ssh", "local")),
}


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
