"""Run the kubelet's device plugin: the Edge TPUs of this machine become a resource that pods ask for. It runs on each
node of a Kubernetes cluster, as root, in the DaemonSet that `clusteradm k8s` writes.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from clusteradm import extras
from clusteradm.cli import show
from clusteradm.cli.health import seconds
from clusteradm.cli.k8s import add_resource_argument

EXAMPLES = """\
examples:
  clusteradm device-plugin
  clusteradm device-plugin --resource example.org/tpu --interval 10

A TPU is given out by its PCI address. It is unhealthy in the states of `clusteradm health` that keep jobs off it, and
while a process that is in no pod has it.

exit status:
  0    it was ended by SIGTERM
  1    the kubelet refuses it
  2    wrong usage
"""
_FOLDER = "/var/lib/kubelet/device-plugins"
_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm device-plugin`."""
    add_resource_argument(parser)
    parser.add_argument(
        "--interval",
        type=seconds,
        default=_SECONDS,
        metavar="S",
        help="look at the TPUs every S seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--folder", default=_FOLDER, metavar="DIR", help="the folder with the kubelet's socket (default: %(default)s)"
    )
    parser.add_argument(
        "--user", default="cluster", metavar="NAME", help="the cluster user, whose jobs use TPUs (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    extras.require("kubernetes", ("grpc", "google"), "the device plugin")
    from clusteradm.kubernetes.devices import Watch
    from clusteradm.kubernetes.plugin import Plugin

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    watch = Watch(args.user)
    try:
        Plugin(watch.look, Path(args.folder), args.resource, show.message, args.interval).run(stop)
    finally:
        watch.close()
    return 0
