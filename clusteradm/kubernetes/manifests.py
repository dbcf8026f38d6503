"""Manifests: what a Kubernetes cluster on the boards of an inventory runs, the device plugin and the boards' server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clusteradm.health.finding import Finding
from clusteradm.health.tpu import ABSENT, CHECK, USABLE
from clusteradm.inventory import Cluster, Host
from clusteradm.node.spec.wire.serving import GRPC_PORT, HTTP_PORT, ZMQ_PORT

RESOURCE = "coral.ai/edgetpu"
DAEMONSET, DEPLOYMENT, NONE = "daemonset", "deployment", "none"
_PLUGIN, _SERVER = "clusteradm-device-plugin", "clusteradm-serve"
_TMP = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 (the container's)
_KUBELET = "/var/lib/kubelet/device-plugins"
_CONFIG, _CACHE, _RUNTIME = "/etc/clusteradm", "/var/lib/clusteradm-serve", "/run/clusteradm-serve"
# A server drains for 2 s, and lets what runs end for 25 s.
_END_SECONDS = 40
# A process of root's that may nothing but what its files' owner may.
_BOUNDED = {
    "runAsUser": 0,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}

Document = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is wanted. `image`: has clusteradm; `server`: DAEMONSET, DEPLOYMENT or NONE."""

    image: str
    namespace: str = "clusteradm"
    server: str = DAEMONSET
    resource: str = RESOURCE


def manifests(cluster: Cluster, plan: Plan) -> list[Document]:
    """The documents, in the order in which they are to be applied."""
    boards = {node_name(host): cluster.setting("cluster_tpus", host) or 1 for host in cluster.workers}
    shared = str(cluster.setting("cluster_shared"))
    found: list[Document] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": plan.namespace}},
        _workload("apps/v1", "DaemonSet", _PLUGIN, plan, _plugin(plan, str(cluster.setting("cluster_user")))),
    ]
    if plan.server == NONE:
        return found
    found.append(_config(plan, shared))
    counts = sorted(set(boards.values()))
    if plan.server == DEPLOYMENT:
        # Of one TPU each: the scheduler puts them where there is one.
        pod = _server(plan, shared, 1, sorted(boards))
        found.append(_workload("apps/v1", "Deployment", _SERVER, plan, pod, replicas=sum(boards.values())))
    else:
        # A pod has all TPUs of its board: a set for each number of them.
        for count in counts:
            name = _SERVER if len(counts) == 1 else f"{_SERVER}-{count}"
            pod = _server(plan, shared, count, sorted(name for name, tpus in boards.items() if tpus == count))
            found.append(_workload("apps/v1", "DaemonSet", name, plan, pod))
    found.append(_service(plan))
    return found


def node_name(host: Host) -> str:
    """The host's name as Kubernetes has it: an inventory takes only names that machines can have."""
    return host.name.lower()


def labels(hosts: Iterable[Host], findings: Iterable[Finding], resource: str = RESOURCE) -> dict[str, dict[str, str]]:
    """Node -> its labels, by health: how many TPUs it has and how many work, and the worst state of one.

    `hosts`: those that answered. One whose TPUs could not be looked at has none: nothing is known of it.
    """
    states: dict[str, list[str]] = {}
    unknown = set()
    for finding in findings:
        if finding.check != CHECK:
            continue
        if " " in finding.subject:
            states.setdefault(finding.host, []).append(finding.state)
        elif finding.state != ABSENT:
            unknown.add(finding.host)
    found = {}
    for host in hosts:
        mine = states.get(host.name, [])
        if not mine and host.name in unknown:
            continue
        bad = sorted(state for state in mine if state not in USABLE)
        about = {
            f"{resource}.count": str(len(mine)),
            f"{resource}.healthy": str(len(mine) - len(bad)),
            f"{resource}.state": (bad[0] if bad else "OK") if mine else ABSENT,
        }
        found[node_name(host)] = about
    return found


def _workload(api: str, kind: str, name: str, plan: Plan, pod: Document, *, replicas: int | None = None) -> Document:
    chosen = {"app.kubernetes.io/name": name}
    spec: Document = {} if replicas is None else {"replicas": replicas}
    spec["selector"] = {"matchLabels": chosen}
    spec["template"] = {"metadata": {"labels": {**_common(), **chosen, **_part(name)}}, "spec": pod}
    return {"apiVersion": api, "kind": kind, "metadata": _metadata(name, plan), "spec": spec}


