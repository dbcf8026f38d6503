"""Kinds of values of variables: what each is in words, and how a value is recognised."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from clusteradm.inventory import keep, slurm

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


# As pip writes it: ADDRESS#sha256=HEX.
_PACKAGE = re.compile(
    r"((https?://[A-Za-z0-9.:-]+|file://)/[\w/.:@~%+?&=,-]+|[A-Za-z0-9._+@~-]*(/[A-Za-z0-9._+@~-]+)*\.deb)"
    r"(#sha256=[0-9A-Fa-f]{64})?",
    re.ASCII,
)


def _is_packages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 32
        and all(isinstance(each, str) and bool(_PACKAGE.fullmatch(each)) for each in value)
    )


# A wheel's name begins with those of the package and of its version (PEP 427).
_WHEEL = re.compile(
    r"(/[A-Za-z0-9._+@-]+)*/[A-Za-z0-9._]+-[A-Za-z0-9._+!]+(-[A-Za-z0-9._]+){3,4}\.whl#sha256=[0-9a-f]{64}"
)


def _is_wheels(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 100
        and all(isinstance(each, str) and bool(_WHEEL.fullmatch(each)) for each in value)
        and not any({".", ".."} & set(each.split("/")) for each in value)
    )


# Fields of a client of the endpoint, and whether a value is one; `models` and `rate` may be left out. Its name and its
# models go into HAProxy's maps, which are split at spaces.
MOST_CLIENT_MODELS, MOST_CLIENT_RATE = 100, 1_000_000
_CLIENT: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", value)),
    "sha256": lambda value: isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{64}", value)),
    "models": lambda value: (
        isinstance(value, list)
        and 0 < len(value) <= MOST_CLIENT_MODELS
        and all(isinstance(each, str) and bool(re.fullmatch(r"[A-Za-z0-9_-]+|\*", each)) for each in value)
    ),
    "rate": lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_CLIENT_RATE,
}


def _is_clients(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > 1000 or not all(isinstance(each, dict) for each in value):
        return False
    fit = all({"name", "sha256"} <= set(each) <= set(_CLIENT) for each in value) and all(
        _CLIENT[field](entry) for each in value for field, entry in each.items()
    )
    return fit and all(len({each[field] for each in value}) == len(value) for field in ("name", "sha256"))


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
        _is_packages,
    ),
    "wheels": (
        "a list of absolute paths of wheels on this machine, each with #sha256=HEX at its end (sha256sum prints it)",
        _is_wheels,
    ),
    "certificate": (
        "cluster, or an absolute path of a PEM file",
        lambda value: value == "cluster" or _is_path(value),
    ),
    "clients": (
        "a list of clients, each with a name and the sha256 of a token (see clusteradm serve token), both its own, and"
        " with models and a rate a second where it may less than all",
        _is_clients,
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
