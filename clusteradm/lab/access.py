"""Access to a lab's boards: inventory and known host keys for clusteradm, ssh_config for people."""

from __future__ import annotations

from typing import Any

import yaml

from clusteradm.lab.image import TPU_SUITE, WHEELS
from clusteradm.lab.layer import HTTP, USER
from clusteradm.lab.plan import Places, Plan
from clusteradm.lab.topology import CLUSTER_SUBNET, Board

_HEADER = """\
# Written by `clusteradm lab up`: the boards of the virtual cluster "{name}". Their Edge TPUs are simulated.
"""


def proxy_command(places: Places, host: str = "%h", port: str = "%p") -> str:
    """Command that connects its standard input and output to a board, through the lab's network namespace."""
    return f"nsenter --net={places.netns} nc {host} {port}"


def inventory(places: Places, plan: Plan) -> str:
    """Text of inventory.yml."""
    head, *rest = plan.boards
    # Labs have the same addresses: a connection that ssh or Ansible keeps open must not be used for another lab.
    options = f'-o ProxyCommand="{proxy_command(places)}" -o ControlPath={places.root}/ssh-%h'
    shared: dict[str, Any] = {
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(places.key),
        "ansible_ssh_common_args": options,
        "cluster_name": f"lab-{places.name}" if places.name != "lab" else "lab",
        "cluster_subnet": CLUSTER_SUBNET,
        "cluster_tpus": plan.tpus + plan.usb,
        "cluster_tpu_source": f"deb {HTTP}/tpu {TPU_SUITE} main",
        "cluster_tpu_key": f"{HTTP}/tpu/key.asc",
        "cluster_wheels": f"{HTTP}/{WHEELS}/",
    }
    if len({board.suite for board in plan.boards}) > 1:
        shared["cluster_mpi"] = "wheel"
    if plan.python:
        shared["ansible_python_interpreter"] = plan.python
    groups = {
        "head": {"hosts": {head.name: _host(head)}},
        "compute": {"hosts": {board.name: _host(board) for board in rest}},
    }
    body = yaml.safe_dump({"all": {"vars": shared, "children": groups}}, sort_keys=False, width=200)
    return _HEADER.format(name=places.name) + body


def _host(board: Board) -> dict[str, str]:
    return {
        "ansible_host": board.address,
        "cluster_ip": board.cluster_address,
        "cluster_interface": board.cluster_interface,
    }


def ssh_config(places: Places, plan: Plan) -> str:
    """Text of an ssh_config for `ssh -F FILE BOARD`, scp and rsync."""
    text = "".join(f"Host {board.name}\n  HostName {board.address}\n" for board in plan.boards)
    return text + (
        "Host *\n"
        f"  User {USER}\n"
        f"  IdentityFile {places.key}\n"
        "  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {places.known_hosts}\n"
        f"  ProxyCommand {proxy_command(places)}\n"
    )


def known_hosts(boards_keys: dict[Board, list[str]]) -> str:
    """Text of known_hosts: one line per board and key, for its address and its name."""
    return "".join(f"{board.address},{board.name} {key}\n" for board, keys in boards_keys.items() for key in keys)