def _plugin(plan: Plan, user: str) -> Document:
    """Pod of the device plugin."""
    return {
        # Whose process has a TPU: one of a pod, or one that Kubernetes knows nothing of.
        "hostPID": True,
        "automountServiceAccountToken": False,
        "priorityClassName": "system-node-critical",
        "tolerations": [{"key": plan.resource, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [
            {
                "name": "device-plugin",
                "image": plan.image,
                "command": ["clusteradm", "device-plugin", "--resource", plan.resource, "--user", user],
                "securityContext": _BOUNDED,
                "resources": _resources("10m", "64Mi", "256Mi"),
                "volumeMounts": [
                    {"name": "kubelet", "mountPath": _KUBELET},
                    {"name": "dev", "mountPath": "/dev", "readOnly": True},
                    _TMP,
                ],
            }
        ],
        "volumes": [
            {"name": "kubelet", "hostPath": {"path": _KUBELET, "type": "Directory"}},
            {"name": "dev", "hostPath": {"path": "/dev", "type": "Directory"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }


def _server(plan: Plan, shared: str, tpus: int, nodes: list[str]) -> Document:
    """Pod of a board's server: the models are those that `clusteradm serve` has on the share."""
    hosts = {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": _END_SECONDS,
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [hosts]}]}
            }
        },
        "tolerations": [{"key": plan.resource, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [
            {
                "name": "serve",
                "image": plan.image,
                "command": ["python3", "-m", "clusteradm.node.serve", "--config", f"{_CONFIG}/serve.json"],
                "env": [
                    {"name": "CLUSTERADM_HOST", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "CLUSTERADM_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "RUNTIME_DIRECTORY", "value": _RUNTIME},
                    {"name": "OPENBLAS_NUM_THREADS", "value": "1"},
                ],
                "ports": [
                    {"name": "http", "containerPort": HTTP_PORT},
                    {"name": "grpc", "containerPort": GRPC_PORT},
                    {"name": "zmq", "containerPort": ZMQ_PORT},
                ],
                "securityContext": _BOUNDED,
                "resources": _resources("250m", "256Mi", "1Gi", {plan.resource: str(tpus)}),
                "readinessProbe": _probe("/v2/health/ready", 2),
                "livenessProbe": {**_probe("/v2/health/live", 10), "initialDelaySeconds": 30},
                "volumeMounts": [
                    {"name": "config", "mountPath": _CONFIG, "readOnly": True},
                    # A share that is mounted later has to be seen, too.
                    {"name": "shared", "mountPath": shared, "readOnly": True, "mountPropagation": "HostToContainer"},
                    {"name": "cache", "mountPath": _CACHE},
                    {"name": "runtime", "mountPath": _RUNTIME},
                    _TMP,
                ],
            }
        ],
        "volumes": [
            {"name": "config", "configMap": {"name": _SERVER}},
            {"name": "shared", "hostPath": {"path": shared, "type": "Directory"}},
            {"name": "cache", "emptyDir": {}},
            {"name": "runtime", "emptyDir": {"medium": "Memory"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }


def _resources(cpu: str, memory: str, most: str, more: Mapping[str, str] | None = None) -> Document:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": most, **(more or {})}}


def _probe(path: str, period: int) -> Document:
    return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": period, "timeoutSeconds": 5}


def _config(plan: Plan, shared: str) -> Document:
    """serve.json; host, address and TPUs are those of the pod."""
    config = {"host": "pod", "address": "127.0.0.1", "shared": shared, "cache": _CACHE}
    text = json.dumps(config, indent=2) + "\n"
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(_SERVER, plan), "data": {"serve.json": text}}


def _service(plan: Plan) -> Document:
    ports = [
        {"name": "http", "port": HTTP_PORT, "targetPort": "http"},
        {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(_SERVER, plan),
        "spec": {"selector": _part(_SERVER), "ports": ports},
    }


def _metadata(name: str, plan: Plan) -> Document:
    return {"name": name, "namespace": plan.namespace, "labels": {**_common(), "app.kubernetes.io/name": name}}


def _common() -> dict[str, str]:
    return {"app.kubernetes.io/part-of": "clusteradm"}


def _part(name: str) -> dict[str, str]:
    """The label of what the endpoint's service sends requests to."""
    return {"app.kubernetes.io/component": _SERVER if name.startswith(_SERVER) else name}
