"""Write what a Kubernetes cluster on the boards needs for its Edge TPUs: the device plugin as a DaemonSet, the boards'
server, and the nodes' labels by health. Nothing is changed on the cluster.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable

import yaml

from clusteradm import __version__, health
from clusteradm.cli import context, show
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster
from clusteradm.kubernetes import manifests
from clusteradm.kubernetes.manifests import DAEMONSET, DEPLOYMENT, NONE, RESOURCE, Plan

EXAMPLES = """\
examples:
  clusteradm k8s --image registry.lan/clusteradm:1 | kubectl apply -f -
  clusteradm k8s --image registry.lan/clusteradm:1 --server deployment
  clusteradm k8s --image registry.lan/clusteradm:1 --server none
  clusteradm k8s --labels         commands that label the nodes by health
  clusteradm k8s --labels | sh

It was not run on a Kubernetes cluster: the manifests are checked against its
API's description, and the plugin against a kubelet of the tests' own.

exit status:
  0    success
  2    wrong usage or a bad inventory
  3    some hosts did not answer (--labels)
"""
# A reference of an image as containerd takes it, without its rarer forms.
_IMAGE = re.compile(r"[a-z0-9]+([._/:-]+[a-zA-Z0-9]+)*(@sha256:[0-9a-f]{64})?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_RESOURCE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,40}[A-Za-z0-9])?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm k8s`."""
    parser.add_argument(
        "--image",
        type=_matching(_IMAGE, "the name of an image"),
        default=f"clusteradm:{__version__}",
        metavar="IMAGE",
        help="the image that has clusteradm (default: %(default)s)",
    )
    parser.add_argument(
        "--server",
        choices=(DAEMONSET, DEPLOYMENT, NONE),
        default=DAEMONSET,
        help="a server for each board with all its TPUs, for each TPU, or none (default: %(default)s)",
    )
    parser.add_argument(
        "--namespace",
        type=_matching(_NAMESPACE, "the name of a namespace"),
        default="clusteradm",
        metavar="NAME",
        help="the namespace of all of it (default: %(default)s)",
    )
    add_resource_argument(parser)
    parser.add_argument(
        "--labels", action="store_true", help="ask every host for its health, and print commands that label the nodes"
    )
    context.add_connection_arguments(parser, connect=context.QUICK_SECONDS)


def add_resource_argument(parser: argparse.ArgumentParser) -> None:
    """`--resource`: the name of an extended resource, DOMAIN/NAME."""
    parser.add_argument(
        "--resource",
        type=_matching(_RESOURCE, f"the name of a resource, such as {RESOURCE}"),
        default=RESOURCE,
        metavar="NAME",
        help="the name that pods ask for (default: %(default)s)",
    )


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return text

    return check


def run(args: argparse.Namespace) -> int:
    """Print the manifests, or the labels."""
    cluster = context.open_cluster(args)
    if args.labels:
        return _labels(args, cluster)
    if args.limit:
        raise UsageError("--limit goes with --labels: the manifests are of the whole cluster")
    plan = Plan(args.image, args.namespace, args.server, args.resource)
    documents = manifests.manifests(cluster, plan)
    if args.json:
        show.json_document("k8s", {"manifests": documents})
        return 0
    show.data(yaml.safe_dump_all(documents, sort_keys=False, width=200))
    for host in cluster.workers:
        if plan.server != NONE and cluster.setting("cluster_tpus", host) is None:
            show.message(show.line(f"{host.name}: cluster_tpus is not set in the inventory, taken as 1"))
    return 0


def _labels(args: argparse.Namespace, cluster: Cluster) -> int:
    hosts = context.select(args, cluster)
    with context.connect(args, cluster) as connections:
        survey = health.collect(connections, hosts, sections=health.LIGHT)
    answered = [host for host in hosts if host.name in survey.documents]
    found = manifests.labels(answered, health.judge(cluster, survey), args.resource)
    if args.json:
        show.json_document("k8s", {"nodes": found})
    else:
        for node, labels in found.items():
            words = shlex.join(f"{key}={value}" for key, value in labels.items())
            show.data(f"kubectl label --overwrite node {node} {words}\n")
    for host in answered:
        if manifests.node_name(host) not in found:
            show.message(show.line(f"{host.name}: no labels: its Edge TPUs could not be looked at (clusteradm health)"))
    for name, (_, text, _) in survey.errors.items():
        show.message(show.line(f"{name}: no labels: {text}"))
    return 3 if len(found) < len(hosts) else 0
