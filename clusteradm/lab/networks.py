"""Network tools of the boards: what an image has in NetworkManager's place, and the files of a board for its tool."""

from __future__ import annotations

import shlex
import shutil
import uuid
from pathlib import Path

from clusteradm.lab import repository
from clusteradm.lab.cache import Building
from clusteradm.lab.layer import Layer
from clusteradm.lab.machine import run
from clusteradm.lab.topology import DECOY_ADDRESS, Board

# Kind -> the packages that it has in NetworkManager's place.
PACKAGES: dict[str, tuple[str, ...]] = {"networkd": (), "netplan": ("netplan.io",), "ifupdown": ("ifupdown",)}

_PROFILE = """\
[connection]
id={name}
uuid={uuid}
type=ethernet
interface-name={interface}

[ipv4]
method=manual
address1={address}

[ipv6]
method=disabled
"""
_NETWORK = """\
[Match]
Name={interface}

[Network]
Address={address}
"""
_INTERFACES = """\
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback
"""
_STANZA = """
auto {interface}
iface {interface} inet static
    address {address}
"""
_NETPLAN = """\
network:
  version: 2
  renderer: networkd
  ethernets:
"""
_DEFINITION = """\
    {interface}:
      addresses: [{address}]
"""

# In a mount namespace of its own; the layer is what the packages' own scripts leave.
_BUILD = """\
mount -t overlay -o lowerdir={base},upperdir={upper},workdir={work} network {root}
cp {debs}/*.deb {root}/tmp/ 2>/dev/null || :
chroot {root} sh -ec '
    dpkg --purge network-manager
    for file in /tmp/*.deb; do
        [ ! -e "$file" ] || {{ dpkg --install /tmp/*.deb; break; }}
    done
    {enable}
    rm -f /tmp/*.deb'
umount {root}
"""


def build(building: Building, base: Path, kind: str) -> None:
    """Fill the layer of one kind over the base system `base`."""
    work = building.path.with_name(building.path.name + "-work")
    shutil.rmtree(work, ignore_errors=True)
    places = {name: work / name for name in ("debs", "work", "root")}
    try:
        for place in places.values():
            place.mkdir(parents=True)
        if PACKAGES[kind]:
            repository.download(Building(places["debs"], building.lock), base, PACKAGES[kind])
        quoted = {
            name: shlex.quote(str(place)) for name, place in {**places, "upper": building.path, "base": base}.items()
        }
        enable = "true" if kind == "ifupdown" else "systemctl enable systemd-networkd"
        script = _BUILD.format(**quoted, enable=enable)
        own = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
        run(own, env={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}, keep_open=[building.lock])
    finally:
        shutil.rmtree(work, ignore_errors=True)


def configure(layer: Layer, board: Board) -> None:
    """Write the files by which the board has its management address, and the decoy's; none for the cluster's."""
    addresses = {
        "management": (board.management_interface, f"{board.address}/24"),
        "gadget0": ("usb0", DECOY_ADDRESS),
    }
    texts = {"ifupdown": (_INTERFACES, _STANZA), "netplan": (_NETPLAN, _DEFINITION)}.get(board.network)
    if texts:
        text = texts[0] + "".join(
            texts[1].format(interface=interface, address=address) for interface, address in addresses.values()
        )
        if board.network == "netplan":
            layer.write("etc/netplan/50-cloud-init.yaml", text, 0o600)
        else:
            layer.write("etc/network/interfaces", text)
        return
    for name, (interface, address) in addresses.items():
        if board.network == "networkd":
            layer.write(f"etc/systemd/network/10-{name}.network", _NETWORK.format(interface=interface, address=address))
        else:
            text = _PROFILE.format(name=name, uuid=uuid.uuid4(), interface=interface, address=address)
            layer.write(f"etc/NetworkManager/system-connections/{name}.nmconnection", text, 0o600)
