"""Networks of a lab, in the supervisor's namespace: two bridges without a route out, and the boards' cables."""

from __future__ import annotations

from clusteradm.lab.machine import run
from clusteradm.lab.topology import SERVICES, Board

NETWORKS = ("management", "cluster")


def make() -> None:
    """Create the two bridges; the lab's services have an address on the management network only."""
    lines = ["link set lo up"]
    for name in NETWORKS:
        lines += [f"link add {name} type bridge forward_delay 0 stp_state 0", f"link set {name} up"]
    _ip([*lines, f"address add {SERVICES}/24 dev management"])


def plug(board: Board) -> str:
    """Create a network namespace for one boot of the board, with its cables; the namespace's file.

    Outer ends: `m-NAME` (management), `c-NAME` (cluster), `u-NAME` (usb0; its other end goes nowhere, but is up).
    """
    unplug(board)
    run(["ip", "netns", "add", board.name])
    lines = []
    for letter, interface, bridge in (
        ("m", board.management_interface, "management"),
        ("c", board.cluster_interface, "cluster"),
        ("u", "usb0", ""),
    ):
        end = f"{letter}-{board.name}"
        lines.append(
            f"link add {end} type veth peer name {interface} address {board.mac(interface)} netns {board.name}"
        )
        lines.append(f"link set {end} {f'master {bridge} ' if bridge else ''}up")
    _ip(lines)
    return f"/run/netns/{board.name}"


def unplug(board: Board) -> None:
    """Remove the board's namespace and its cables, if there are any."""
    if board.name in run(["ip", "netns", "list"]).split():
        run(["ip", "netns", "delete", board.name])
        _ip([f"link delete {letter}-{board.name}" for letter in "mcu"], force=True)


def cable(board: Board, up: bool) -> None:
    """Pull the board's network cables, or plug them in again."""
    _ip([f"link set {letter}-{board.name} {'up' if up else 'down'}" for letter in "mc"])


def _ip(lines: list[str], force: bool = False) -> None:
    options = ["-force"] if force else []
    run(["ip", *options, "-batch", "-"], input="\n".join(lines) + "\n", check=not force)
