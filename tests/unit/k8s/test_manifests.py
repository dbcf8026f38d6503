"""The manifests, held against Kubernetes' own description of its API; the labels of nodes, by health."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from clusteradm.cli import main
from clusteradm.health.finding import error, ok, warning
from clusteradm.inventory import Cluster, load
from clusteradm.kubernetes.manifests import DAEMONSET, DEPLOYMENT, NONE, Plan, labels, manifests
from clusteradm.node.serve.__main__ import of_pod
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.serving import ServeConfig

INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0, cluster_shared: /srv/cluster}
  children:
    head: {hosts: {Head-1: {cluster_ip: 10.0.0.1, cluster_tpus: 1}}}
    compute: {hosts: {w1: {cluster_ip: 10.0.0.2, cluster_tpus: 8}, w2: {cluster_ip: 10.0.0.3}}}
"""
MODELS = {
    "Namespace": client.V1Namespace,
    "DaemonSet": client.V1DaemonSet,
    "Deployment": client.V1Deployment,
    "ConfigMap": client.V1ConfigMap,
    "Service": client.V1Service,
}


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.yml"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def cluster(inventory: Path) -> Cluster:
    return load(inventory)


def conforms(document: dict[str, Any]) -> None:
    """Every field is one of the API's, of its type: what the client reads and writes again is the same."""
    api = client.ApiClient()
    model = MODELS[document["kind"]]
    read = api._ApiClient__deserialize(document, model)
    assert api.sanitize_for_serialization(read) == document


@pytest.mark.parametrize("server", [DAEMONSET, DEPLOYMENT, NONE])
def test_every_field_is_one_of_the_api(cluster: Cluster, server: str) -> None:
    documents = manifests(cluster, Plan("clusteradm:1", server=server))
    for document in documents:
        conforms(document)
        assert document["metadata"].get("namespace", "clusteradm") == "clusteradm"
    # All in YAML as they are, for kubectl.
    assert list(yaml.safe_load_all(yaml.safe_dump_all(documents))) == documents


def test_a_field_that_the_api_does_not_have_is_found(cluster: Cluster) -> None:
    document = manifests(cluster, Plan("clusteradm:1"))[1]
    document["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(AssertionError):
        conforms(document)


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == kind}


def tpus(spec: dict[str, Any]) -> str:
    found: str = spec["template"]["spec"]["containers"][0]["resources"]["limits"]["coral.ai/edgetpu"]
    return found


def nodes(spec: dict[str, Any]) -> list[str]:
    rule = spec["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    found: list[str] = rule["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
    return found


def test_a_set_for_each_number_of_tpus(cluster: Cluster) -> None:
    sets = of_kind(manifests(cluster, Plan("clusteradm:1")), "DaemonSet")
    assert {name: (tpus(spec), nodes(spec)) for name, spec in sets.items() if "serve" in name} == {
        "clusteradm-serve-1": ("1", ["head-1", "w2"]),
        "clusteradm-serve-8": ("8", ["w1"]),
    }


def test_a_pod_for_each_tpu(cluster: Cluster) -> None:
    spec = of_kind(manifests(cluster, Plan("clusteradm:1", server=DEPLOYMENT)), "Deployment")["clusteradm-serve"]
    assert (spec["replicas"], tpus(spec), nodes(spec)) == (10, "1", ["head-1", "w1", "w2"])


def test_the_service_finds_every_pod_of_the_server_and_no_other(cluster: Cluster) -> None:
    documents = manifests(cluster, Plan("clusteradm:1"))
    chosen = of_kind(documents, "Service")["clusteradm-serve"]["selector"]
    sets = of_kind(documents, "DaemonSet")
    labelled = {name: spec["template"]["metadata"]["labels"] for name, spec in sets.items()}
    found = {name for name, label in labelled.items() if chosen.items() <= label.items()}
    assert found == {"clusteradm-serve-1", "clusteradm-serve-8"}
    for name, spec in sets.items():
        assert spec["selector"]["matchLabels"].items() <= labelled[name].items()


def test_a_server_reads_the_configuration_of_its_pod(cluster: Cluster) -> None:
    config = next(each for each in manifests(cluster, Plan("clusteradm:1")) if each["kind"] == "ConfigMap")
    read = decode(ServeConfig, json.loads(config["data"]["serve.json"]))
    assert read.shared == "/srv/cluster"
    pod = {"CLUSTERADM_HOST": "w1", "CLUSTERADM_ADDRESS": "10.42.0.7", "CLUSTERADM_TPUS": "0000:01:00.0,0000:02:00.0"}
    found = of_pod(read, pod)
    assert (found.host, found.address, found.tpus) == ("w1", "10.42.0.7", ("0000:01:00.0", "0000:02:00.0"))
    assert of_pod(read, {}) == read


def test_labels_are_healths(cluster: Cluster) -> None:
    findings = [
        ok("w1 0000:01:00.0", "tpu", ""),
        error("w1 0000:02:00.0", "tpu", "WEDGED", "it hangs", "reset it"),
        warning("w1 0000:03:00.0", "tpu", "LINK", "it is slow", "another slot"),
        error("w1", "tpu", "ABSENT", "one is missing", "reseat it"),
        ok("w2 0000:01:00.0", "tpu", ""),
        error("w2", "disk", "FULL", "no room", "make room"),
    ]
    # The head has not answered.
    assert labels(cluster.workers[1:], findings) == {
        "w1": {
            "coral.ai/edgetpu.count": "3",
            "coral.ai/edgetpu.healthy": "2",
            "coral.ai/edgetpu.state": "WEDGED",
        },
        "w2": {"coral.ai/edgetpu.count": "1", "coral.ai/edgetpu.healthy": "1", "coral.ai/edgetpu.state": "OK"},
    }


def test_a_node_that_has_lost_all_of_its_tpus_is_labelled_so(cluster: Cluster) -> None:
    """Else it would keep the labels of the last run."""
    findings = [
        error("w1", "tpu", "ABSENT", "all are missing", "reseat them"),
        error("w2", "tpu", "UNKNOWN", "the probe failed", "see why"),
    ]
    found = labels(cluster.workers, findings)
    resource = "coral.ai/edgetpu"
    assert found["w1"] == {f"{resource}.count": "0", f"{resource}.healthy": "0", f"{resource}.state": "ABSENT"}
    assert "w2" not in found


def test_the_command_writes_what_kubectl_takes(inventory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["k8s", "-i", str(inventory), "--image", "registry.lan:5000/clusteradm:1"]) == 0
    out, said = capsys.readouterr()
    assert [each["kind"] for each in yaml.safe_load_all(out)][:2] == ["Namespace", "DaemonSet"]
    assert "w2: cluster_tpus is not set" in said


@pytest.mark.parametrize(
    "options",
    [["--image", "-bad"], ["--image", "a b"], ["--namespace", "A"], ["--resource", "tpu"], ["--resource", "a.b/c d"]],
)
def test_a_name_that_kubernetes_cannot_have_is_refused(inventory: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["k8s", "-i", str(inventory), *options])
    assert ended.value.code == 2
